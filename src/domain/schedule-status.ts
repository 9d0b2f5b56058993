/** What a schedule tells about itself. */
import type {
  ScheduleActivityState,
  ScheduleSpec,
  ScheduleState,
  ScheduleStatus,
  TaskRetry,
} from '../contract/schedule.ts';

/** What goes on besides the state. */
export interface ScheduleActivity {
  readonly running: { readonly taskUuid: string } | null;
  /** The running task was told to stop. */
  readonly isStopping?: boolean;
  readonly isDeleted?: boolean;
}

/** The answer to the query `getStatus`. */
export function statusOf(
  spec: ScheduleSpec,
  state: ScheduleState,
  activity: ScheduleActivity,
): ScheduleStatus {
  return {
    spec,
    settings: state.newSettings ?? state.settings,
    state: activity.isDeleted ? 'deleted' : activityState(state, activity),
    paused: state.paused,
    note: activity.isDeleted ? null : noteOf(spec, state, activity),
    nextRunAtMs: nextLookAtMs(state),
    nextRunReason: state.nextRunReason,
    blackout: state.blackout,
    skippedRuns: state.skippedRuns,
    skippedReason: state.skippedReason,
    newestPointAtMs: state.newestPointAtMs,
    behindSinceMs: state.behindSinceMs,
    siteOffsetMs: state.siteOffsetMs,
    lastTask: state.lastTask,
    runningTask: activity.running,
    retry: retryOf(state),
    requests: state.requests,
  };
}

/** The task that is to follow one that found nothing or failed. */
function retryOf({ fruitlessTasks, paused, deleting, retryAtMs }: ScheduleState): TaskRetry | null {
  if (fruitlessTasks === 0 || paused || deleting !== null) return null;
  return { attempt: fruitlessTasks + 1, atMs: retryAtMs };
}

/** Paused is true of bytes as soon as B has closed the sessions, whatever the stopped task still has to do. */
function activityState(
  state: ScheduleState,
  { running, isStopping }: ScheduleActivity,
): ScheduleActivityState {
  if (state.deleting !== null) return 'deleting';
  if (state.recordedPause.paused && (state.paused || isStopping)) return 'paused';
  if (state.paused) return 'pausing';
  return running === null ? 'waiting' : 'running';
}

function noteOf(
  { sourceSite }: ScheduleSpec,
  state: ScheduleState,
  { running, isStopping }: ScheduleActivity,
): string | null {
  if (state.deleting !== null) {
    if (running !== null) return 'the running task is being stopped';
    if (state.deleting.force || state.deleteSettled) return null;
    return `waits until site ${sourceSite} has released what it holds; delete --force does not wait`;
  }
  if (isStopping) return state.paused ? 'the stopped task is still ending' : AFTER_THE_STOPPED;
  if (state.draining && running !== null) return 'pauses when the running task has ended';
  if (state.releasing) return `waits until site ${sourceSite} has released what the stopped task locked`;
  return state.newSettings === null ? null : 'new settings are being written';
}

const AFTER_THE_STOPPED = 'goes on when the stopped task has ended';

/** A continuous schedule looks at its next poll, though it may be told earlier. */
function nextLookAtMs({ settings, nextRunAtMs, pollAtMs }: ScheduleState): number | null {
  if (settings.type !== 'continuous' || nextRunAtMs === null) return nextRunAtMs;
  return Math.max(nextRunAtMs, pollAtMs ?? 0);
}
