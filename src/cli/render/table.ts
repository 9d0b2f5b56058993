/** Aligned tables and lists of facts, as plain text. */
import { visible } from '../../domain/plain-words.ts';

export interface Column {
  readonly title: string;
  /** Numbers stand to the right. */
  readonly align?: 'left' | 'right';
}

/** Characters that would break a line or a terminal are shown as escapes. */
export const printable = (text: string): string =>
  visible(text.replaceAll(/[\n\r\t]/g, found => ({ '\n': '\\n', '\r': '\\r' })[found] ?? '\\t'));

/** A table with a head line; `empty` stands for one without rows. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  empty: string,
): string {
  if (rows.length === 0) return empty;
  const lines = [columns.map(column => column.title.toUpperCase()), ...rows.map(row => row.map(printable))];
  const widths = columns.map((_, index) => Math.max(...lines.map(line => (line[index] ?? '').length)));
  return lines
    .map(line =>
      columns
        .map(({ align }, index) => {
          const cell = line[index] ?? '';
          const width = widths[index] ?? 0;
          return align === 'right' ? cell.padStart(width) : cell.padEnd(width);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Lines of `name  value`; facts without a value are left out. */
export function renderFacts(facts: readonly (readonly [name: string, value: string | null])[]): string {
  const told = facts.filter((fact): fact is readonly [string, string] => fact[1] !== null);
  const width = Math.max(0, ...told.map(([name]) => name.length));
  return told.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}`).join('\n');
}
