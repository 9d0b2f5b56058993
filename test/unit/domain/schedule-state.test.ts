import { describe, expect, it } from 'vitest';
import type {
  ScheduleSettings,
  ScheduleState,
  TaskOutcome,
  TaskSummary,
} from '../../../src/contract/schedule.ts';
import type { TaskResult } from '../../../src/contract/workflows.ts';
import {
  deleteRequested,
  MAX_REQUESTS,
  paused,
  resumed,
  runRequested,
} from '../../../src/domain/schedule-requests.ts';
import {
  afterTask,
  failedTask,
  initialScheduleState,
  isDue,
  mustPlan,
  mustStopTask,
  needsAction,
  nextRunPlanned,
  pauseRecorded,
  registered,
  taskBegun,
  waitMs,
} from '../../../src/domain/schedule-state.ts';
import { statusOf } from '../../../src/domain/schedule-status.ts';

const settings: ScheduleSettings = {
  type: 'interval',
  everyMs: 60_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};
const spec = {
  contractVersion: 1,
  uuid: 'u',
  name: 'nightly',
  replicaSite: 'b',
  sourceSite: 'a',
  host: 'web-1',
};
const NOW = 1_000_000;
const ROW_PAUSED = { paused: true, draining: false, releasing: false };
const ROW_LIVE = { ...ROW_PAUSED, paused: false };

const live = (change: Partial<ScheduleState> = {}): ScheduleState => ({
  ...initialScheduleState(settings, { paused: false }),
  registered: true,
  nextRunAtMs: NOW + 60_000,
  ...change,
});

const result = (outcome: TaskOutcome, targetTakenAtMs: number | null = 500): TaskResult => {
  const summary: TaskSummary = {
    taskUuid: 't',
    generation: 1,
    outcome,
    reason: null,
    warnings: [],
    startedAtMs: NOW,
    finishedAtMs: NOW,
    hostSnapshot: null,
    disks: [],
  };
  return { summary, targetTakenAtMs };
};

describe('requests', () => {
  it('change the state once for one id', () => {
    const once = runRequested(live(), 'r1');
    const begun = taskBegun(once, NOW);
    expect(once.runRequested).toBe(true);
    expect(runRequested(begun, 'r1')).toBe(begun);
    expect(paused(begun, 'r1')).toBe(begun);
  });
  it('are remembered up to a bound, the newest', () => {
    let state = live();
    for (let index = 0; index < MAX_REQUESTS + 5; index++) state = runRequested(state, `r${index}`);
    expect(state.requests).toHaveLength(MAX_REQUESTS);
    expect(state.requests.at(-1)?.requestId).toBe(`r${MAX_REQUESTS + 4}`);
  });
  it('pause takes back a run that was asked for', () => {
    const state = paused(runRequested(live(), 'r1'), 'r2');
    expect(state).toMatchObject({ paused: true, runRequested: false });
    expect(mustStopTask(state)).toBe(true);
    expect(needsAction(state)).toBe(true);
  });
  it('run is refused while paused', () => {
    const state = runRequested(live({ paused: true }), 'r');
    expect(state).toMatchObject({ runRequested: false, requests: [{ accepted: false }] });
  });
  it('all but delete are refused while deleting', () => {
    const deleting = live({ deleting: { purge: false } });
    for (const request of [paused, resumed, runRequested]) {
      expect(request(deleting, 'r').requests[0]).toEqual({
        requestId: 'r',
        accepted: false,
        reason: 'the schedule is being deleted',
      });
    }
    const purging = deleteRequested(deleting, 'r', { purge: true });
    expect(purging.deleting).toEqual({ purge: true, force: false });
    const forced = deleteRequested(purging, 's', { purge: false, force: true });
    expect(forced.deleting).toEqual({ purge: true, force: true });
  });
  it('that ask for what is so already are accepted, and say so', () => {
    expect(resumed(live(), 'r').requests[0]).toMatchObject({ accepted: true, reason: 'it was not paused' });
    expect(paused(live({ paused: true }), 'r').requests[0]?.reason).toBe('it was paused already');
    expect(runRequested(live({ runRequested: true }), 'r').requests[0]?.accepted).toBe(true);
  });
});

