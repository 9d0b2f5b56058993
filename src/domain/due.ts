/** When an interval schedule is due. */
import type { ScheduleSettings } from '../contract/schedule.ts';
import { OffsiteError } from './errors.ts';

export interface NextDue {
  readonly nextRunAtMs: number;
  /** Due times that passed without a run of their own. */
  readonly skippedRuns: number;
}

/**
 * The next due time of an interval, on the grid that the first run began.
 * Due times that passed meanwhile (the site was down, or the run took longer than its interval) are caught up
 * by one run: the newest of them is due now, the others count as skipped.
 * A clock that was set back never puts the next run further away than one interval.
 * @param afterMs the due time of the run that just ended; null for the first, which is due at once
 */
export function nextDue(input: { everyMs: number; afterMs: number | null; nowMs: number }): NextDue {
  const { everyMs, afterMs, nowMs } = input;
  if (afterMs === null) return { nextRunAtMs: nowMs, skippedRuns: 0 };
  const passed = Math.floor((nowMs - afterMs) / everyMs);
  if (passed < 1) return { nextRunAtMs: Math.min(afterMs, nowMs) + everyMs, skippedRuns: 0 };
  return { nextRunAtMs: afterMs + passed * everyMs, skippedRuns: passed - 1 };
}

/**
 * As {@link nextDue}, from a schedule's settings.
 * @throws {OffsiteError} `InvalidInput` for settings that `settings.ts` refuses
 */
export function nextRun(settings: ScheduleSettings, afterMs: number | null, nowMs: number): NextDue {
  if (settings.everyMs === null) throw new OffsiteError('InvalidInput', 'the schedule has no interval');
  return nextDue({ everyMs: settings.everyMs, afterMs, nowMs });
}
