/** What the clock on the wall says in a time zone. Instants are milliseconds since 1970, as everywhere. */

/** Milliseconds to add to an instant to get what the wall clock reads, as if the reading were UTC. */
export type ZoneOffset = (instantMs: number) => number;

/** @returns what is wrong with the name of a time zone, in words; null when it may be used */
export function timeZoneFault(timeZone: string): string | null {
  const text = String(timeZone);
  if (text.length <= MAX_LENGTH && isKnown(text)) return null;
  const shown = JSON.stringify(text.slice(0, MAX_LENGTH));
  return `the time zone ${shown} is not known: give an IANA name, such as Europe/Berlin`;
}

/**
 * Opens a zone. The rules are those of this process's time zone data, so ask it in activities, not in workflows.
 * @throws {RangeError} for a zone that {@link timeZoneFault} refuses
 */
export function zoneOffset(timeZone: string): ZoneOffset {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  return instantMs => {
    const wholeMs = Math.floor(instantMs / 1000) * 1000;
    const read = new Map(format.formatToParts(wholeMs).map(({ type, value }) => [type, Number(value)]));
    const part = (type: Intl.DateTimeFormatPartTypes) => read.get(type) ?? 0;
    return (
      Date.UTC(part('year'), part('month') - 1, part('day'), part('hour'), part('minute'), part('second')) -
      wholeMs
    );
  };
}

/** The first instant after `fromMs`, at `toMs` the latest, at which the zone's offset is another. */
export function offsetChange(offset: ZoneOffset, fromMs: number, toMs: number): number {
  const before = offset(fromMs);
  let [low, high] = [fromMs, toMs];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (offset(middle) === before) low = middle;
    else high = middle;
  }
  return high;
}

/** The longest IANA name has 32 letters. */
const MAX_LENGTH = 64;

function isKnown(timeZone: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}
