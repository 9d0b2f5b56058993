/** The life of a schedule as pure transitions: what a request, a task and the clock do to its state. */
import type { ScheduleRecord } from '../contract/replica-activities.ts';
import type {
  DeleteRequest,
  ScheduleActivityState,
  ScheduleSettings,
  ScheduleSpec,
  ScheduleState,
  ScheduleStatus,
  TaskSummary,
} from '../contract/schedule.ts';
import type { TaskResult } from '../contract/workflows.ts';

/** So many requests are remembered; the oldest is forgotten first. */
export const MAX_REQUESTS = 50;
/** Bounds a run's history: about 100 events a task. */
export const ROLL_OVER_AFTER_TASKS = 100;

const FIRST_RETRY_MS = 5_000;
const MOST_RETRY_MS = 60_000;

/** The state that a schedule is started with. */
export function initialScheduleState(
  settings: ScheduleSettings,
  options: { readonly paused: boolean },
): ScheduleState {
  return {
    settings,
    registered: false,
    paused: options.paused,
    recordedPaused: options.paused,
    deleting: null,
    runRequested: false,
    nextRunAtMs: null,
    lastDueAtMs: null,
    retryAtMs: null,
    fruitlessTasks: 0,
    skippedRuns: 0,
    lastTask: null,
    newestPointAtMs: null,
    behindSinceMs: null,
    requests: [],
    rollOverAfterTasks: ROLL_OVER_AFTER_TASKS,
  };
}

/** B's row is there. An operator's word that came before it counts more than what the row said. */
export function registered(state: ScheduleState, record: ScheduleRecord): ScheduleState {
  return {
    ...state,
    registered: true,
    settings: record.settings,
    paused: state.requests.length === 0 ? record.paused : state.paused,
    recordedPaused: record.paused,
    nextRunAtMs: record.nextRunAtMs,
  };
}

/** An operator's request to pause. A second one with the same id changes nothing. */
export function paused(state: ScheduleState, requestId: string): ScheduleState {
  if (state.deleting !== null) return refuse(state, requestId, BEING_DELETED);
  if (state.paused) return accept(state, requestId, 'it was paused already');
  return accept(state, requestId, null, { paused: true, runRequested: false });
}

/** An operator's request to go on. */
export function resumed(state: ScheduleState, requestId: string): ScheduleState {
  if (state.deleting !== null) return refuse(state, requestId, BEING_DELETED);
  if (!state.paused) return accept(state, requestId, 'it was not paused');
  return accept(state, requestId, null, { paused: false });
}

/** An operator's request to run now. While a task runs, another follows it. */
export function runRequested(state: ScheduleState, requestId: string): ScheduleState {
  if (state.deleting !== null) return refuse(state, requestId, BEING_DELETED);
  if (state.paused) return refuse(state, requestId, 'the schedule is paused: resume it first');
  if (state.runRequested) return accept(state, requestId, 'a run was asked for already');
  return accept(state, requestId, null, { runRequested: true });
}

/** An operator's request to delete; a later one can still add `purge`. */
export function deleteRequested(
  state: ScheduleState,
  requestId: string,
  request: DeleteRequest,
): ScheduleState {
  const purge = request.purge || (state.deleting?.purge ?? false);
  const reason = state.deleting === null ? null : 'it was being deleted already';
  return accept(state, requestId, reason, { deleting: { purge }, runRequested: false });
}

/** B's row now says paused or resumed. */
export function pauseRecorded(state: ScheduleState, recordedPaused: boolean): ScheduleState {
  return { ...state, recordedPaused };
}

/** Takes the plan of the next run. */
export function nextRunPlanned(
  state: ScheduleState,
  next: { readonly nextRunAtMs: number; readonly skippedRuns: number },
): ScheduleState {
  return { ...state, nextRunAtMs: next.nextRunAtMs, skippedRuns: state.skippedRuns + next.skippedRuns };
}

/** A task begins. Requests to run that come from here on lead to another. */
export function taskBegun(state: ScheduleState, nowMs: number): ScheduleState {
  const due = state.nextRunAtMs !== null && state.nextRunAtMs <= nowMs ? state.nextRunAtMs : null;
  return {
    ...state,
    runRequested: false,
    retryAtMs: null,
    lastDueAtMs: due ?? state.lastDueAtMs,
    nextRunAtMs: due === null ? state.nextRunAtMs : null,
  };
}

