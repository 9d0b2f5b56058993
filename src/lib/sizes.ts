/** Sizes and rates as people write them: `1.5GiB`, `50MiB/s`, `10MB/s`. */
import { FormatError } from './durations.ts';

const UNIT_BYTES = new Map<string, number>([
  ['B', 1],
  ['kB', 1e3],
  ['KB', 1e3],
  ['MB', 1e6],
  ['GB', 1e9],
  ['TB', 1e12],
  ['KiB', 2 ** 10],
  ['MiB', 2 ** 20],
  ['GiB', 2 ** 30],
  ['TiB', 2 ** 40],
]);
const BINARY_UNITS = ['KiB', 'MiB', 'GiB', 'TiB'] as const;

/**
 * Reads a size: a number, decimals allowed, and a unit of 1000 (`kB`, `MB` …) or 1024 (`KiB`, `MiB` …).
 * @returns whole bytes, above zero, a safe integer
 * @throws {FormatError} with the reason
 */
export function parseSize(text: string): number {
  const match = /^(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]*)$/.exec(text);
  if (match === null) throw new FormatError(`'${text}' is no size: write it like 512KiB, 50MiB or 1.5GB`);
  const [, digits, unit = ''] = match;
  if (unit === '') throw new FormatError(`'${text}' has no unit: write it like 512KiB, 50MiB or 1.5GB`);
  const unitBytes = UNIT_BYTES.get(unit);
  if (unitBytes === undefined) {
    throw new FormatError(
      `'${unit}' in '${text}' is no unit of size: use B, kB, MB, GB, TB, KiB, MiB, GiB or TiB`,
    );
  }
  const bytes = Math.round(Number(digits) * unitBytes);
  if (bytes < 1) throw new FormatError(`'${text}' is less than one byte`);
  if (!Number.isSafeInteger(bytes)) throw new FormatError(`'${text}' is too large`);
  return bytes;
}

/** A size by itself, or as a share of a whole. */
export type SizeOrShare = { readonly bytes: number } | { readonly percent: number };

/**
 * Reads a size, or a share such as `10%`.
 * @returns `percent` from 0 to 100
 * @throws {FormatError} with the reason
 */
export function parseSizeOrShare(text: string): SizeOrShare {
  const share = /^(\d{1,3}(?:\.\d{1,3})?) ?%$/.exec(text);
  if (share === null) return { bytes: /^0 ?[A-Za-z]*$/.test(text) ? 0 : parseSize(text) };
  const percent = Number(share[1]);
  if (percent > 100) throw new FormatError(`'${text}' is more than the whole`);
  return { percent };
}

/** @returns whole bytes */
export const sizeOf = (size: SizeOrShare, wholeBytes: number): number =>
  'bytes' in size ? size.bytes : Math.floor((wholeBytes * size.percent) / 100);

/**
 * Reads a rate: a size, and `/s`.
 * @returns bytes per second, above zero
 * @throws {FormatError} with the reason
 */
export function parseRate(text: string): number {
  if (/bit|bps/i.test(text)) {
    throw new FormatError(`'${text}' counts bits: rates are bytes per second, like 50MiB/s or 10MB/s`);
  }
  if (!text.endsWith('/s')) throw new FormatError(`'${text}' is no rate: write it like 50MiB/s or 10MB/s`);
  try {
    return parseSize(text.slice(0, -2));
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`'${text}' is no rate: write it like 50MiB/s or 10MB/s`);
  }
}

/**
 * Writes a size in the largest unit of 1024 that leaves a number of at least 1, with three digits or so.
 * @param sizeBytes zero or more
 */
export function formatSize(sizeBytes: number): string {
  if (sizeBytes < 1024) return `${Math.floor(sizeBytes)} B`;
  let value = sizeBytes;
  let unit = 'B';
  for (const next of BINARY_UNITS) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  const rounded = value >= 100 ? value.toFixed(0) : value.toFixed(1);
  return `${rounded} ${unit}`;
}

/** Writes a rate such as `48.0 MiB/s`. */
export const formatRate = (bytesPerSecond: number): string => `${formatSize(bytesPerSecond)}/s`;
