/** Every signal in every step of a task: none is lost, none applied twice, and what follows is as it should be. */
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { allBut, FakeSites, hangUntilCancelled, SETTINGS, until } from './support/fake-sites.ts';

let sites: FakeSites;
beforeEach(() => {
  sites = new FakeSites();
});
afterEach(() => sites.stop());

/** In the order in which a task calls them. */
const STEPS = [
  'createEmptyTask',
  'stopPreviousDiskTasks',
  'querySyncInfo',
  'releaseOtherLocks',
  'recordSyncInfo',
  'checkScheduleValid',
  'openReceiver',
  'sendDisk',
  'awaitReceived',
  'stopSender',
  'finishDiskTask',
  'finishTask',
] as const;
type Step = (typeof STEPS)[number];

const count = (name: Parameters<FakeSites['callsOf']>[0]): number => sites.callsOf(name).length;

/** Sends a request twice, as a caller does that lost the first answer. */
async function twice(...[signal, extra]: Parameters<FakeSites['request']>): Promise<void> {
  const requestId = randomUUID();
  await sites.handle.signal(signal, { requestId, ...extra });
  expect(await sites.request(signal, extra, requestId)).toMatchObject({ accepted: true });
}

const published = (sequence: number): Promise<unknown> =>
  until(`snapshot ${sequence}`, async () =>
    sites.published?.hostSnapshot === `snapshot-${sequence}` ? true : null,
  );

/** Begins a task with something to do, and stops the world at one of its steps. */
async function holdAt(step: Step) {
  const held = sites.hold(step);
  sites.snapshots += 1;
  await sites.request('runNow');
  await held.reached;
  return held;
}

// A dozen tasks each; on a busy machine that takes its time.
describe('in every step of a task', { timeout: 240_000 }, () => {
  it('a pause is true of bytes at once, whatever the task still does; resume goes on', async () => {
    await sites.start();
    await sites.startSchedule();
    await published(1);
    for (const step of STEPS) {
      await sites.untilStatus({ state: 'waiting' });
      const held = await holdAt(step);
      const tasks = count('createEmptyTask');
      await twice('pause');
      // Some steps hear of it and end; the others go on behind the pause.
      await sites.untilStatus({ state: 'paused' });
      expect(sites.rowPaused, step).toBe(true);
      held.release();
      await sites.untilStatus({ state: 'paused', runningTask: null, note: null });
      expect(count('createEmptyTask'), step).toBe(tasks);
      await twice('resume');
      // What was held may have published already: the row of the resume is waited for by itself.
      await until('the row', async () => (sites.rowPaused ? null : true));
      await published(sites.snapshots);
    }
    const pauses = sites.callsOf('recordPaused').map(({ input }) => input.paused);
    expect(pauses).toEqual(STEPS.flatMap(() => [true, false]));
    const revisions = sites.callsOf('recordPaused').map(({ input }) => input.revision);
    expect(revisions).toEqual([...revisions].sort((left, right) => left - right));
  });

  it('a drain lets it finish; release gives up what it did not, and the next begins anew', async () => {
    await sites.start();
    await sites.startSchedule();
    await published(1);
    for (const step of STEPS) {
      await sites.untilStatus({ state: 'waiting' });
      const held = await holdAt(step);
      await twice('pause', { mode: 'drain' });
      const draining = await sites.untilStatus({ note: 'pauses when the running task has ended' });
      expect(draining).toMatchObject({ state: 'pausing', paused: true });
      expect(await sites.request('runNow')).toMatchObject({ accepted: false });
      if (step === 'finishDiskTask' || step === 'finishTask') {
        held.release();
        await published(sites.snapshots);
        await sites.untilStatus({ state: 'paused', runningTask: null });
      }
      const given = count('releaseUnfinished');
      await twice('pause', { mode: 'release' });
      await sites.untilStatus({ state: 'paused' });
      held.release();
      await sites.untilStatus({ state: 'paused', runningTask: null, note: null });
      await until('the row', async () =>
        sites.callsOf('recordPaused').at(-1)?.input.releasing === false ? true : null,
      );
      expect(count('releaseUnfinished'), step).toBe(given + 1);
      expect(sites.unfinished).toBeNull();
      await twice('resume');
      await sites.request('runNow');
      await published(sites.snapshots);
    }
    const drains = sites.callsOf('recordPaused').filter(({ input }) => input.draining);
    expect(drains).toHaveLength(STEPS.length);
    expect(drains.every(({ input }) => !input.paused)).toBe(true);
  });

  it('delete ends it and the schedule, by force also without the source', async () => {
    await sites.start();
    for (const [index, step] of STEPS.entries()) {
      const held = sites.hold(step);
      await sites.startSchedule();
      await held.reached;
      if (index % 2 === 0) await sites.request('pause', { mode: 'drain' });
      const { handle } = sites;
      await sites.handle.signal('delete', { requestId: 'once', purge: false });
      await sites.handle.signal('delete', { requestId: 'once', purge: true });
      await sites.untilStatus({ state: 'deleting' });
      held.release();
      await handle.result();
      expect(count('createEmptyTask'), step).toBe(1);
      expect(sites.order.slice(-2), step).toEqual(['retireSchedule', 'finishDelete']);
      expect(sites.callsOf('finishDelete')[0]?.input.request.purge).toBe(false);
      sites.renew();
    }
  });
});

