/** The life of a schedule as pure transitions: what a request, a task and the clock do to its state. */
import type { ScheduleRecord } from '../contract/replica-activities.ts';
import type {
  Blackout,
  DeleteRequest,
  PlannedRun,
  RecordedPause,
  ScheduleSettings,
  ScheduleState,
  TaskOutcome,
  TaskSummary,
} from '../contract/schedule.ts';
import type { TaskResult } from '../contract/workflows.ts';
import { sameSettings } from './settings.ts';

/** Bounds a run's history: about 100 events a task. */
export const ROLL_OVER_AFTER_TASKS = 100;

/** So often a continuous schedule looks although nobody told it that there is something newer. */
export const SLOW_POLL_MS = 5 * 60_000;

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
    newSettings: null,
    paused: options.paused,
    draining: false,
    releasing: false,
    recordedPause: { ...NOT_PAUSED, paused: options.paused },
    revision: 0,
    deleting: null,
    deleteSettled: false,
    runRequested: false,
    snapshotHinted: false,
    nextRunAtMs: null,
    lastDueAtMs: null,
    nextRunReason: null,
    blackout: null,
    pollAtMs: null,
    replanning: false,
    retryAtMs: null,
    fruitlessTasks: 0,
    skippedRuns: 0,
    skippedReason: null,
    lastTask: null,
    newestPointAtMs: null,
    behindSinceMs: null,
    news: [],
    answeredSequence: 0,
    siteOffsetMs: 0,
    requests: [],
    searchAttributes: false,
    rollOverAfterTasks: ROLL_OVER_AFTER_TASKS,
  };
}

/**
 * The state of a schedule whose workflow is gone, from B's rows; registering reads the rest of its row. A task that
 * was cut short, or found nothing yet, is followed by another as soon as the schedule may run.
 */
export function restoredScheduleState(row: {
  readonly settings: ScheduleSettings;
  readonly paused: boolean;
  readonly deleting: DeleteRequest | null;
  readonly newestPointAtMs: number | null;
  readonly lastTask: {
    readonly summary: TaskSummary;
    readonly unpublishedTakenAtMs: number | null;
  } | null;
}): ScheduleState {
  const { settings, paused, deleting, newestPointAtMs, lastTask } = row;
  const isDone = lastTask === null || DONE.has(lastTask.summary.outcome);
  return {
    ...initialScheduleState(settings, { paused }),
    // A row that is being deleted cannot be registered again, and need not be.
    registered: deleting !== null,
    deleting,
    newestPointAtMs,
    lastTask: lastTask?.summary ?? null,
    retryAtMs: isDone ? null : lastTask.summary.finishedAtMs,
    behindSinceMs: lastTask?.unpublishedTakenAtMs ?? null,
  };
}

/** The state in which the workflow of a schedule that is deleted already only removes what it left. */
export const purgingScheduleState = (): ScheduleState => ({
  ...initialScheduleState(NO_SETTINGS, { paused: true }),
  registered: true,
  // The source has nothing to do with it.
  deleting: { purge: true, force: true },
});