describe('registration', () => {
  const record = { uuid: 'u', settings, ...ROW_PAUSED, revision: 4, nextRunAtMs: 9 };
  it("takes over the row's word", () => {
    const state = registered(initialScheduleState(settings, { paused: false }), record);
    expect(state).toMatchObject({
      registered: true,
      paused: true,
      recordedPause: ROW_PAUSED,
      revision: 4,
      nextRunAtMs: 9,
    });
  });
  it("lets an operator's earlier word count more", () => {
    const asked = resumed(initialScheduleState(settings, { paused: true }), 'r');
    const state = registered(asked, record);
    expect(state).toMatchObject({ paused: false, recordedPause: ROW_PAUSED });
    expect(needsAction(state)).toBe(true);
  });
});

describe('when a task is due', () => {
  it('at its time, when asked, and never while paused, deleting or unknown to B', () => {
    expect(isDue(live(), NOW)).toBe(false);
    expect(isDue(live(), NOW + 60_000)).toBe(true);
    expect(isDue(live({ runRequested: true }), NOW)).toBe(true);
    for (const change of [{ paused: true }, { deleting: { purge: false } }, { registered: false }]) {
      expect(isDue(live({ runRequested: true, nextRunAtMs: 0, ...change }), NOW)).toBe(false);
    }
  });
  it("only after B's row says that it was resumed", () => {
    const state = resumed(live({ paused: true, recordedPause: ROW_PAUSED, nextRunAtMs: 0 }), 'r');
    expect(isDue(state, NOW)).toBe(false);
    expect(isDue(pauseRecorded(state, ROW_LIVE), NOW)).toBe(true);
  });
  it('at once after a resume when a task was paused', () => {
    const state = afterTask(live({ paused: true }), result('paused'), NOW);
    expect(isDue(state, NOW)).toBe(false);
    expect(isDue(resumed(state, 'r'), NOW)).toBe(true);
  });
  it('is planned anew once its time was taken', () => {
    const begun = taskBegun(live({ nextRunAtMs: NOW - 5 }), NOW);
    expect(begun).toMatchObject({ nextRunAtMs: null, lastDueAtMs: NOW - 5 });
    expect(mustPlan(begun)).toBe(true);
    expect(mustPlan({ ...begun, paused: true })).toBe(false);
    const planned = nextRunPlanned(begun, { nextRunAtMs: NOW + 9, skippedRuns: 2 });
    expect(planned).toMatchObject({ nextRunAtMs: NOW + 9, skippedRuns: 2 });
    expect(waitMs(planned, NOW)).toBe(9);
  });
  it('keeps its time when a task ran by request', () => {
    expect(taskBegun(live({ runRequested: true }), NOW)).toMatchObject({
      runRequested: false,
      nextRunAtMs: NOW + 60_000,
      lastDueAtMs: null,
    });
  });
  it('has no time while paused', () => {
    expect(waitMs(live({ paused: true }), NOW)).toBeNull();
    expect(waitMs(live({ nextRunAtMs: null }), NOW)).toBeNull();
  });
});