describe('a pause', () => {
  it('is told at once although a source that was stopped hears nothing; a resume waits for the old task', async () => {
    await sites.start();
    let wake = () => {};
    const deaf = new Promise<void>(resolve => {
      wake = resolve;
    });
    const { sendDisk } = sites.activities;
    sites.activities.sendDisk = async input => {
      await deaf;
      return sendDisk(input);
    };
    await sites.startSchedule();
    await sites.untilCalled('sendDisk', 2);
    await sites.request('pause');
    await sites.untilStatus({ state: 'paused', note: 'the stopped task is still ending' });
    expect(sites.rowPaused).toBe(true);
    await sites.request('resume');
    await sites.untilStatus({ note: 'goes on when the stopped task has ended' });
    expect(count('createEmptyTask')).toBe(1);
    sites.activities.sendDisk = sendDisk;
    wake();
    await published(1);
    expect(count('createEmptyTask')).toBe(2);
  });

  it('with release waits for a silent source, and says so; resume takes it back', async () => {
    await sites.start(allBut('source'));
    await sites.startSchedule();
    await sites.untilCalled('createEmptyTask');
    await sites.request('pause', { mode: 'release' });
    const note = `waits until site ${sites.spec.sourceSite} has released what the stopped task locked`;
    await sites.untilStatus({ state: 'paused', note });
    await sites.request('updateSettings', { settings: { rpoMs: 60_000 } });
    await sites.untilStatus({ state: 'paused', note });
    await sites.request('resume');
    await sites.untilStatus({ state: 'running' });
    await sites.start(['source']);
    await published(1);
    expect(count('releaseUnfinished')).toBe(0);
  });

  it('before the first run, or while the row is made, holds', async () => {
    await sites.start();
    const held = sites.hold('registerSchedule');
    await sites.startSchedule();
    await held.reached;
    await sites.request('pause', { mode: 'drain' });
    held.release();
    await sites.untilStatus({ state: 'paused', note: null });
    expect(count('createEmptyTask')).toBe(0);
    await sites.request('resume');
    await published(1);
  });
});

