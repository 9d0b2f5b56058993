/** Long lines for a terminal: what an operator has to read is not cut off. */

const INDENT = '    ';

/**
 * Breaks a line at spaces so that each piece fits `columns`; the pieces after the first begin with `indent`. A word
 * that is longer than a line is broken inside.
 */
export function wrapped(line: string, columns: number, indent = INDENT): string[] {
  const width = Math.max(columns, 2 * indent.length, 1);
  if (line.length <= width) return [line];
  const at = breakOf(line, width);
  return [line.slice(0, at).trimEnd(), ...wrapped(`${indent}${line.slice(at).trimStart()}`, width, indent)];
}

/** The last space that leaves something besides the indentation, else the width. */
function breakOf(line: string, width: number): number {
  const at = line.lastIndexOf(' ', width);
  return line.slice(0, Math.max(0, at)).trim() === '' ? width : at;
}
