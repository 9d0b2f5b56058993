/** When a schedule is due: every so often, or by cron; never in its blackout hours; missed runs caught up by one. */
import type { PlannedRun, ScheduleSettings } from '../contract/schedule.ts';
import { type BlackoutHours, blackoutHours } from './blackout.ts';
import { cronTimes } from './cron.ts';
import { OffsiteError } from './errors.ts';

/** When a run began and ended. */
export interface RunSpan {
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
}

/** So many skipped due times of a cron expression are counted, and looked at for their reasons. */
export const MAX_COUNTED = 1_000;

/**
 * When the next run is due.
 * Due times that passed meanwhile (the site was down, or the run took longer than its interval) are caught up
 * by one run: the newest of them is due now. What is due in the blackout hours is due at their end.
 * A clock that was set back never puts the next run further away than if the run had just been due.
 * @param afterMs the due time of the run that just ended; null for the first, which with an interval is due at once
 * @throws {OffsiteError} `InvalidInput` for settings that `settings.ts` refuses
 */
export function dueTime(settings: ScheduleSettings, afterMs: number | null, nowMs: number): number {
  const { rhythm, blackouts } = open(settings);
  const ownMs = ownDueTime(rhythm, afterMs, nowMs);
  return blackouts.clearFrom(ownMs <= nowMs && blackouts.isInside(nowMs) ? nowMs : ownMs);
}

/**
 * What is to be told about a due time: what was skipped for it, why it is not sooner, and the next blackout.
 * @param run.nextRunAtMs what {@link dueTime} gave, now or when it was stored
 * @param run.lastRun the run that just ended, where it is known: it tells why due times were skipped
 */
export function plannedRun(
  settings: ScheduleSettings,
  run: {
    readonly afterMs: number | null;
    readonly nextRunAtMs: number;
    readonly nowMs: number;
    readonly lastRun?: RunSpan | null;
  },
): PlannedRun {
  const { rhythm, blackouts } = open(settings);
  const { afterMs, nextRunAtMs, nowMs } = run;
  const due = afterMs === null ? null : rhythm.between(afterMs, nextRunAtMs);
  const reasonOf = (dueMs: number) => skipReason(dueMs, run.lastRun ?? null, blackouts);
  // The newest due time up to the run is the run's own; the others have none.
  const ownMs = due === null ? ownDueTime(rhythm, null, nowMs) : due.newestMs;
  return {
    nextRunAtMs,
    skippedRuns: Math.max(0, (due?.count ?? 0) - 1),
    skippedReason: due === null ? null : countedReasons(due, reasonOf),
    nextRunReason: delayReason(ownMs, run, blackouts, reasonOf),
    blackout: blackouts.at(nowMs),
  };
}

/** {@link dueTime} with what {@link plannedRun} tells about it. */
export function nextRun(
  settings: ScheduleSettings,
  afterMs: number | null,
  nowMs: number,
  lastRun: RunSpan | null = null,
): PlannedRun {
  return plannedRun(settings, { afterMs, nextRunAtMs: dueTime(settings, afterMs, nowMs), nowMs, lastRun });
}

/** The due times in a span. */
interface DueTimes {
  /** Those that are looked at, oldest first. */
  readonly first: readonly number[];
  readonly count: number;
  /** False when there are more than were counted. */
  readonly isExact: boolean;
  readonly newestMs: number | null;
}

/** The due times of a schedule, if there were no blackout hours. */
interface Rhythm {
  /** When a schedule that never ran is due. */
  first(nowMs: number): number;
  /** The first after the due time of a run. */
  next(afterMs: number): number;
  /** The newest of those after a run's due time, up to `untilMs`. */
  latest(afterMs: number, untilMs: number): number | null;
  between(afterMs: number, untilMs: number): DueTimes;
}

function open(settings: ScheduleSettings): { rhythm: Rhythm; blackouts: BlackoutHours } {
  return {
    rhythm: rhythmOf(settings),
    blackouts: blackoutHours(settings.notBetween ?? [], settings.timeZone),
  };
}

function rhythmOf({ type, everyMs, cron, timeZone }: ScheduleSettings): Rhythm {
  if (type === 'continuous') return AT_ONCE;
  if (everyMs !== null) return everySoOften(everyMs);
  if (cron !== null) return byCron(cron, timeZone ?? 'UTC');
  throw new OffsiteError('InvalidInput', 'the schedule has no interval');
}

