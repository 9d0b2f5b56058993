/** Blackout hours: spans of each day, by the clock on the wall, in which a schedule makes no traffic. */
import type { Blackout } from '../contract/schedule.ts';
import { OffsiteError } from './errors.ts';
import { offsetChange, type ZoneOffset, zoneOffset } from './wall-clock.ts';

/** Blackout windows of one time zone. An instant is inside when the wall clock's reading is in a window. */
export interface BlackoutHours {
  isInside(atMs: number): boolean;
  /** `atMs` itself when it is outside, else the first instant after it that is. */
  clearFrom(atMs: number): number;
  /** The blackout that lasts at `atMs`, else the next; null when there are no windows. */
  at(atMs: number): Blackout | null;
  /** In words, such as `the blackout hours 08:00-18:00 (Europe/Berlin)`. */
  readonly label: string;
}

export const MAX_WINDOWS = 24;

/** @returns what is wrong with the windows, a sentence each; empty when they may be used */
export function blackoutFaults(windows: readonly string[]): readonly string[] {
  // They may come in a signal, which nobody has looked at.
  if (!Array.isArray(windows) || !windows.every(text => typeof text === 'string')) {
    return ['the blackout windows are not a list of texts such as 08:00-18:00'];
  }
  if (windows.length > MAX_WINDOWS) return [`there are more than ${MAX_WINDOWS} blackout windows`];
  const faults = windows.flatMap(text => windowFault(text) ?? []);
  if (faults.length > 0) return faults;
  return minutesOf(windows).includes(false) ? [] : ['the blackout windows leave no minute of the day to run'];
}

/**
 * @param timeZone an IANA name, null for UTC
 * @throws {OffsiteError} `InvalidInput` for windows that {@link blackoutFaults} refuses
 */
export function blackoutHours(windows: readonly string[], timeZone: string | null): BlackoutHours {
  const [fault] = blackoutFaults(windows);
  if (fault !== undefined) throw new OffsiteError('InvalidInput', fault);
  if (windows.length === 0) return NO_BLACKOUTS;
  const zone = timeZone ?? 'UTC';
  const clock: Clock = { closed: minutesOf(windows), offset: zoneOffset(zone) };
  return {
    isInside: atMs => isClosed(clock, atMs),
    clearFrom: atMs => (isClosed(clock, atMs) ? nextChange(clock, atMs) : atMs),
    at: atMs => {
      const startsAtMs = isClosed(clock, atMs) ? begunAt(clock, atMs) : nextChange(clock, atMs);
      return { startsAtMs, endsAtMs: nextChange(clock, Math.max(startsAtMs, atMs)) };
    },
    label: `the blackout hours ${windows.join(', ')} (${zone})`,
  };
}

interface Clock {
  /** For each minute of the day, whether it lies in a window. Both kinds are there. */
  readonly closed: readonly boolean[];
  readonly offset: ZoneOffset;
}

const NO_BLACKOUTS: BlackoutHours = {
  isInside: () => false,
  clearFrom: atMs => atMs,
  at: () => null,
  label: 'no blackout hours',
};

const MINUTE_MS = 60_000;
const MINUTES_A_DAY = 24 * 60;
const DAY_MS = MINUTES_A_DAY * MINUTE_MS;

const isClosed = (clock: Clock, atMs: number): boolean =>
  clock.closed[minuteOfDay(atMs + clock.offset(atMs))] ?? false;

const minuteOfDay = (readingMs: number): number => Math.floor(modulo(readingMs, DAY_MS) / MINUTE_MS);

const modulo = (value: number, by: number): number => ((value % by) + by) % by;

/** The first instant after `atMs` at which the blackout begins or ends. */
function nextChange(clock: Clock, atMs: number): number {
  const wasClosed = isClosed(clock, atMs);
  let fromMs = atMs;
  for (;;) {
    const offsetMs = clock.offset(fromMs);
    const readingMs = fromMs + offsetMs;
    const untilMs =
      fromMs +
      minutesUntil(clock, minuteOfDay(readingMs), !wasClosed) * MINUTE_MS -
      modulo(readingMs, MINUTE_MS);
    if (clock.offset(untilMs) === offsetMs) return untilMs;
    // The clocks are put forward or back before then: their reading jumps, perhaps over the window's edge.
    fromMs = offsetChange(clock.offset, fromMs, untilMs);
    if (isClosed(clock, fromMs) !== wasClosed) return fromMs;
  }
}

/** Minutes from the start of `minute` to the next that is as wanted, at most a day. */
function minutesUntil({ closed }: Clock, minute: number, wanted: boolean): number {
  for (let ahead = 1; ahead < MINUTES_A_DAY; ahead += 1) {
    if (closed[(minute + ahead) % MINUTES_A_DAY] === wanted) return ahead;
  }
  return MINUTES_A_DAY;
}

/** When the blackout that lasts at `atMs` began; looks back for two days. */
function begunAt(clock: Clock, atMs: number): number {
  let begunMs = atMs - 2 * DAY_MS;
  for (;;) {
    const changeMs = nextChange(clock, begunMs);
    if (changeMs > atMs) return begunMs;
    begunMs = changeMs;
  }
}

function minutesOf(windows: readonly string[]): boolean[] {
  const closed = new Array<boolean>(MINUTES_A_DAY).fill(false);
  for (const window of windows) {
    const { from, to } = parsed(window) ?? { from: 0, to: 0 };
    // A window whose end is not after its start crosses midnight.
    const minutes = to > from ? to - from : to + MINUTES_A_DAY - from;
    for (let ahead = 0; ahead < minutes; ahead += 1) closed[(from + ahead) % MINUTES_A_DAY] = true;
  }
  return closed;
}

function windowFault(text: string): string | null {
  const shown = JSON.stringify(text.slice(0, 40));
  const window = parsed(text);
  if (window === null) return `the blackout window ${shown} is not one: write it as 08:00-18:00`;
  if (modulo(window.to - window.from, MINUTES_A_DAY) === 0) {
    return `the blackout window ${shown} is the whole day: pause the schedule instead`;
  }
  return null;
}

/** Minutes of the day, `to` up to 24:00; null when it is not written as it should be. */
function parsed(text: string): { readonly from: number; readonly to: number } | null {
  const match = /^(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(text);
  if (match === null) return null;
  const [fromHour = 0, fromMinute = 0, toHour = 0, toMinute = 0] = match.slice(1).map(Number);
  if (fromMinute > 59 || toMinute > 59) return null;
  const [from, to] = [fromHour * 60 + fromMinute, toHour * 60 + toMinute];
  return from < MINUTES_A_DAY && to <= MINUTES_A_DAY ? { from, to } : null;
}
