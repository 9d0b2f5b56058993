import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { allBut, FakeSites, failure, hangUntilCancelled, SETTINGS, until } from './support/fake-sites.ts';

let sites: FakeSites;
beforeEach(() => {
  sites = new FakeSites();
});
afterEach(() => sites.stop());

const lastIndex = (name: string): number => sites.order.lastIndexOf(name as never);

/** Senders hang until they are cancelled, and note when that has happened. */
function hangSenders(): { ended: number } {
  const seen = { ended: 0 };
  sites.activities.sendDisk = () =>
    hangUntilCancelled(async () => {
      await new Promise(resolve => setTimeout(resolve, 400));
      seen.ended += 1;
    });
  return seen;
}

describe('pause', () => {
  it('stops a task in the middle of its transfers; resume goes on with what it began', async () => {
    await sites.start();
    const { sendDisk } = sites.activities;
    const senders = hangSenders();
    await sites.startSchedule();
    await sites.untilCalled('sendDisk', 2);
    expect((await sites.status()).state).toBe('running');
    await sites.request('pause');
    const task = await sites.untilTaskEnds(1);
    expect(task.outcome).toBe('paused');
    expect(senders.ended).toBe(2);
    expect(lastIndex('recordPaused')).toBeLessThan(lastIndex('endTask'));
    expect(await sites.status()).toMatchObject({ state: 'paused', paused: true, runningTask: null });

    sites.activities.sendDisk = sendDisk;
    await sites.request('resume');
    expect((await sites.untilTaskEnds(2)).outcome).toBe('published');
    expect(sites.callsOf('recordPaused').map(({ input }) => input.paused)).toEqual([true, false]);
    expect(sites.callsOf('querySyncInfo')[1]?.input.unfinished).toEqual({ hostSnapshot: 'snapshot-1' });
  });

  it('does not wait for a source that is silent', async () => {
    await sites.start(allBut('transfer', 'sourceControl'));
    await sites.startSchedule();
    await sites.untilCalled('awaitReceived', 2);
    await sites.request('pause');
    expect((await sites.untilTaskEnds(1)).outcome).toBe('paused');
  });

  it('closes the sessions before the senders have ended', async () => {
    await sites.start();
    let pausedFirst = false;
    sites.activities.sendDisk = () =>
      hangUntilCancelled(async () => {
        pausedFirst = sites.rowPaused;
      });
    await sites.startSchedule();
    await sites.untilCalled('sendDisk', 2);
    await sites.request('pause');
    await sites.untilTaskEnds(1);
    expect(pausedFirst).toBe(true);
  });

  it('refuses to run while paused, and says why', async () => {
    await sites.start(['replica']);
    await sites.startSchedule({ paused: true });
    const outcome = await sites.request('runNow');
    expect(outcome).toMatchObject({ accepted: false, reason: 'the schedule is paused: resume it first' });
    expect(sites.callsOf('createEmptyTask')).toHaveLength(0);
  });
});

describe('requests', () => {
  it('runs now, once for one request id', async () => {
    await sites.start();
    await sites.startSchedule();
    await sites.untilTaskEnds(1);
    await sites.request('runNow', {}, 'same');
    await sites.untilTaskEnds(2);
    await sites.request('runNow', {}, 'same');
    await sites.request('pause');
    await until('the pause', async () => ((await sites.status()).state === 'paused' ? true : null));
    expect(sites.callsOf('createEmptyTask')).toHaveLength(2);
    const ids = (await sites.status()).requests.map(({ requestId }) => requestId);
    expect(ids.filter(id => id === 'same')).toHaveLength(1);
  });

  it('runs once more when asked while a task runs', async () => {
    await sites.start();
    const { sendDisk } = sites.activities;
    let release = () => {};
    const released = new Promise<void>(resolve => {
      release = resolve;
    });
    sites.activities.sendDisk = async input => {
      await released;
      return sendDisk(input);
    };
    await sites.startSchedule();
    await sites.untilCalled('sendDisk', 2);
    await sites.request('runNow');
    release();
    expect((await sites.untilTaskEnds(2)).outcome).toBe('upToDate');
  });

  it('is neither lost nor applied twice around the roll-overs of the workflow', {
    timeout: 180_000,
  }, async () => {
    await sites.start();
    await sites.startSchedule({ state: { rollOverAfterTasks: 1 } });
    const ids: string[] = [];
    let rpoMs = 0;
    for (let round = 1; round <= 10 && !(await sites.sawSignalBetweenRuns()); round++) {
      const mine = Array.from({ length: 20 }, (_, index) => `request-${round}-${index}`);
      for (const [index, requestId] of mine.entries()) {
        const signal = index % 2 === 0 ? 'runNow' : 'updateSettings';
        if (signal === 'updateSettings') rpoMs += 1_000;
        // Twice each, as a caller does that lost the answer.
        await Promise.all([1, 2].map(() => sites.handle.signal(signal, { requestId, settings: { rpoMs } })));
        await new Promise(resolve => setTimeout(resolve, 25));
      }
      ids.push(...mine);
      await until('all answers', async () => {
        const known = (await sites.status()).requests.filter(({ requestId }) => mine.includes(requestId));
        expect(known.length).toBeLessThanOrEqual(mine.length);
        return known.length === mine.length && known.every(({ accepted }) => accepted) ? true : null;
      });
      // In the order in which they were sent, also those that waited for the next run.
      const order = (await sites.status()).requests.map(({ requestId }) => requestId);
      expect(order.filter(id => mine.includes(id))).toEqual(mine);
    }
    expect(await sites.sawSignalBetweenRuns(), 'a signal must meet a roll-over').toBe(true);
    await until('the last settings', async () =>
      sites.callsOf('recordSettings').at(-1)?.input.settings.rpoMs === rpoMs ? true : null,
    );
    const written = sites.callsOf('recordSettings').map(({ input }) => input.settings.rpoMs);
    expect(written).toEqual([...new Set(written)].sort((left, right) => left - right));
    expect(sites.callsOf('registerSchedule')).toHaveLength(1);
    // Every run of a task was asked for: the first by the clock, each other by at least one request.
    expect(sites.callsOf('createEmptyTask').length).toBeLessThanOrEqual(ids.length / 2 + 1);
  });
});

