/**
 * Cron expressions of five fields, read in a time zone.
 * Daylight saving: where the hours are named, a time that the clocks skip runs at the next valid time, and one that
 * they show twice runs once, at the first. An expression for every hour (`*`) follows elapsed time instead.
 */
import { Cron, type CronOptions } from 'croner';
import { OffsiteError } from './errors.ts';

export interface CronTimes {
  /** The first time strictly after an instant. */
  next(afterMs: number): number;
  /** The newest time at or before an instant, null when there is none. */
  latest(atMs: number): number | null;
}

/** @returns what is wrong with an expression, in words; null when it may be used */
export function cronFault(expression: string): string | null {
  // It may come in a signal, which nobody has looked at.
  if (typeof expression !== 'string') return `the cron expression is not a text: ${FIELDS}`;
  const shown = JSON.stringify(expression.slice(0, MAX_LENGTH));
  if (expression.length > MAX_LENGTH) return `the cron expression is longer than ${MAX_LENGTH} characters`;
  // A colon would make croner read a date instead of an expression.
  if (expression.includes(':')) return `the cron expression ${shown} is not one: ${FIELDS}`;
  try {
    // Without a year field, what never fires from one day on never fires at all. UTC needs no time zone data.
    const first = open(expression, { utcOffset: 0 }).nextRun(new Date(0));
    return first === null ? `the cron expression ${shown} names a day that never comes` : null;
  } catch (error) {
    return `the cron expression ${shown} is not one (${detail(error)}): ${FIELDS}`;
  }
}

/** @throws {OffsiteError} `InvalidInput` for an expression that {@link cronFault} refuses, or an unknown zone */
export function cronTimes(expression: string, timeZone: string): CronTimes {
  const fault = cronFault(expression);
  if (fault !== null) throw new OffsiteError('InvalidInput', fault);
  const cron = open(expression, { timezone: timeZone });
  return {
    next(afterMs) {
      const next = cron.nextRun(new Date(afterMs));
      if (next === null)
        throw new OffsiteError('InvalidInput', `the cron expression ${expression} has ended`);
      return next.getTime();
    },
    // croner looks strictly before an instant, and at whole seconds.
    latest: atMs => cron.previousRuns(1, new Date(Math.floor(atMs / 1000) * 1000 + 1))[0]?.getTime() ?? null,
  };
}

const FIELDS =
  'five fields are needed: minute, hour, day of month, month and day of week, such as 30 2 * * *';
const MAX_LENGTH = 200;
const MINUTES = 60;
const HOURS = 24;

const open = (expression: string, zone: CronOptions): Cron =>
  new Cron(withListedTimes(expression), { mode: '5-part', fixedTimeRule: 'no-wildcard', ...zone });

/** croner's own words, without the name of its class. */
const detail = (error: unknown): string =>
  error instanceof Error ? error.message.replace(/^Cron\w*: /, '').replace(/\.$/, '') : String(error);

/**
 * Lists the minutes and hours where not every hour is meant. croner keeps a time in skipped and doubled hours only
 * for fields without wildcards and steps. What cannot be listed is left as it is, for croner to refuse.
 */
function withListedTimes(expression: string): string {
  const [minute, hour, ...days] = expression.trim().split(/\s+/);
  if (minute === undefined || hour === undefined || days.length !== 3) return expression;
  const minutes = listed(minute, MINUTES);
  const hours = listed(hour, HOURS);
  if (minutes === null || hours === null) return expression;
  if (hours.size === HOURS) return [minute, '*', ...days].join(' ');
  return [[...minutes].join(','), [...hours].join(','), ...days].join(' ');
}

/** The values of a field, null when a part of it is not understood. */
function listed(field: string, size: number): ReadonlySet<number> | null {
  const values = new Set<number>();
  for (const part of field.split(',')) {
    const range = rangeOf(part, size);
    if (range === null) return null;
    for (let value = range.first; value <= range.last; value += range.step) values.add(value);
  }
  return values;
}

function rangeOf(part: string, size: number): { first: number; last: number; step: number } | null {
  const match = /^(?:[*?]|(\d+)(?:-(\d+))?)(?:\/(\d+))?$/.exec(part);
  if (match === null) return null;
  const [, from, to, by] = match;
  const step = by === undefined ? 1 : Number(by);
  const first = Number(from ?? 0);
  const last = from === undefined ? size - 1 : Number(to ?? from);
  // A step after a single number means different things to different crons.
  if (by !== undefined && from !== undefined && to === undefined) return null;
  return first <= last && last < size && step >= 1 && step <= size ? { first, last, step } : null;
}
