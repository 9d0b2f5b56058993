import { describe, expect, it } from 'vitest';
import type { ScheduleSettings, ScheduleState } from '../../../src/contract/schedule.ts';
import {
  deleteRequested,
  mergedSettings,
  paused,
  resumed,
  settingsChanged,
  snapshotHinted,
} from '../../../src/domain/schedule-requests.ts';
import {
  afterTask,
  initialScheduleState,
  isDue,
  mustStopTask,
  nextRunPlanned,
  pauseRecorded,
  SLOW_POLL_MS,
  settingsRecorded,
  taskBegun,
  waitMs,
  wantedPause,
} from '../../../src/domain/schedule-state.ts';

const settings: ScheduleSettings = {
  type: 'interval',
  everyMs: 60_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};
const continuous: ScheduleSettings = { ...settings, type: 'continuous', everyMs: null };
const NOW = 1_000_000;
const ROW_PAUSED = { paused: true, draining: false, releasing: false };

const live = (change: Partial<ScheduleState> = {}): ScheduleState => ({
  ...initialScheduleState(settings, { paused: false }),
  registered: true,
  nextRunAtMs: NOW + 60_000,
  ...change,
});
const answerOf = (state: ScheduleState) => state.requests.at(-1);

describe('a pause', () => {
  it('that drains lets the task finish, and is a plain one when none runs', () => {
    const state = paused(live(), 'r', 'drain');
    expect(mustStopTask(state)).toBe(false);
    expect(wantedPause(state, true)).toEqual({ paused: false, draining: true, releasing: false });
    expect(wantedPause(state, false)).toEqual(ROW_PAUSED);
    expect(pauseRecorded(state, ROW_PAUSED).draining).toBe(false);
  });
  it('with a stronger mode takes over, one with a weaker changes nothing', () => {
    const draining = paused(live(), 'a', 'drain');
    const now = paused(draining, 'b', 'now');
    expect(now).toMatchObject({ draining: false, releasing: false });
    expect(answerOf(now)?.reason).toBeNull();
    const releasing = paused(now, 'c', 'release');
    expect(releasing).toMatchObject({ draining: false, releasing: true });
    const after = paused(paused(releasing, 'd', 'drain'), 'e', 'now');
    expect(after).toMatchObject({ draining: false, releasing: true });
    expect(answerOf(after)?.reason).toBe('it was paused already');
    expect(resumed(after, 'f')).toMatchObject({ paused: false, draining: false, releasing: false });
  });
});

describe('new settings', () => {
  it('wait for their row, and the newest of several are written', () => {
    const first = settingsChanged(live(), 'a', { everyMs: 5_000 });
    expect(first).toMatchObject({ settings, newSettings: { ...settings, everyMs: 5_000 } });
    const second = settingsChanged(first, 'b', { rpoMs: 1_000 });
    expect(second.newSettings).toEqual({ ...settings, everyMs: 5_000, rpoMs: 1_000 });
    const written = settingsRecorded(second, first.newSettings ?? settings);
    expect(written.newSettings).toBe(second.newSettings);
    const last = settingsRecorded(second, second.newSettings ?? settings);
    expect(last).toMatchObject({ newSettings: null, nextRunAtMs: null, replanning: true });
  });
  it('plan the next run anew only for another rhythm, and count no skipped runs then', () => {
    const rate = { ...settings, bandwidthBytesPerSecond: 4096 };
    expect(settingsRecorded(live(), rate).nextRunAtMs).toBe(NOW + 60_000);
    const replanning = settingsRecorded(live(), { ...settings, everyMs: 5_000 });
    const planned = nextRunPlanned(replanning, { nextRunAtMs: NOW, skippedRuns: 9, skippedReason: 'x' });
    expect(planned).toMatchObject({ nextRunAtMs: NOW, skippedRuns: 0, skippedReason: null });
  });
  it('are refused with all reasons, also when they are no settings at all', () => {
    const state = settingsChanged(live(), 'r', { everyMs: 1, rpoMs: 0 });
    expect(state.newSettings).toBeNull();
    expect(answerOf(state)).toMatchObject({ accepted: false, reason: expect.stringContaining('; ') });
    const nonsense = { notBetween: 7 } as unknown as Partial<ScheduleSettings>;
    expect(answerOf(settingsChanged(live(), 'r', nonsense))?.accepted).toBe(false);
    expect(answerOf(settingsChanged(live(), 'r', { everyMs: 60_000 }))).toMatchObject({
      accepted: true,
      reason: 'it had these settings already',
    });
  });
  it('of one rhythm take the place of another', () => {
    const cron = mergedSettings(settings, { cron: '0 2 * * *', timeZone: 'Europe/Berlin' });
    expect(cron).toEqual({ ...settings, everyMs: null, cron: '0 2 * * *', timeZone: 'Europe/Berlin' });
    expect(mergedSettings(cron, { type: 'continuous' })).toEqual(continuous);
    expect(mergedSettings(continuous, { everyMs: 60_000 })).toEqual(settings);
    expect(mergedSettings(settings, { rpoMs: 5 })).toEqual({ ...settings, rpoMs: 5 });
  });
});

