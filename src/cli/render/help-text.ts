/** Help texts for a terminal's width: what commander does not break by itself. */
import { wrapped } from './wrapped.ts';

const EXAMPLE = '  $ ';
const FURTHER = '      ';
/** Ends the line of a command that goes on. */
const GOES_ON = ' \\';

/** Paragraphs and examples that are wider than `columns` are broken; an example still runs when it is copied. */
export function helpText(text: string, columns: number): string {
  const fitted: string[] = [];
  let paragraph: string[] = [];
  const endParagraph = (): void => {
    const isWide = paragraph.some(line => line.length > columns);
    fitted.push(...(isWide ? wrapped(paragraph.join(' '), columns, '') : paragraph));
    paragraph = [];
  };
  for (const line of text.split('\n')) {
    if (/^\S/.test(line)) {
      paragraph.push(line);
      continue;
    }
    endParagraph();
    fitted.push(...(line.startsWith(EXAMPLE) ? brokenCommand(line, columns) : [line]));
  }
  endParagraph();
  return fitted.join('\n');
}

/** Breaks before an option, where there is one, else between words. */
function brokenCommand(line: string, columns: number): string[] {
  if (line.length <= columns) return [line];
  const at = [' --', ' ']
    .map(before => line.lastIndexOf(before, columns - GOES_ON.length))
    .find(found => line.slice(0, Math.max(0, found)).trim() !== '');
  if (at === undefined) return [line];
  return [`${line.slice(0, at)}${GOES_ON}`, ...brokenCommand(`${FURTHER}${line.slice(at + 1)}`, columns)];
}
