import { ApplicationFailure } from '@temporalio/common';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { taskWorkflowId } from '../../src/contract/names.ts';
import { beat, FakeSites, failure, hangUntilCancelled } from './support/fake-sites.ts';

let sites: FakeSites;
beforeEach(async () => {
  sites = new FakeSites();
  await sites.start();
});
afterEach(() => sites.stop());

const perDisk = ['checkScheduleValid', 'openReceiver', 'stopSender', 'finishDiskTask'];

describe('a task', () => {
  it('goes through its steps in order and publishes', async () => {
    await sites.startSchedule();
    const task = await sites.untilTaskEnds(1);
    expect(task.outcome).toBe('published');
    const order = sites.order.filter(name => ![...perDisk, 'sendDisk', 'awaitReceived'].includes(name));
    expect(order.slice(0, 8)).toEqual([
      'registerSchedule',
      'planNextRun',
      'createEmptyTask',
      'stopPreviousDiskTasks',
      'querySyncInfo',
      'releaseOtherLocks',
      'recordSyncInfo',
      'finishTask',
    ]);
    for (const disk of ['vda', 'vdb']) {
      const mine = sites.calls.filter(({ input }) => input.diskTaskUuid?.endsWith(disk));
      const names = mine.map(({ name }) => name).filter(name => perDisk.includes(name));
      expect(names).toEqual(['openReceiver', 'stopSender', 'finishDiskTask']);
    }
    expect(sites.callsOf('releaseOtherLocks')[0]?.input.keepTaskUuids).toEqual([task.taskUuid]);
    expect((await sites.status()).newestPointAtMs).toBe(1_000);
  });

  it('ends after the locks when there is nothing new', async () => {
    await sites.startSchedule();
    await sites.untilTaskEnds(1);
    await sites.request('runNow');
    const task = await sites.untilTaskEnds(2);
    expect(task.outcome).toBe('upToDate');
    const second = sites.order.slice(sites.order.lastIndexOf('createEmptyTask'));
    expect(second.slice(0, 5)).toEqual([
      'createEmptyTask',
      'stopPreviousDiskTasks',
      'querySyncInfo',
      'releaseOtherLocks',
      'endTask',
    ]);
    const kept = sites.callsOf('releaseOtherLocks')[1]?.input.keepTaskUuids;
    expect(kept).toEqual([sites.published?.taskUuid, task.taskUuid]);
  });

  it('plans anew when the ground changed, after the other disk has ended', async () => {
    const { sendDisk } = sites.activities;
    let otherEnded = false;
    sites.activities.sendDisk = async input => {
      if (input.fence.plan > 1) return sendDisk(input);
      if (input.disk === 'vda') throw failure('PlanBroken', 'the base was edited');
      return hangUntilCancelled(async () => {
        otherEnded = true;
      });
    };
    const raisePlan = sites.activities.raisePlan;
    sites.activities.raisePlan = async input => {
      expect(otherEnded).toBe(true);
      return raisePlan(input);
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
    expect(sites.callsOf('raisePlan').map(({ input }) => input.reason)).toEqual(['the base was edited']);
    const plans = sites.callsOf('querySyncInfo').map(({ input }) => input.fence.plan);
    expect(plans).toEqual([1, 2]);
    expect(sites.callsOf('stopPreviousDiskTasks')).toHaveLength(2);
    expect(sites.callsOf('finishTask')[0]?.input.fence.plan).toBe(2);
  });

  it('asks again, with its reason to be seen, where the answer cannot be', async () => {
    const { querySyncInfo } = sites.activities;
    const hostile = '\u001b[2J.control';
    sites.activities.querySyncInfo = async query => {
      const answer = await querySyncInfo(query);
      const disks = answer.target?.disks.map(disk => ({ ...disk, sourceNode: hostile })) ?? [];
      const nonsense = [
        { ...answer, target: answer.target && { ...answer.target, disks } },
        { ...answer, target: answer.target && { ...answer.target, takenAtMs: 1e300 } },
      ];
      return (nonsense[query.fence.plan - 1] ?? answer) as typeof answer;
    };
    sites.activities.recordSyncInfo = (record => async input => {
      if (input.fence.plan === 3) throw failure('AnswerInvalid', 'target.proof is a list of 9999');
      return record(input);
    })(sites.activities.recordSyncInfo);
    const { raisePlan } = sites.activities;
    const told: (string | null)[] = [];
    sites.activities.raisePlan = async input => {
      told.push((await sites.taskStatus(input.taskUuid)).summary.reason);
      return raisePlan(input);
    };
    await sites.startSchedule();
    const task = await sites.untilTaskEnds(1);
    expect(task.outcome).toBe('published');
    const reasons = sites.callsOf('raisePlan').map(({ input }) => input.reason as string);
    expect(reasons[0]).toContain("target.disks[0].sourceNode is '\\u001b[2J.control'");
    expect(reasons[1]).toContain('target.takenAtMs');
    expect(reasons[2]).toBe('target.proof is a list of 9999');
    expect(told).toEqual(reasons);
    expect(sites.callsOf('releaseOtherLocks').map(({ input }) => input.fence.plan)).toEqual([3, 4]);
    const { events } = await sites.client.workflow.getHandle(taskWorkflowId(task.taskUuid)).fetchHistory();
    expect(events?.filter(event => event.workflowTaskFailedEventAttributes != null)).toEqual([]);
  });

  it('ends as superseded when a newer task has taken over', async () => {
    sites.activities.recordSyncInfo = async () => {
      throw failure('Superseded', 'generation 9 was seen');
    };
    await sites.startSchedule();
    expect(await sites.untilTaskEnds(1)).toMatchObject({
      outcome: 'superseded',
      reason: 'generation 9 was seen',
    });
    expect(sites.callsOf('finishTask')).toHaveLength(0);
  });

  it('hands on to B what stood above it at A', async () => {
    const seen = { generation: 9, plan: 2 };
    sites.activities.stopPreviousDiskTasks = async () => {
      throw ApplicationFailure.create({ type: 'Superseded', nonRetryable: true, details: [{ seen }] });
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('superseded');
    expect(sites.callsOf('endTask')[0]?.input).toMatchObject({ outcome: 'superseded', seen });
  });

  it('ends as waiting, with the reason, while the source has nothing, and looks again by itself', async () => {
    const { querySyncInfo } = sites.activities;
    sites.activities.querySyncInfo = async () => ({
      result: 'none',
      target: null,
      row: 2,
      reason: 'the source does not know the host',
      skipped: [],
      skippedCount: 0,
      warnings: [],
      waiting: true,
    });
    await sites.startSchedule();
    expect(await sites.untilTaskEnds(1)).toMatchObject({
      outcome: 'waiting',
      reason: 'the source does not know the host',
    });
    sites.activities.querySyncInfo = querySyncInfo;
    expect((await sites.untilTaskEnds(2)).outcome).toBe('published');
  });

  it('goes on retrying an activity that fails for a reason that an operator can mend', async () => {
    const { querySyncInfo } = sites.activities;
    let attempts = 0;
    sites.activities.querySyncInfo = async query => {
      attempts += 1;
      if (attempts === 1) throw new Error('the image vanished');
      return querySyncInfo(query);
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
    expect(attempts).toBe(2);
  });
});

describe('a disk task', () => {
  it('opens a new receiver when one was lost, with a higher epoch', async () => {
    const { awaitReceived } = sites.activities;
    sites.activities.sendDisk = async input => {
      if (input.receiver.epoch.openCount === 1) return hangUntilCancelled();
      sites.received.add(input.diskTaskUuid);
      return { diskTaskUuid: input.diskTaskUuid, durableBytes: 1, totalBytes: 1, note: null };
    };
    sites.activities.awaitReceived = async input => {
      if (input.epoch.openCount === 1) throw failure('ReopenNeeded', 'the receiver is gone');
      return awaitReceived(input);
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
    const counts = sites.callsOf('openReceiver').map(({ input }) => input.epoch.openCount);
    expect(counts.toSorted()).toEqual([1, 1, 2, 2]);
    expect(sites.callsOf('querySyncInfo')).toHaveLength(1);
  });

  it('opens a new receiver when the sender cannot reach it', async () => {
    const { sendDisk } = sites.activities;
    sites.activities.sendDisk = async input => {
      if (input.receiver.epoch.openCount === 1) throw failure('ReopenNeeded', 'unreachable for 2 minutes');
      return sendDisk(input);
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
    expect(sites.callsOf('openReceiver')).toHaveLength(4);
  });

  it("takes B's word while the sender hangs", async () => {
    sites.activities.sendDisk = async input => {
      sites.received.add(input.diskTaskUuid);
      return hangUntilCancelled();
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
  });

  it("takes B's word when the sender failed after the last byte", async () => {
    sites.activities.sendDisk = async input => {
      setTimeout(() => sites.received.add(input.diskTaskUuid), 300);
      throw failure('PlanBroken', 'the image vanished after it was sent');
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
    expect(sites.callsOf('raisePlan')).toHaveLength(0);
  });

  it('waits for B after the sender has ended well', async () => {
    sites.activities.sendDisk = async ({ diskTaskUuid }) => {
      setTimeout(() => sites.received.add(diskTaskUuid), 500);
      return { diskTaskUuid, durableBytes: 1, totalBytes: 1, note: null };
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
    expect(sites.callsOf('openReceiver')).toHaveLength(2);
  });

  it('plans anew when the receiver gives up and the sender says that the plan is broken', async () => {
    const { awaitReceived, sendDisk } = sites.activities;
    sites.activities.awaitReceived = async input => {
      if (input.fence.plan > 1) return awaitReceived(input);
      throw failure('ReopenNeeded', 'the connection closed');
    };
    sites.activities.sendDisk = async input => {
      if (input.fence.plan > 1) return sendDisk(input);
      for (let beats = 0; beats < 10; beats++) await beat().catch(() => {});
      throw failure('PlanBroken', 'the map has another digest');
    };
    await sites.startSchedule();
    expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
    expect(sites.callsOf('raisePlan').length).toBeGreaterThan(0);
  });

  it('ends the task as stopped when the schedule no longer wants it', async () => {
    sites.activities.checkScheduleValid = async () => ({ valid: false, reason: 'the row is gone' });
    await sites.startSchedule();
    expect(await sites.untilTaskEnds(1)).toMatchObject({ outcome: 'stopped', reason: 'the row is gone' });
    expect(sites.callsOf('openReceiver')).toHaveLength(0);
  });
});