describe('a delete', () => {
  it('takes what was added, until its last step has begun', () => {
    const first = deleteRequested(live(), 'a', { purge: false });
    const second = deleteRequested(first, 'b', { purge: true, force: true });
    expect(second.deleting).toEqual({ purge: true, force: true });
    const late = deleteRequested({ ...first, deleteSettled: true }, 'c', { purge: true });
    expect(late.deleting).toEqual({ purge: false, force: false });
    expect(answerOf(late)?.accepted).toBe(false);
  });
  it('makes an end of everything else that was asked for', () => {
    const busy = live({ releasing: true, paused: true, newSettings: settings, runRequested: true });
    expect(deleteRequested(busy, 'r', { purge: false })).toMatchObject({
      releasing: false,
      newSettings: null,
      runRequested: false,
    });
  });
});

describe('a continuous schedule', () => {
  const state = live({ settings: continuous, nextRunAtMs: NOW });
  const summary = {
    taskUuid: 't',
    generation: 1,
    reason: null,
    warnings: [],
    startedAtMs: NOW,
    finishedAtMs: NOW,
    hostSnapshot: null,
    disks: [],
  };
  const ended = (outcome: 'published' | 'upToDate' | 'waiting') => {
    const result = { summary: { ...summary, outcome }, targetTakenAtMs: null };
    const after = afterTask(taskBegun(state, NOW), result, NOW);
    return nextRunPlanned(after, { nextRunAtMs: NOW, skippedRuns: 0 });
  };

  it('is due at once, and again after what it published', () => {
    expect(isDue(state, NOW)).toBe(true);
    expect(isDue(ended('published'), NOW)).toBe(true);
  });
  it.each(['upToDate', 'waiting'] as const)('sleeps when %s, until it is told or its poll comes', outcome => {
    const asleep = ended(outcome);
    expect(waitMs(asleep, NOW)).toBe(SLOW_POLL_MS);
    const told = snapshotHinted(asleep, 'web-1', { host: 'web-1' }, NOW);
    expect(isDue(told, NOW)).toBe(true);
    expect(told.behindSinceMs).toBe(NOW);
    expect(snapshotHinted(told, 'web-1', { host: 'web-1' }, NOW + 5)).toEqual(told);
    expect(snapshotHinted(asleep, 'web-1', { host: 'web-2' }, NOW)).toBe(asleep);
    expect(taskBegun(told, NOW).snapshotHinted).toBe(false);
  });
  it('waits for the end of the blackout also when it is told', () => {
    const blackout = { startsAtMs: NOW - 5, endsAtMs: NOW + 900 };
    const told = snapshotHinted({ ...ended('upToDate'), blackout }, 'web-1', { host: 'web-1' }, NOW);
    expect(waitMs(told, NOW)).toBe(900);
  });
});

it('an interval schedule does not run for a hint', () => {
  const state = snapshotHinted(live(), 'web-1', { host: 'web-1' }, NOW);
  expect(state).toMatchObject({ snapshotHinted: false, behindSinceMs: NOW });
  expect(isDue(state, NOW)).toBe(false);
});

it('what the source has newer is remembered in its order, bounded; a late word of what is there is none', () => {
  const told = (state: ScheduleState, sequence: number) =>
    snapshotHinted(state, 'web-1', { host: 'web-1', sequence }, NOW + sequence);
  const state = [3, 4, 4, 2, 5].reduce(told, live());
  expect(state.behindSinceMs).toBe(NOW + 3);
  expect(state.news).toEqual([3, 4, 5].map(sequence => ({ sequence, atMs: NOW + sequence })));
  const many = Array.from({ length: 100 }, (_, index) => index + 1).reduce(told, live());
  expect(many.news.length).toBeLessThan(50);
  expect(many.news.at(-1)).toEqual({ sequence: 100, atMs: NOW + 100 });
  const late = live({ answeredSequence: 7 });
  expect(told(late, 7)).toBe(late);
});