describe('after a task', () => {
  it('that published, the point is the newest and nothing is behind', () => {
    const state = afterTask(live({ behindSinceMs: 3, fruitlessTasks: 2 }), result('published'), NOW);
    expect(state).toMatchObject({ newestPointAtMs: 500, behindSinceMs: null, fruitlessTasks: 0 });
  });
  it('is behind by what the source told of meanwhile and the task did not bring', () => {
    const news = [4, 5, 6].map(sequence => ({ sequence, atMs: sequence * 10 }));
    const state = afterTask(
      live({ behindSinceMs: 3, news }),
      { ...result('published'), answeredSequence: 5 },
      NOW,
    );
    expect(state).toMatchObject({ behindSinceMs: 60, news: [{ sequence: 6 }], answeredSequence: 5 });
    const upToDate = { ...result('upToDate', null), answeredSequence: 6 };
    expect(afterTask(state, upToDate, NOW)).toMatchObject({ behindSinceMs: null, news: [] });
    expect(afterTask(state, result('paused'), NOW)).toMatchObject({ behindSinceMs: 60, news: state.news });
    // A task of version 0.1.0 does not tell.
    expect(afterTask(state, result('published'), NOW)).toMatchObject({ behindSinceMs: null, news: [] });
  });
  it('that found nothing, looks again after 5 s, doubling up to a minute', () => {
    let state = live();
    const delays = Array.from({ length: 6 }, () => {
      state = afterTask(state, result('waiting', null), NOW);
      return (state.retryAtMs ?? 0) - NOW;
    });
    expect(delays).toEqual([5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
    expect(waitMs(state, NOW)).toBe(60_000);
  });
  it('that was up to date, waits for the next run', () => {
    const state = afterTask(live({ behindSinceMs: 3 }), result('upToDate', null), NOW);
    expect(state).toMatchObject({ behindSinceMs: null, retryAtMs: null });
  });
  it('that did not finish, stays behind since the first it missed', () => {
    const state = afterTask(live(), result('paused'), NOW);
    expect(state.behindSinceMs).toBe(500);
    expect(afterTask(state, result('superseded', 900), NOW).behindSinceMs).toBe(500);
  });
  it('that failed, says so and tries again', () => {
    const failed = failedTask({ taskUuid: 't', startedAtMs: NOW, reason: 'terminated' }, NOW);
    const state = afterTask(live(), failed, NOW);
    expect(state.lastTask).toMatchObject({
      outcome: 'stopped',
      reason: expect.stringContaining('terminated'),
    });
    expect(state.retryAtMs).toBe(NOW + 5_000);
  });
});

describe('the status', () => {
  it('tells a retry from a task that found nothing until one is published, and not while paused', () => {
    const fruitless = afterTask(afterTask(live(), result('waiting', null), NOW), result('stopped'), NOW);
    const retryIn = (state: ScheduleState) => statusOf(spec, state, { running: null }).retry;
    expect(retryIn(fruitless)).toEqual({ attempt: 3, atMs: fruitless.retryAtMs });
    expect(retryIn(taskBegun(fruitless, NOW))).toEqual({ attempt: 3, atMs: null });
    expect(retryIn(paused(fruitless, 'r'))).toBeNull();
    expect(retryIn(afterTask(fruitless, result('published'), NOW))).toBeNull();
  });

  it.each([
    [live(), false, 'waiting'],
    [live(), true, 'running'],
    [live({ paused: true }), true, 'pausing'],
    [live({ paused: true }), false, 'pausing'],
    [live({ paused: true, draining: true }), true, 'pausing'],
    [live({ paused: true, recordedPause: ROW_PAUSED }), false, 'paused'],
    [live({ paused: true, recordedPause: ROW_PAUSED }), true, 'paused'],
    [live({ paused: true, deleting: { purge: false } }), true, 'deleting'],
  ])('names the state', (state, isRunning, name) => {
    const running = isRunning ? { taskUuid: 't' } : null;
    expect(statusOf(spec, state, { running })).toMatchObject({ state: name, runningTask: running });
  });
  it('says deleted at the end', () => {
    const state = live({ deleting: { purge: false } });
    expect(statusOf(spec, state, { running: null, isDeleted: true }).state).toBe('deleted');
  });
  it.each([
    [live({ paused: true, draining: true }), {}, 'pauses when the running task has ended'],
    [
      live({ paused: true, recordedPause: ROW_PAUSED }),
      { isStopping: true },
      'the stopped task is still ending',
    ],
    [live({ recordedPause: ROW_PAUSED }), { isStopping: true }, 'goes on when the stopped task has ended'],
  ])('says what it leaves open', (state, stopping, note) => {
    expect(statusOf(spec, state, { running: { taskUuid: 't' }, ...stopping }).note).toBe(note);
  });
  it('says what it waits for at a silent source', () => {
    const releasing = live({ paused: true, recordedPause: ROW_PAUSED, releasing: true });
    expect(statusOf(spec, releasing, { running: null })).toMatchObject({
      state: 'paused',
      note: 'waits until site a has released what the stopped task locked',
    });
    const deleting = live({ deleting: { purge: false } });
    expect(statusOf(spec, deleting, { running: null }).note).toContain('waits until site a has released');
  });
});
