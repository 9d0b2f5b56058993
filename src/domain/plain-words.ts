/** Words from elsewhere: from the other site, an image, a system's error. They reach terminals, pages and rows. */

/** A reason or a warning is cut here; nobody reads more of one. */
export const MAX_WORDS_LENGTH = 1_000;

const CUT = ' … (cut)';
/** What is looked at of a long text, since white space and what is shown as an escape change its length. */
const LOOK_FACTOR = 4;
/** Controls, escapes, invisible and direction marks, halves of a character, line ends of Unicode's own. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Shows what would move a terminal's cursor, hide or turn text as an escape, such as `\u001b`. */
export const visible = (text: string): string => text.replaceAll(UNPRINTABLE, escapeOf);

function escapeOf(found: string): string {
  const code = found.codePointAt(0) ?? 0;
  const digits = code.toString(16).padStart(4, '0');
  return code > 0xffff ? `\\u{${digits}}` : `\\u${digits}`;
}

/**
 * One line without anything that is not to be seen. What is too long ends with a mark.
 * Given its own result it changes nothing.
 */
export function plainWords(text: string, maxLength = MAX_WORDS_LENGTH): string {
  const looked = text.slice(0, LOOK_FACTOR * maxLength);
  const words = visible(looked.replaceAll(/\s+/g, ' ').trim());
  if (words.length <= maxLength && looked.length === text.length) return words;
  // Half of a character at the end would be shown as an escape.
  return words.slice(0, maxLength - CUT.length).replace(/[\ud800-\udbff]$/, '') + CUT;
}

/** A value of any kind in a few words, for a message that names it. */
export function shownValue(value: unknown, maxLength = 60): string {
  if (typeof value === 'string') return `'${plainWords(value, maxLength)}'`;
  if (value === undefined) return 'missing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return plainWords(String(value), maxLength);
}