/** A task ended with a result. */
export function afterTask(state: ScheduleState, result: TaskResult, nowMs: number): ScheduleState {
  const { summary, targetTakenAtMs } = result;
  const ended = { ...state, lastTask: summary };
  switch (summary.outcome) {
    case 'published':
      return {
        ...ended,
        fruitlessTasks: 0,
        behindSinceMs: null,
        newestPointAtMs: targetTakenAtMs ?? state.newestPointAtMs,
      };
    case 'upToDate':
      return { ...ended, fruitlessTasks: 0, behindSinceMs: null };
    case 'waiting':
      return withRetry(ended, nowMs);
    case 'paused':
      return { ...ended, retryAtMs: nowMs, behindSinceMs: state.behindSinceMs ?? targetTakenAtMs };
    default:
      return withRetry({ ...ended, behindSinceMs: state.behindSinceMs ?? targetTakenAtMs }, nowMs);
  }
}

/** The result of a task whose workflow gave none: it failed, or was terminated. */
export function failedTask(
  task: { readonly taskUuid: string; readonly startedAtMs: number; readonly reason: string },
  nowMs: number,
): TaskResult {
  const summary: TaskSummary = {
    taskUuid: task.taskUuid,
    generation: 0,
    outcome: 'stopped',
    reason: `the task's workflow ended without a result: ${task.reason}`,
    warnings: [],
    startedAtMs: task.startedAtMs,
    finishedAtMs: nowMs,
    hostSnapshot: null,
    disks: [],
  };
  return { summary, targetTakenAtMs: null };
}

/** True when a task may begin now. A resume counts once B's row has it, else B would refuse the task. */
export function isDue(state: ScheduleState, nowMs: number): boolean {
  if (state.deleting !== null || state.paused || state.recordedPaused || !state.registered) return false;
  return state.runRequested || waitMs(state, nowMs) === 0;
}

/** True when the next run has to be planned before the schedule can wait for it. */
export const mustPlan = (state: ScheduleState): boolean =>
  state.nextRunAtMs === null && !state.paused && state.deleting === null;

/** True when something is to be done before the schedule may wait on. */
export const needsAction = (state: ScheduleState): boolean =>
  state.deleting !== null || state.paused !== state.recordedPaused || mustPlan(state);

/** True when a running task has to be stopped. */
export const mustStopTask = (state: ScheduleState): boolean => state.paused || state.deleting !== null;

/** Milliseconds until the clock alone makes the schedule due; null when only a request can. */
export function waitMs(state: ScheduleState, nowMs: number): number | null {
  if (state.deleting !== null || state.paused) return null;
  const times = [state.nextRunAtMs, state.retryAtMs].filter(time => time !== null);
  return times.length === 0 ? null : Math.max(0, Math.min(...times) - nowMs);
}

/** What the schedule tells about itself. */
export function statusOf(
  spec: ScheduleSpec,
  state: ScheduleState,
  running: { readonly taskUuid: string } | null,
  deleted = false,
): ScheduleStatus {
  return {
    spec,
    settings: state.settings,
    state: deleted ? 'deleted' : activityState(state, running !== null),
    paused: state.paused,
    nextRunAtMs: state.nextRunAtMs,
    skippedRuns: state.skippedRuns,
    newestPointAtMs: state.newestPointAtMs,
    behindSinceMs: state.behindSinceMs,
    lastTask: state.lastTask,
    runningTask: running,
    requests: state.requests,
  };
}

function activityState(state: ScheduleState, isRunning: boolean): ScheduleActivityState {
  if (state.deleting !== null) return 'deleting';
  if (state.paused) return isRunning || !state.recordedPaused ? 'pausing' : 'paused';
  return isRunning ? 'running' : 'waiting';
}

/** After 5 s, doubling up to 1 min, never later than the interval. */
function withRetry(state: ScheduleState, nowMs: number): ScheduleState {
  const delayMs = Math.min(
    FIRST_RETRY_MS * 2 ** Math.min(state.fruitlessTasks, 10),
    MOST_RETRY_MS,
    state.settings.everyMs ?? MOST_RETRY_MS,
  );
  return { ...state, retryAtMs: nowMs + delayMs, fruitlessTasks: state.fruitlessTasks + 1 };
}

const BEING_DELETED = 'the schedule is being deleted';

const accept = (
  state: ScheduleState,
  requestId: string,
  reason: string | null,
  change: Partial<ScheduleState> = {},
): ScheduleState => answer(state, requestId, true, reason, change);

const refuse = (state: ScheduleState, requestId: string, reason: string): ScheduleState =>
  answer(state, requestId, false, reason, {});

/** Applies a request once: a signal may be delivered, or sent by its caller, more than once. */
function answer(
  state: ScheduleState,
  requestId: string,
  accepted: boolean,
  reason: string | null,
  change: Partial<ScheduleState>,
): ScheduleState {
  if (state.requests.some(request => request.requestId === requestId)) return state;
  const requests = [...state.requests, { requestId, accepted, reason }].slice(-MAX_REQUESTS);
  return { ...state, ...change, requests };
}