describe('delete', () => {
  it('waits for the source, shows as deleting meanwhile, and ends', async () => {
    await sites.start(allBut('source'));
    await sites.startSchedule({ paused: true });
    await until('the registration', async () => (sites.callsOf('registerSchedule').length > 0 ? true : null));
    await sites.request('delete', { purge: true });
    await sites.untilCalled('beginDelete');
    expect((await sites.status()).state).toBe('deleting');
    expect(await sites.request('resume')).toMatchObject({ accepted: false });
    expect(sites.callsOf('finishDelete')).toHaveLength(0);
    await sites.start(['source']);
    await sites.handle.result();
    expect(sites.order.slice(-3)).toEqual(['beginDelete', 'retireSchedule', 'finishDelete']);
    expect(sites.callsOf('finishDelete')[0]?.input.request).toEqual({ purge: true, force: false });
    expect((await sites.status()).state).toBe('deleted');
  });

  it('stops a running task first and waits until nothing runs', async () => {
    await sites.start();
    const senders = hangSenders();
    let endedAtRetire = -1;
    sites.activities.retireSchedule = async () => {
      endedAtRetire = senders.ended;
      return { released: 1 };
    };
    await sites.startSchedule();
    await sites.untilCalled('sendDisk', 2);
    await sites.request('delete', { purge: false });
    await sites.handle.result();
    expect(endedAtRetire).toBe(2);
    expect(sites.order.indexOf('beginDelete')).toBeLessThan(sites.order.indexOf('endTask'));
    expect(sites.callsOf('finishTask')).toHaveLength(0);
  });
});

describe('a schedule', () => {
  it('fails when another has its name or its host', async () => {
    await sites.start(['replica']);
    sites.activities.registerSchedule = async () => {
      throw failure('ScheduleConflict', 'host web-1 has the schedule weekly already');
    };
    await sites.startSchedule();
    await expect(sites.handle.result()).rejects.toMatchObject({
      cause: { type: 'ScheduleConflict', message: 'host web-1 has the schedule weekly already' },
    });
  });

  it('refuses settings that no command line would let through', async () => {
    await sites.start(['replica']);
    await sites.startSchedule({ state: { settings: { ...SETTINGS, everyMs: 10 } } });
    await expect(sites.handle.result()).rejects.toMatchObject({ cause: { type: 'InvalidInput' } });
    expect(sites.calls).toEqual([]);
  });

  it('goes on after the workflow of a task was terminated', async () => {
    await sites.start();
    const { sendDisk } = sites.activities;
    hangSenders();
    await sites.startSchedule();
    await sites.untilCalled('sendDisk', 2);
    const running = (await sites.status()).runningTask?.taskUuid ?? '';
    sites.activities.sendDisk = sendDisk;
    await sites.client.workflow.getHandle(`task/${running}`).terminate('by hand');
    await until('the word of it', async () => (await sites.status()).lastTask?.reason);
    await sites.request('runNow');
    expect((await sites.untilTaskEnds(2)).outcome).toBe('published');
  });

  it('runs beside another on the same server', async () => {
    const other = new FakeSites();
    try {
      await Promise.all([sites.start(), other.start()]);
      await Promise.all([sites.startSchedule(), other.startSchedule()]);
      const tasks = await Promise.all([sites.untilTaskEnds(1), other.untilTaskEnds(1)]);
      expect(tasks.map(({ outcome }) => outcome)).toEqual(['published', 'published']);
      expect(sites.callsOf('createEmptyTask').map(({ input }) => input.scheduleUuid)).toEqual([
        sites.spec.uuid,
      ]);
      expect(other.callsOf('createEmptyTask').map(({ input }) => input.scheduleUuid)).toEqual([
        other.spec.uuid,
      ]);
    } finally {
      await other.stop();
    }
  });

  it('tells what its task does', async () => {
    await sites.start();
    hangSenders();
    await sites.startSchedule();
    await sites.untilCalled('sendDisk', 2);
    const taskUuid = (await sites.status()).runningTask?.taskUuid ?? '';
    expect(await sites.taskStatus(taskUuid)).toMatchObject({
      plan: 1,
      step: 'diskTasks',
      summary: { outcome: null, hostSnapshot: 'snapshot-1', disks: [{ disk: 'vda', method: 'full' }, {}] },
    });
  });
});
