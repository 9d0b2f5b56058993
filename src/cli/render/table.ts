/** Aligned tables and lists of facts, as plain text. */
import { visible } from '../../domain/plain-words.ts';
import { wrapped } from './wrapped.ts';

export interface Column {
  readonly title: string;
  /** Numbers stand to the right. */
  readonly align?: 'left' | 'right';
}

/** Characters that would break a line or a terminal are shown as escapes. */
export const printable = (text: string): string =>
  visible(text.replaceAll(/[\n\r\t]/g, found => ({ '\n': '\\n', '\r': '\\r' })[found] ?? '\\t'));

/** Less room than this is none for sentences: they stand below their row then. */
const LEAST_PROSE_COLUMNS = 24;
const GAP = '  ';
const BELOW = '    ';

/**
 * A table with a head line; `empty` stands for one without rows.
 * @param fit the columns of a terminal that the last column, which holds sentences, is to be broken for; null: not at all
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  empty: string,
  fit: number | null = null,
): string {
  if (rows.length === 0) return empty;
  const lines = [columns.map(column => column.title.toUpperCase()), ...rows.map(row => row.map(printable))];
  const widths = columns.map((_, index) => Math.max(...lines.map(line => (line[index] ?? '').length)));
  const joined = (line: readonly string[]): string =>
    line
      .map((cell, index) =>
        columns[index]?.align === 'right'
          ? cell.padStart(widths[index] ?? 0)
          : cell.padEnd(widths[index] ?? 0),
      )
      .join(GAP)
      .trimEnd();
  const texts = lines.map(joined);
  if (fit === null || texts.every(text => text.length <= fit)) return texts.join('\n');
  const left = fit - widths.slice(0, -1).reduce((sum, width) => sum + width + GAP.length, 0);
  const besideRow = (line: readonly string[]): string[] =>
    wrapped(line.at(-1) ?? '', left, '').map((piece, index) =>
      joined([...line.slice(0, -1).map(cell => (index === 0 ? cell : '')), piece]),
    );
  const belowRow = (line: readonly string[], index: number): string[] => [
    ...wrapped(joined(line.slice(0, -1)), fit),
    ...(index === 0 || line.at(-1) === '' ? [] : wrapped(`${BELOW}${line.at(-1)}`, fit)),
  ];
  return lines.flatMap(left >= LEAST_PROSE_COLUMNS ? besideRow : belowRow).join('\n');
}

/**
 * Lines of `name  value`; facts without a value are left out.
 * @param fit the columns of a terminal that values are to be broken for; null: not at all
 */
export function renderFacts(
  facts: readonly (readonly [name: string, value: string | null])[],
  fit: number | null = null,
): string {
  const told = facts.filter((fact): fact is readonly [string, string] => fact[1] !== null);
  const width = Math.max(0, ...told.map(([name]) => name.length));
  const indent = ' '.repeat(width + GAP.length);
  return told
    .map(([name, value]) => `${name.padEnd(width)}${GAP}${printable(value)}`)
    .flatMap(line => (fit === null ? [line] : wrapped(line, fit, indent)))
    .join('\n');
}
