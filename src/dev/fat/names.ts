/**
 * Long file names and the short names that stand beside them.
 * @see Microsoft, "FAT: General Overview of On-Disk Format" (fatgen103), "Long Directory Entries"
 */
import { createHash } from 'node:crypto';
import { FatError } from './fat-error.ts';

const MAX_NAME_UNITS = 255;
const UNITS_PER_ENTRY = 13;
const SHORT_NAME = /^([A-Z0-9!#$%&'()@^_`{}~-]{1,8})(?:\.([A-Z0-9!#$%&'()@^_`{}~-]{1,3}))?$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the format forbids them by name
const FORBIDDEN = /[\u0000-\u001f"*/:<>?\\|]/;

export interface FatName {
  readonly long: string;
  /** 11 bytes, base and extension padded with blanks, without the dot. */
  readonly short: string;
  /** False where the short name alone says all. */
  readonly needsLong: boolean;
}

/**
 * Gives each name of one directory its short name. A generated one comes from the name's own hash,
 * so that a further file leaves the short names of the others as they are.
 * @throws {FatError} for a name that VFAT cannot hold, and for two that differ by case only
 */
export function assignShortNames(names: readonly string[]): FatName[] {
  const taken = new Set<string>();
  const folded = new Set<string>();
  for (const name of names) {
    checkName(name);
    const upper = name.toUpperCase();
    if (folded.has(upper)) throw new FatError(`"${name}" differs from another name by case only`);
    folded.add(upper);
    const natural = naturalShortName(upper);
    if (natural !== null) taken.add(natural);
  }
  return names.map(long => {
    const upper = long.toUpperCase();
    const natural = naturalShortName(upper);
    if (natural !== null) return { long, short: natural, needsLong: long !== upper };
    const short = generateShortName(long, taken);
    taken.add(short);
    return { long, short, needsLong: true };
  });
}

/** @returns the 32-byte entries of a long name as they lie on disk: the last part first */
export function encodeLongName({ long, short }: FatName): Buffer {
  const partCount = Math.ceil(long.length / UNITS_PER_ENTRY);
  const entries = Buffer.alloc(partCount * 32);
  const checksum = shortNameChecksum(short);
  for (let part = partCount; part >= 1; part -= 1) {
    const entry = entries.subarray((partCount - part) * 32, (partCount - part + 1) * 32);
    entry[0] = part === partCount ? part | 0x40 : part;
    entry[11] = 0x0f;
    entry[13] = checksum;
    for (let unit = 0; unit < UNITS_PER_ENTRY; unit += 1) {
      const at = (part - 1) * UNITS_PER_ENTRY + unit;
      // One NUL ends a name that leaves room; all beyond it is 0xFFFF.
      const code = at < long.length ? long.charCodeAt(at) : at === long.length ? 0 : 0xffff;
      entry.writeUInt16LE(code, unitOffset(unit));
    }
  }
  return entries;
}

function unitOffset(unit: number): number {
  if (unit < 5) return 1 + unit * 2;
  return unit < 11 ? 14 + (unit - 5) * 2 : 28 + (unit - 11) * 2;
}

function shortNameChecksum(short: string): number {
  let sum = 0;
  for (let at = 0; at < short.length; at += 1) {
    sum = (((sum & 1) << 7) + (sum >> 1) + short.charCodeAt(at)) & 0xff;
  }
  return sum;
}

function checkName(name: string): void {
  const isOdd = name === '' || FORBIDDEN.test(name) || /[. ]$/.test(name) || name.startsWith(' ');
  if (isOdd || name.length > MAX_NAME_UNITS) throw new FatError(`"${name}" cannot be a name on a FAT volume`);
}

function naturalShortName(upper: string): string | null {
  const match = SHORT_NAME.exec(upper);
  return match === null ? null : padShortName(match[1] ?? '', match[2] ?? '');
}

function generateShortName(long: string, taken: ReadonlySet<string>): string {
  const dot = long.lastIndexOf('.');
  const stem = shortCharacters(dot > 0 ? long.slice(0, dot) : long).slice(0, 2);
  const extension = shortCharacters(dot > 0 ? long.slice(dot + 1) : '').slice(0, 3);
  const hash = createHash('sha256').update(long).digest('hex').slice(0, 4).toUpperCase();
  for (let tail = 1; tail <= 9; tail += 1) {
    const candidate = padShortName(`${stem}${hash}~${tail}`, extension);
    if (!taken.has(candidate)) return candidate;
  }
  throw new FatError(`"${long}" is like too many names of its directory`);
}

const shortCharacters = (text: string): string =>
  text
    .toUpperCase()
    .replace(/[. ]/g, '')
    .replace(/[^A-Z0-9!#$%&'()@^_`{}~-]/g, '_');

const padShortName = (base: string, extension: string): string => base.padEnd(8) + extension.padEnd(3);
