/** Durations as people write them: `15m`, `1h30m`, `2d`. */

/** A text is not what it should be; the message says what is wrong and how it is written. */
export class FormatError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FormatError';
  }
}

const UNITS = [
  ['w', 7 * 24 * 3600 * 1000],
  ['d', 24 * 3600 * 1000],
  ['h', 3600 * 1000],
  ['m', 60 * 1000],
  ['s', 1000],
] as const;
const MS_OF = new Map<string, number>(UNITS);
const EXAMPLES = 'write it like 90s, 15m, 1h30m or 2d';

/** No duration that an operator gives is longer than ten years. */
const MAX_DURATION_MS = 3660 * 24 * 3600 * 1000;

/**
 * Reads a duration: whole numbers with units `w`, `d`, `h`, `m`, `s`, the larger first, each at most once.
 * @returns milliseconds, above zero
 * @throws {FormatError} with the reason
 */
export function parseDuration(text: string): number {
  if (/^\d+$/.test(text)) throw new FormatError(`'${text}' has no unit: ${EXAMPLES}`);
  if (!/^(\d{1,9}[a-z]+)+$/.test(text)) throw new FormatError(`'${text}' is no duration: ${EXAMPLES}`);
  let totalMs = 0;
  let lastUnitMs = Number.POSITIVE_INFINITY;
  for (const [, digits, unit] of text.matchAll(/(\d+)([a-z]+)/g)) {
    const unitMs = MS_OF.get(unit ?? '');
    if (unitMs === undefined) {
      throw new FormatError(`'${unit}' in '${text}' is no unit of time: use w, d, h, m or s`);
    }
    if (unitMs >= lastUnitMs) {
      throw new FormatError(`the units in '${text}' must fall and not repeat: ${EXAMPLES}`);
    }
    lastUnitMs = unitMs;
    totalMs += Number(digits) * unitMs;
  }
  if (totalMs === 0) throw new FormatError(`'${text}' is no time at all: give at least 1s`);
  if (totalMs > MAX_DURATION_MS) throw new FormatError(`'${text}' is longer than ten years`);
  return totalMs;
}

/**
 * Writes whole seconds so that {@link parseDuration} reads the same: `1h30m`. Rounds down; below 1 s it is `0s`.
 * @param durationMs zero or more
 */
export function formatDuration(durationMs: number): string {
  let restMs = Math.max(0, Math.floor(durationMs / 1000) * 1000);
  let text = '';
  for (const [unit, unitMs] of UNITS) {
    if (unit === 'w') continue;
    const count = Math.floor(restMs / unitMs);
    if (count > 0) text += `${count}${unit}`;
    restMs -= count * unitMs;
  }
  return text === '' ? '0s' : text;
}