const NO_SETTINGS: ScheduleSettings = {
  type: 'interval',
  everyMs: 24 * 3_600_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

/** After these there is nothing to go on with. */
const DONE: ReadonlySet<TaskOutcome | null> = new Set(['published', 'upToDate']);

const NOT_PAUSED: RecordedPause = { paused: false, draining: false, releasing: false };

/** A state that an older version handed over, with what it did not know yet. */
export const completeState = (state: ScheduleState): ScheduleState => ({
  ...initialScheduleState(state.settings, { paused: state.paused }),
  ...state,
});

/** B's row is there. An operator's word that came before it counts more than what the row said. */
export function registered(state: ScheduleState, record: ScheduleRecord): ScheduleState {
  const { paused, draining, releasing } = record;
  const asked = state.requests.length > 0;
  return {
    ...state,
    registered: true,
    settings: record.settings,
    paused: asked ? state.paused : paused || draining,
    releasing: asked ? state.releasing : releasing,
    recordedPause: { paused, draining, releasing },
    revision: record.revision,
    nextRunAtMs: record.nextRunAtMs,
  };
}

/** What B's row is to say of a pause. */
export const wantedPause = (state: ScheduleState, isRunning: boolean): RecordedPause => ({
  paused: state.paused && !(state.draining && isRunning),
  draining: state.paused && state.draining && isRunning,
  releasing: state.releasing,
});

/** True when B's row does not say yet what the operator wants. */
export function isRowStale(state: ScheduleState, isRunning: boolean): boolean {
  if (!state.registered || state.deleting !== null) return false;
  return state.newSettings !== null || isPauseStale(state, isRunning);
}

export function isPauseStale(state: ScheduleState, isRunning: boolean): boolean {
  const wanted = wantedPause(state, isRunning);
  const { recordedPause: recorded } = state;
  return (
    wanted.paused !== recorded.paused ||
    wanted.draining !== recorded.draining ||
    wanted.releasing !== recorded.releasing
  );
}

/** B's row is about to be written: each write has a number of its own. */
export const revised = (state: ScheduleState): ScheduleState => ({ ...state, revision: state.revision + 1 });

/** B's row now says this. Where it says paused, no task is left that could be let finish. */
export const pauseRecorded = (state: ScheduleState, recordedPause: RecordedPause): ScheduleState => ({
  ...state,
  recordedPause,
  draining: state.draining && !recordedPause.paused,
});

/** B's row has these settings. Newer ones, given meanwhile, are still to be written. */
export function settingsRecorded(state: ScheduleState, settings: ScheduleSettings): ScheduleState {
  const newSettings = state.newSettings === settings ? null : state.newSettings;
  const written = { ...state, settings, newSettings };
  if (!changesRhythm(state.settings, settings)) return written;
  return { ...written, nextRunAtMs: null, pollAtMs: null, replanning: state.nextRunAtMs !== null };
}

/** True when the next run has to be planned anew. */
export const changesRhythm = (before: ScheduleSettings, after: ScheduleSettings): boolean =>
  !sameSettings(
    { ...before, rpoMs: null, bandwidthBytesPerSecond: null },
    { ...after, rpoMs: null, bandwidthBytesPerSecond: null },
  );

/** Both sites gave up what an unfinished task began. */
export const unfinishedGivenUp = (state: ScheduleState): ScheduleState => ({ ...state, releasing: false });

/** Nothing can be added to the request to delete any more. */
export const deleteSettled = (state: ScheduleState): ScheduleState => ({ ...state, deleteSettled: true });

/** Takes the plan of the next run. */
export function nextRunPlanned(state: ScheduleState, next: PlannedRun): ScheduleState {
  const skippedRuns = state.replanning ? 0 : next.skippedRuns;
  return {
    ...state,
    nextRunAtMs: next.nextRunAtMs,
    nextRunReason: next.nextRunReason ?? null,
    blackout: next.blackout ?? null,
    replanning: false,
    skippedRuns: state.skippedRuns + skippedRuns,
    skippedReason: skippedRuns === 0 ? state.skippedReason : (next.skippedReason ?? null),
  };
}

/** So far the answer of an activity may lie behind its clock, and clocks that are kept by NTP apart. */
const CLOCKS_AGREE_MS = 2_000;

/** The replica site's clock as an answer told it. @param siteNowMs undefined from a version that did not tell */
export function siteClockSeen(
  state: ScheduleState,
  siteNowMs: number | undefined,
  nowMs: number,
): ScheduleState {
  if (siteNowMs === undefined) return state;
  return { ...state, siteOffsetMs: unlessClose(siteNowMs - nowMs) };
}

const unlessClose = (offsetMs: number): number => (Math.abs(offsetMs) <= CLOCKS_AGREE_MS ? 0 : offsetMs);

/** Takes the blackout that lasts, or the next. */
export const blackoutFound = (state: ScheduleState, blackout: Blackout | null): ScheduleState => ({
  ...state,
  blackout,
});

/** A task begins. Requests to run that come from here on lead to another. */
export function taskBegun(state: ScheduleState, nowMs: number): ScheduleState {
  const begun = { ...state, runRequested: false, snapshotHinted: false, retryAtMs: null, pollAtMs: null };
  if (state.settings.type === 'continuous') return { ...begun, lastDueAtMs: nowMs, nextRunAtMs: null };
  const due = state.nextRunAtMs !== null && state.nextRunAtMs <= nowMs ? state.nextRunAtMs : null;
  return {
    ...begun,
    lastDueAtMs: due ?? state.lastDueAtMs,
    nextRunAtMs: due === null ? state.nextRunAtMs : null,
  };
}

/** A task ended with a result. */
export function afterTask(state: ScheduleState, result: TaskResult, nowMs: number): ScheduleState {
  const { summary, targetTakenAtMs } = result;
  const siteOffsetMs =
    result.siteOffsetMs === undefined ? state.siteOffsetMs : unlessClose(result.siteOffsetMs);
  const ended = { ...state, siteOffsetMs, lastTask: summary, ...newsAfter(state, result) };
  const stillBehindSinceMs = ended.news[0]?.atMs ?? null;
  switch (summary.outcome) {
    case 'published':
      return {
        ...ended,
        fruitlessTasks: 0,
        behindSinceMs: stillBehindSinceMs,
        newestPointAtMs: targetTakenAtMs ?? state.newestPointAtMs,
        // The base of a journal was published: the journal itself is not waited for.
        retryAtMs: result.continues === true ? nowMs : null,
      };
    case 'upToDate':
      return { ...withPoll(ended, nowMs), fruitlessTasks: 0, behindSinceMs: stillBehindSinceMs };
    case 'waiting':
      return state.settings.type === 'continuous' ? withPoll(ended, nowMs) : withRetry(ended, nowMs);
    case 'paused':
      return { ...ended, retryAtMs: nowMs, behindSinceMs: state.behindSinceMs ?? targetTakenAtMs };
    default:
      return withRetry({ ...ended, behindSinceMs: state.behindSinceMs ?? targetTakenAtMs }, nowMs);
  }
}

/** What A told of while the task ran and the task did not bring is news still. */
function newsAfter(
  { news, answeredSequence: before }: ScheduleState,
  { summary, answeredSequence }: TaskResult,
): Pick<ScheduleState, 'news' | 'answeredSequence'> {
  const isAnswered = summary.outcome === 'published' || summary.outcome === 'upToDate';
  if (!isAnswered) return { news, answeredSequence: before };
  // A task of version 0.1.0 does not tell.
  if (answeredSequence == null) return { news: [], answeredSequence: 0 };
  return { news: news.filter(({ sequence }) => sequence > answeredSequence), answeredSequence };
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
  if (state.deleting !== null || state.paused || state.recordedPause.paused || !state.registered)
    return false;
  return state.runRequested || waitMs(state, nowMs) === 0;
}

/** True when the next run has to be planned before the schedule can wait for it. */
export const mustPlan = (state: ScheduleState): boolean =>
  state.nextRunAtMs === null && !state.paused && state.deleting === null;

/** True when something is to be done before the schedule may wait on. */
export const needsAction = (state: ScheduleState): boolean =>
  state.deleting !== null || isRowStale(state, false) || state.releasing || mustPlan(state);

/** True when a running task has to be stopped. */
export const mustStopTask = (state: ScheduleState): boolean =>
  state.deleting !== null || (state.paused && !state.draining);

/** Milliseconds until the clock alone makes the schedule due; null when only a request can. */
export function waitMs(state: ScheduleState, nowMs: number): number | null {
  if (state.deleting !== null || state.paused) return null;
  const dueAtMs = state.settings.type === 'continuous' ? continuousDueAtMs(state) : intervalDueAtMs(state);
  return dueAtMs === null ? null : Math.max(0, clearOf(state.blackout, dueAtMs, nowMs) - nowMs);
}

function intervalDueAtMs({ nextRunAtMs, retryAtMs }: ScheduleState): number | null {
  const times = [nextRunAtMs, retryAtMs].filter(time => time !== null);
  return times.length === 0 ? null : Math.min(...times);
}

/** As soon as it may, unless it was told that there is nothing newer, or failed. */
function continuousDueAtMs(state: ScheduleState): number | null {
  const { nextRunAtMs, retryAtMs, pollAtMs, snapshotHinted } = state;
  if (nextRunAtMs === null) return null;
  return Math.max(nextRunAtMs, retryAtMs ?? (snapshotHinted ? 0 : (pollAtMs ?? 0)));
}

/** What is due in the blackout is due at its end. */
function clearOf(blackout: Blackout | null, dueAtMs: number, nowMs: number): number {
  const atMs = Math.max(dueAtMs, nowMs);
  return isInside(blackout, atMs) ? blackout.endsAtMs : dueAtMs;
}

/** True when the blackout lasts at this time. */
export const isInside = (blackout: Blackout | null, atMs: number): blackout is Blackout =>
  blackout !== null && blackout.startsAtMs <= atMs && atMs < blackout.endsAtMs;

/** After 5 s, doubling up to 1 min, never later than the interval. */
function withRetry(state: ScheduleState, nowMs: number): ScheduleState {
  const delayMs = Math.min(
    FIRST_RETRY_MS * 2 ** Math.min(state.fruitlessTasks, 10),
    MOST_RETRY_MS,
    state.settings.everyMs ?? MOST_RETRY_MS,
  );
  return { ...state, retryAtMs: nowMs + delayMs, fruitlessTasks: state.fruitlessTasks + 1 };
}

/** A continuous schedule sleeps until it is told, and looks now and then all the same. */
const withPoll = (state: ScheduleState, nowMs: number): ScheduleState =>
  state.settings.type === 'continuous' ? { ...state, pollAtMs: nowMs + SLOW_POLL_MS } : state;
