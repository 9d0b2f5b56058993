/** Reads what stands on the command line. Each parser refuses with the reason, which ends in exit code 2. */
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { IDENT, SITE_NAME, UUID } from '../contract/names.ts';
import { FormatError, parseDuration } from '../lib/durations.ts';
import { parseRate } from '../lib/sizes.ts';
import type { DiskPath } from './ports.ts';

const IDENT_RULE =
  'It must be 1 to 64 letters, digits, dots, underscores or dashes, beginning with a letter or digit.';
const SITE_RULE = 'It must be 1 to 32 small letters, digits or dashes, beginning with a letter.';

/** The name of a schedule, host or disk. */
export function identArgument(text: string): string {
  if (!IDENT.test(text)) throw new InvalidArgumentError(IDENT_RULE);
  return text;
}

export function siteArgument(text: string): string {
  if (!SITE_NAME.test(text)) throw new InvalidArgumentError(SITE_RULE);
  return text;
}

/** The UUID of a host snapshot, in either case. */
export function uuidArgument(text: string): string {
  const lower = text.toLowerCase();
  if (!UUID.test(lower)) throw new InvalidArgumentError('It must be a UUID of 36 characters.');
  return lower;
}

/** A certificate's SHA-256, plain or as openssl prints it. @returns 64 lower-case hexadecimal digits */
export function fingerprintArgument(text: string): string {
  const digits = text.replaceAll(':', '').toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(digits)) {
    throw new InvalidArgumentError('It must be a SHA-256 fingerprint: 64 hexadecimal digits.');
  }
  return digits;
}

/** @returns milliseconds */
export const durationArgument = (text: string): number => reading(() => parseDuration(text));

/** @returns bytes per second */
export const rateArgument = (text: string): number => reading(() => parseRate(text));

/** A number of things, from 1 to a million. */
export function countArgument(text: string): number {
  const count = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > 1_000_000)
    throw new InvalidArgumentError('It must be a number from 1 to 1000000.');
  return count;
}

function reading<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new InvalidArgumentError(`${error.message}.`);
  }
}

/** Collects `--disk vda=PATH`; a disk may be named once only. */
export function diskArgument(text: string, earlier: readonly DiskPath[] = []): readonly DiskPath[] {
  const at = text.indexOf('=');
  if (at < 0) throw new InvalidArgumentError('Write it as NAME=PATH, such as vda=/images/vda.qcow2.');
  const disk = text.slice(0, at);
  const path = text.slice(at + 1);
  if (!IDENT.test(disk)) throw new InvalidArgumentError(`The disk's name is '${disk}'. ${IDENT_RULE}`);
  if (path === '') throw new InvalidArgumentError(`There is no path after '${disk}='.`);
  if (earlier.some(other => other.disk === disk)) {
    throw new InvalidArgumentError(`Disk '${disk}' is named twice.`);
  }
  return [...earlier, { disk, path: resolve(path) }];
}

/** Collects `--disk vda=NODE`; a disk may be named once only. */
export function deviceArgument(
  text: string,
  earlier: readonly { readonly disk: string; readonly name: string }[] = [],
): readonly { readonly disk: string; readonly name: string }[] {
  const at = text.indexOf('=');
  const disk = at < 0 ? text : text.slice(0, at);
  const name = at < 0 ? text : text.slice(at + 1);
  if (!IDENT.test(disk)) throw new InvalidArgumentError(`The disk's name is '${disk}'. ${IDENT_RULE}`);
  if (name === '') throw new InvalidArgumentError(`There is no device after '${disk}='.`);
  if (earlier.some(other => other.disk === disk)) {
    throw new InvalidArgumentError(`Disk '${disk}' is named twice.`);
  }
  return [...earlier, { disk, name }];
}

/** Collects folders, absolute. */
export const folderArgument = (text: string, earlier: readonly string[] = []): readonly string[] => [
  ...earlier,
  pathArgument(text),
];

/** A path, made absolute. */
export function pathArgument(text: string): string {
  if (text === '') throw new InvalidArgumentError('It must not be empty.');
  return resolve(text);
}

const ISO_TIME = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/;

/** A time with its zone, or a date (midnight UTC). @returns ISO 8601 in UTC, with milliseconds */
export function timeArgument(text: string): string {
  const ms = ISO_TIME.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms)) {
    throw new InvalidArgumentError('Write it as ISO 8601 with a zone, such as 2026-11-24T02:00:00Z.');
  }
  return new Date(ms).toISOString();
}

/** Text that must say something. */
export function textArgument(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('It must not be empty.');
  return text;
}

/** Collects texts that must say something. */
export const textsArgument = (text: string, earlier: readonly string[] = []): readonly string[] => [
  ...earlier,
  textArgument(text),
];