describe('delete by force', () => {
  it('leaves a workflow that releases at the source, when that answers again', async () => {
    await sites.start(allBut('source'));
    await sites.startSchedule();
    await sites.untilCalled('createEmptyTask');
    await sites.request('delete', { purge: true });
    await sites.untilCalled('beginDelete', 2);
    await sites.untilStatus({ state: 'deleting', runningTask: null });
    expect((await sites.status()).note).toContain('waits until site');
    expect(count('finishDelete')).toBe(0);
    await sites.request('delete', { purge: false, force: true });
    await sites.handle.result();
    expect(sites.callsOf('finishDelete')[0]?.input.request).toEqual({ purge: true, force: true });
    const release = sites.client.workflow.getHandle(`release/${sites.spec.uuid}`);
    expect((await release.describe()).status.name).toBe('RUNNING');
    expect(count('retireSchedule')).toBe(0);
    await sites.start(['source']);
    await release.result();
    expect(count('retireSchedule')).toBe(1);
  });

  it('is refused what comes after the last step has begun', async () => {
    await sites.start();
    await sites.startSchedule({ paused: true });
    const held = sites.hold('finishDelete');
    await sites.request('delete', { purge: false });
    await held.reached;
    expect(await sites.request('delete', { purge: true })).toMatchObject({ accepted: false });
    held.release();
    await sites.handle.result();
  });
});

describe('new settings', () => {
  it('are refused with every reason, else written before they hold, and the next run is planned anew', async () => {
    await sites.start();
    await sites.startSchedule();
    await published(1);
    const plannedAtMs = await until('the plan', async () => (await sites.status()).nextRunAtMs);
    const refused = await sites.request('updateSettings', { settings: { everyMs: 10, rpoMs: -1 } });
    expect(refused).toMatchObject({ accepted: false });
    expect(refused.reason).toContain('shorter than 1 second; the RPO');
    expect(count('recordSettings')).toBe(0);
    const planned = count('planNextRun');
    await twice('updateSettings', { settings: { everyMs: 7_200_000 } });
    const nextRunAtMs = plannedAtMs + 3_600_000;
    expect(await sites.untilStatus({ nextRunAtMs, skippedRuns: 0 })).toMatchObject({
      settings: { ...SETTINGS, everyMs: 7_200_000 },
    });
    expect(sites.callsOf('recordSettings').map(({ input }) => input.replan)).toEqual([true]);
    expect(count('planNextRun')).toBe(planned + 1);
    const order = sites.order;
    expect(order.lastIndexOf('recordSettings')).toBeLessThan(order.lastIndexOf('planNextRun'));
    await sites.request('updateSettings', { settings: { rpoMs: 60_000 } });
    await until('the second write', async () => sites.callsOf('recordSettings')[1]);
    expect(count('planNextRun')).toBe(planned + 1);
  });

  it('reach a running task: its rate changes at the source, in order', async () => {
    await sites.start();
    const { sendDisk } = sites.activities;
    sites.activities.sendDisk = () => hangUntilCancelled();
    await sites.startSchedule();
    await sites.untilCalled('sendDisk', 2);
    for (const bandwidthBytesPerSecond of [4096, 8192, null]) {
      const told = count('setRate');
      await sites.request('updateSettings', { settings: { bandwidthBytesPerSecond } });
      await sites.untilCalled('setRate', told + 1);
    }
    const taskUuid = (await sites.status()).runningTask?.taskUuid;
    const { uuid: scheduleUuid } = sites.spec;
    expect(sites.callsOf('setRate').map(({ input }) => input)).toEqual([
      { scheduleUuid, taskUuid, revision: 1, bandwidthBytesPerSecond: 4096 },
      { scheduleUuid, taskUuid, revision: 2, bandwidthBytesPerSecond: 8192 },
      { scheduleUuid, taskUuid, revision: 3, bandwidthBytesPerSecond: null },
    ]);
    sites.activities.sendDisk = sendDisk;
    await sites.request('pause');
    await sites.request('updateSettings', { settings: { bandwidthBytesPerSecond: 512 } });
    await sites.request('resume');
    await published(1);
    expect(sites.callsOf('sendDisk').at(-1)?.input.bandwidthBytesPerSecond).toBe(512);
  });
});
