import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Blackout } from '../../src/contract/schedule.ts';
import { FakeSites, hangUntilCancelled, SETTINGS, until } from './support/fake-sites.ts';

const HOUR_MS = 3_600_000;

let sites: FakeSites;
beforeEach(() => {
  sites = new FakeSites();
});
afterEach(() => sites.stop());

/** The site tells of this blackout, whatever the settings' windows are; it is made when it is asked for first. */
function tellBlackout(make: () => Blackout): () => Blackout | undefined {
  let told: Blackout | undefined;
  const blackout = () => {
    told ??= make();
    return told;
  };
  sites.activities.findBlackout = async () => blackout();
  sites.activities.planNextRun = async ({ afterMs }) => ({
    nextRunAtMs: afterMs === null ? Date.now() : afterMs + HOUR_MS,
    skippedRuns: 0,
    skippedReason: null,
    nextRunReason: null,
    blackout: afterMs === null && told === undefined ? null : blackout(),
  });
  return () => told;
}
const start = () =>
  sites.startSchedule({ state: { settings: { ...SETTINGS, notBetween: ['08:00-18:00'] } } });

const hangingSenders = (): { ended: number } => {
  const seen = { ended: 0 };
  sites.activities.sendDisk = () =>
    hangUntilCancelled(async () => {
      seen.ended += 1;
    });
  return seen;
};

describe('blackout hours', () => {
  it('stop a task that runs when they begin; it goes on with what it began when they end', async () => {
    await sites.start();
    const { sendDisk } = sites.activities;
    const senders = hangingSenders();
    // Time enough for the senders to begin.
    const told = tellBlackout(() => ({ startsAtMs: Date.now() + 3_000, endsAtMs: Date.now() + 5_000 }));
    await start();
    await sites.untilCalled('sendDisk', 2);
    await sites.untilCalled('closeSessions');
    expect(Date.now()).toBeGreaterThanOrEqual(told()?.startsAtMs ?? Infinity);
    await sites.untilTaskEnds(1);
    expect(senders.ended).toBe(2);
    expect(await sites.status()).toMatchObject({ state: 'waiting', paused: false });
    sites.activities.sendDisk = sendDisk;
    await sites.untilCalled('createEmptyTask', 2);
    expect(Date.now()).toBeGreaterThanOrEqual(told()?.endsAtMs ?? Infinity);
    expect((await sites.untilTaskEnds(2)).outcome).toBe('published');
    expect(sites.callsOf('querySyncInfo')[1]?.input.unfinished).toEqual({ hostSnapshot: 'snapshot-1' });
  });

  it('put off what is due in them, but not what an operator asks for', async () => {
    await sites.start();
    tellBlackout(() => ({ startsAtMs: Date.now() - 1_000, endsAtMs: Date.now() + HOUR_MS }));
    await start();
    await sites.untilCalled('planNextRun');
    await until('the look', async () => (await sites.status()).blackout);
    expect((await sites.status()).state).toBe('waiting');
    expect(sites.callsOf('createEmptyTask')).toEqual([]);
    await sites.request('runNow');
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
    expect(sites.callsOf('closeSessions')).toEqual([]);
  });
});
