/** What a schedule tries again, and for which cause. */
import type { ScheduleStatus } from '../contract/schedule.ts';
import type { PendingStep } from '../orchestration/orchestrator.ts';

export interface RetryJson {
  /** The attempt that runs or is to come, from 2; with a node that nobody serves it may be the first. */
  readonly attempt: number;
  readonly reason: string;
  /** Of the error; `NoWorker` where nobody answers, null where the task itself is to be repeated. */
  readonly code: string | null;
  /** What is tried again: an activity's name, or `remoteBackupTask`. */
  readonly activity: string;
  readonly disk: string | null;
  /** Null while the attempt runs, or waits for a worker. */
  readonly nextAttemptAt: string | null;
}

/** All that is tried again, what has failed most often first; empty when nothing waits for a cause. */
export function retriesJson(
  status: ScheduleStatus | null,
  pending: readonly PendingStep[],
): readonly RetryJson[] {
  const steps = pending
    .map(stepRetry)
    .filter(retry => retry !== null)
    .sort((left, right) => right.attempt - left.attempt);
  if (steps.length > 0) return steps;
  const task = status === null ? null : taskRetry(status);
  return task === null ? [] : [task];
}

function stepRetry(step: PendingStep): RetryJson | null {
  const { attempt, activity, disk } = step;
  if (step.unserved && step.waits !== null) {
    return { attempt, reason: step.waits, code: 'NoWorker', activity, disk, nextAttemptAt: null };
  }
  if (attempt < 2 || step.lastFailure === null) return null;
  const { code, message: reason } = step.lastFailure;
  return { attempt, reason, code, activity, disk, nextAttemptAt: iso(step.nextAttemptAtMs) };
}

/** A task ended without what it was for, such as a host that the source does not know yet. */
function taskRetry({ retry, lastTask }: ScheduleStatus): RetryJson | null {
  if (retry === undefined || retry === null || lastTask === null) return null;
  return {
    attempt: retry.attempt,
    reason: lastTask.reason ?? `the last task ended as ${lastTask.outcome}`,
    code: null,
    activity: 'remoteBackupTask',
    disk: null,
    nextAttemptAt: iso(retry.atMs),
  };
}

const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