function ownDueTime(rhythm: Rhythm, afterMs: number | null, nowMs: number): number {
  if (afterMs === null) return rhythm.first(nowMs);
  return rhythm.latest(afterMs, nowMs) ?? rhythm.next(Math.min(afterMs, nowMs));
}

const NONE: DueTimes = { first: [], count: 0, isExact: true, newestMs: null };

/** A continuous schedule is due whenever it waits. */
const AT_ONCE: Rhythm = {
  first: nowMs => nowMs,
  next: afterMs => afterMs,
  latest: (_afterMs, untilMs) => untilMs,
  between: () => NONE,
};

/** The grid that a run's due time is on. */
function everySoOften(everyMs: number): Rhythm {
  const passed = (afterMs: number, untilMs: number) => Math.max(0, Math.floor((untilMs - afterMs) / everyMs));
  const latest = (afterMs: number, untilMs: number) => {
    const count = passed(afterMs, untilMs);
    return count === 0 ? null : afterMs + count * everyMs;
  };
  return {
    first: nowMs => nowMs,
    next: afterMs => afterMs + everyMs,
    latest,
    between(afterMs, untilMs) {
      const count = passed(afterMs, untilMs);
      const length = Math.min(count, MAX_COUNTED);
      const first = Array.from({ length }, (_, index) => afterMs + (index + 1) * everyMs);
      return { first, count, isExact: true, newestMs: latest(afterMs, untilMs) };
    },
  };
}

function byCron(expression: string, timeZone: string): Rhythm {
  const times = cronTimes(expression, timeZone);
  const latest = (afterMs: number, untilMs: number) => {
    const latestMs = times.latest(untilMs);
    return latestMs !== null && latestMs > afterMs ? latestMs : null;
  };
  return {
    first: nowMs => times.next(nowMs),
    next: afterMs => times.next(afterMs),
    latest,
    between(afterMs, untilMs) {
      const first: number[] = [];
      let dueMs = times.next(afterMs);
      for (; dueMs <= untilMs && first.length < MAX_COUNTED; dueMs = times.next(dueMs)) first.push(dueMs);
      const isExact = dueMs > untilMs;
      return { first, count: first.length, isExact, newestMs: latest(afterMs, untilMs) };
    },
  };
}

function skipReason(dueMs: number, lastRun: RunSpan | null, blackouts: BlackoutHours): string {
  if (blackouts.isInside(dueMs)) return `in ${blackouts.label}`;
  if (lastRun === null) return 'while the site was down, or the run before took longer than its interval';
  if (dueMs <= lastRun.startedAtMs) return 'before the last run could begin';
  if (dueMs <= lastRun.finishedAtMs) return 'while the last run was not done';
  return 'while the schedule was not at work';
}

/** Such as `9 in the blackout hours 08:00-18:00 (UTC), 1 while the last run was not done`. */
function countedReasons({ first, count, isExact, newestMs }: DueTimes, reasonOf: (dueMs: number) => string) {
  const counts = new Map<string, number>();
  for (const dueMs of first) {
    if (dueMs === newestMs) continue;
    const reason = reasonOf(dueMs);
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  if (counts.size === 0) return null;
  const reasons = [...counts].map(([reason, number]) => `${number} ${reason}`).join(', ');
  return isExact && first.length === count ? reasons : `${reasons}, and more`;
}

function delayReason(
  ownMs: number | null,
  { nextRunAtMs, nowMs, afterMs }: { nextRunAtMs: number; nowMs: number; afterMs: number | null },
  blackouts: BlackoutHours,
  reasonOf: (dueMs: number) => string,
): string | null {
  if (ownMs === null) return null;
  if (ownMs < nextRunAtMs && blackouts.isInside(nextRunAtMs - 1)) {
    return `was due at ${iso(ownMs)}, waits for the end of ${blackouts.label}`;
  }
  if (afterMs === null || nextRunAtMs >= nowMs) return null;
  return `was due at ${iso(ownMs)}, ${reasonOf(ownMs)}`;
}

const iso = (atMs: number): string => new Date(atMs).toISOString();
