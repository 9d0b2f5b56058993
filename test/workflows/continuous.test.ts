import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ScheduleSettings } from '../../src/contract/schedule.ts';
import { SLOW_POLL_MS } from '../../src/domain/schedule-state.ts';
import { FakeSites, SETTINGS, until } from './support/fake-sites.ts';

const CONTINUOUS: ScheduleSettings = { ...SETTINGS, type: 'continuous', everyMs: null };

let sites: FakeSites;
beforeEach(async () => {
  sites = new FakeSites();
  await sites.start();
});
afterEach(() => sites.stop());

const start = (settings = CONTINUOUS, paused = false) => sites.startSchedule({ paused, state: { settings } });

const hint = (requestId: string, host = sites.spec.host) =>
  sites.handle.signal('snapshotAvailable', { requestId, host, sequence: sites.snapshots });

const untilUpToDate = (tasks: number) =>
  until('the schedule up to date', async () => {
    const { lastTask, state } = await sites.status();
    return lastTask?.outcome === 'upToDate' && lastTask.generation >= tasks && state === 'waiting'
      ? lastTask
      : null;
  });

const targets = (): unknown[] =>
  sites.callsOf('recordSyncInfo').map(({ input }) => input.answer.target.hostSnapshot);

describe('a continuous schedule', () => {
  it('runs at once, takes one snapshot after the other, then sleeps until it is told', async () => {
    await start();
    await untilUpToDate(2);
    const { nextRunAtMs } = await sites.status();
    expect(nextRunAtMs).toBeGreaterThan(Date.now() + SLOW_POLL_MS / 2);
    expect(nextRunAtMs).toBeLessThanOrEqual(Date.now() + SLOW_POLL_MS);

    sites.snapshots = 4;
    await Promise.all(Array.from({ length: 10 }, (_, index) => hint(`hint-${index}`)));
    await untilUpToDate(6);
    expect(targets()).toEqual(['snapshot-1', 'snapshot-2', 'snapshot-3', 'snapshot-4']);
    // The hints that came after the first task had begun are one more look at most.
    const { lastTask, requests } = await sites.status();
    expect(lastTask?.generation).toBeLessThanOrEqual(7);
    expect(requests).toEqual([]);
    expect(new Set(sites.callsOf('querySyncInfo').map(({ input }) => input.type))).toEqual(
      new Set(['continuous']),
    );
  });

  it('remembers one hint while it is paused, and not those of another host', async () => {
    await start();
    await untilUpToDate(2);
    await sites.request('pause');
    await sites.untilStatus({ state: 'paused' });
    const tasks = sites.callsOf('createEmptyTask').length;
    await hint('stranger', 'web-2');
    expect((await sites.status()).behindSinceMs).toBeNull();
    sites.snapshots = 2;
    for (const requestId of ['one', 'two', 'three']) await hint(requestId);
    const { behindSinceMs } = await until('the word of it', async () => {
      const status = await sites.status();
      return status.behindSinceMs === null ? null : status;
    });
    expect(behindSinceMs).toBeLessThanOrEqual(Date.now());
    expect(sites.callsOf('createEmptyTask')).toHaveLength(tasks);
    await sites.request('resume');
    await untilUpToDate(tasks + 2);
    expect(sites.callsOf('createEmptyTask')).toHaveLength(tasks + 2);
  });

  it('becomes one by an update, and stops being one', async () => {
    await start(SETTINGS);
    await sites.untilTaskEnds(1);
    await sites.request('updateSettings', { settings: { type: 'continuous' } });
    await untilUpToDate(2);
    expect((await sites.status()).settings).toEqual(CONTINUOUS);
    await sites.request('updateSettings', { settings: { everyMs: 3_600_000 } });
    const planned = await until('the plan', async () => {
      const { nextRunAtMs, settings } = await sites.status();
      return settings.type === 'interval' && nextRunAtMs !== null && nextRunAtMs > Date.now() + SLOW_POLL_MS
        ? nextRunAtMs
        : null;
    });
    expect(planned).toBeLessThanOrEqual(Date.now() + 3_600_000);
  });
});

describe('an interval schedule', () => {
  it('does not run for a hint, but knows that it is behind', async () => {
    await start(SETTINGS);
    await sites.untilTaskEnds(1);
    const nextRunAtMs = await until('the plan', async () => (await sites.status()).nextRunAtMs);
    // A word of what is published already comes late, and says nothing.
    await hint('late');
    sites.snapshots = 2;
    await hint('one');
    await until('the word of it', async () => (await sites.status()).behindSinceMs);
    expect(await sites.status()).toMatchObject({ state: 'waiting', nextRunAtMs });
    expect(sites.callsOf('createEmptyTask')).toHaveLength(1);
  });
});
