import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createReplicaInventory } from '../../../src/catalog/replica-inventory.ts';
import { lockTypeOf } from '../../../src/contract/names.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  answerOf,
  FINGERPRINT,
  fenceOf,
  NOTHING,
  newSchedule,
  planOf,
  publishTask,
  recordPaused,
  SETTINGS,
  specOf,
} from './fixtures.ts';

const database = useTestDatabase();
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
});

const begin = (taskUuid: string = randomUUID()) =>
  catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });

const scheduleRow = () => database().db('remote_backup_schedules').where({ uuid: spec.uuid }).first();

describe('registering a schedule', () => {
  it('again finds it as it is, also by two callers at once', async () => {
    const other = specOf();
    const input = { spec: other, settings: SETTINGS, paused: true };
    const expected = {
      uuid: other.uuid,
      settings: SETTINGS,
      paused: true,
      draining: false,
      releasing: false,
      revision: 0,
      nextRunAtMs: null,
    };
    const both = await Promise.all([catalog.registerSchedule(input), catalog.registerSchedule(input)]);
    expect(both).toEqual([expected, expected]);
    await recordPaused(catalog, other.uuid, false);
    expect(await catalog.registerSchedule(input)).toMatchObject({
      ...expected,
      paused: false,
      revision: expect.any(Number),
    });
  });

  it('is refused while another live schedule has its name, or its host from its source', async () => {
    const conflicts = [
      { spec: specOf({ name: spec.name }), message: `named ${spec.name}` },
      { spec: specOf({ host: spec.host }), message: spec.name },
    ];
    for (const conflict of conflicts) {
      const input = { spec: conflict.spec, settings: SETTINGS, paused: false };
      await expect(catalog.registerSchedule(input)).rejects.toMatchObject({
        code: 'ScheduleConflict',
        message: expect.stringContaining(conflict.message),
      });
    }
    await newSchedule(catalog, { host: spec.host, sourceSite: 'c' });
  });

  it('is refused with odd names or for another site', async () => {
    for (const changes of [{ host: '../etc' }, { name: 'a/b' }, { sourceSite: 'A' }, { replicaSite: 'c' }]) {
      const input = { spec: specOf(changes), settings: SETTINGS, paused: false };
      await expect(catalog.registerSchedule(input)).rejects.toMatchObject({ code: 'InvalidInput' });
    }
  });
});

describe('the next run', () => {
  const store = (afterMs: number | null, nextRunAtMs: number) =>
    catalog.storeNextRun({ scheduleUuid: spec.uuid, afterMs, nextRunAtMs });

  it('is stored once for the run that it follows, and never goes back', async () => {
    expect(await store(null, 1_000)).toEqual({ nextRunAtMs: 1_000 });
    expect(await store(null, 9_000)).toEqual({ nextRunAtMs: 1_000 });
    expect(await store(1_000, 2_000)).toEqual({ nextRunAtMs: 2_000 });
    expect(await store(1_000, 9_000)).toEqual({ nextRunAtMs: 2_000 });
    expect(await store(null, 9_000)).toEqual({ nextRunAtMs: 2_000 });
    expect((await scheduleRow()).next_run_at.getTime()).toBe(2_000);
  });
});

describe('createEmptyTask', () => {
  it('gives the same task to the same uuid, also to two callers at once', async () => {
    const taskUuid = randomUUID();
    const [first, second] = await Promise.all([begin(taskUuid), begin(taskUuid)]);
    expect(first).toEqual({
      taskUuid,
      taskId: expect.any(Number),
      generation: 1,
      plan: 1,
      lockType: lockTypeOf(spec.uuid),
      startedAtMs: expect.any(Number),
      prev: null,
      unfinished: null,
      replicaHoldsHost: false,
    });
    expect(second).toEqual(first);
    expect((await scheduleRow()).last_generation).toBe(1);
  });

  it('gives two tasks at once two generations, and ends the older as superseded', async () => {
    const both = await Promise.all([begin(), begin()]);
    expect(both.map(({ generation }) => generation).sort()).toEqual([1, 2]);
    const older = both.find(({ generation }) => generation === 1);
    const fence = fenceOf(spec.uuid, 1);
    const end = { fence, taskUuid: older?.taskUuid ?? '', outcome: 'paused' as const, reason: null };
    expect(await catalog.endTask(end)).toMatchObject({ outcome: 'superseded' });
    const record = { fence, taskUuid: older?.taskUuid ?? '', answer: NOTHING, node: 'b1' };
    await expect(catalog.recordSyncInfo(record)).rejects.toMatchObject({ code: 'Superseded' });
  });

  it('refuses the uuid of another schedule, and a schedule that is not there', async () => {
    const { taskUuid } = await begin();
    const other = await newSchedule(catalog);
    for (const scheduleUuid of [other.uuid, randomUUID()]) {
      await expect(catalog.createEmptyTask({ scheduleUuid, taskUuid })).rejects.toMatchObject({
        code: 'InvalidInput',
      });
    }
  });

  it('names the unfinished target of the newest task, until it or a newer one is published', async () => {
    const [first, second] = [randomUUID(), randomUUID()];
    const one = await begin();
    const fence = fenceOf(spec.uuid, one.generation);
    await catalog.recordSyncInfo({ fence, taskUuid: one.taskUuid, answer: answerOf(first), node: 'b1' });
    await catalog.endTask({ fence, taskUuid: one.taskUuid, outcome: 'paused', reason: 'paused' });
    const two = await begin();
    expect(two.unfinished).toEqual({ hostSnapshot: first });
    expect(await begin(two.taskUuid)).toEqual(two);
    // A newer one is published instead: the older partial one is of no use any more.
    await publishTask(catalog, spec.uuid, answerOf(second));
    const four = await begin();
    expect(four).toMatchObject({
      generation: 4,
      unfinished: null,
      replicaHoldsHost: true,
      prev: { hostSnapshot: second },
    });
  });

  it('drops what ended long ago and began nothing, and sessions that are of no use any more', async () => {
    const { db } = database();
    const taskUuid = randomUUID();
    const { generation } = await begin(taskUuid);
    const fence = fenceOf(spec.uuid, generation);
    await catalog.endTask({ fence, taskUuid, outcome: 'upToDate', reason: null });
    const { task } = await publishTask(catalog, spec.uuid, answerOf(randomUUID()));
    const raise = (last_generation: number) =>
      db('remote_backup_schedules').where({ uuid: spec.uuid }).update({ last_generation });
    const uuids = () =>
      db('remote_backup_tasks').where({ schedule_uuid: spec.uuid }).orderBy('generation').pluck('uuid');
    const sessions = () =>
      db('receiver_sessions as rs')
        .join('remote_backup_disk_tasks as dt', 'dt.uuid', 'rs.disk_task_uuid')
        .where('dt.task_id', task.taskId)
        .pluck('rs.disk_task_uuid');
    await raise(10);
    const newer = await begin();
    expect(await uuids()).toEqual([taskUuid, task.taskUuid, newer.taskUuid]);
    expect(await sessions()).toHaveLength(1);
    const next = await begin();
    expect(await sessions()).toEqual([]);
    await raise(1_001);
    const newest = await begin();
    expect(await uuids()).toEqual([task.taskUuid, newer.taskUuid, next.taskUuid, newest.taskUuid]);
  });

  it('says that the host is held whatever schedule published it', async () => {
    await publishTask(catalog, spec.uuid, answerOf(randomUUID()));
    const other = await newSchedule(catalog, { host: spec.host, sourceSite: 'c' });
    const task = await catalog.createEmptyTask({ scheduleUuid: other.uuid, taskUuid: randomUUID() });
    expect(task).toMatchObject({ prev: null, replicaHoldsHost: true });
  });
});

describe('raisePlan', () => {
  it('gives the same next plan however often it is asked from the same plan', async () => {
    const { taskUuid } = await begin();
    const raise = (plan: number) =>
      catalog.raisePlan({ fence: fenceOf(spec.uuid, 1, plan), taskUuid, reason: 'the base vanished' });
    expect(await Promise.all([raise(1), raise(1)])).toEqual([2, 2]);
    expect(await raise(1)).toBe(2);
    expect(await raise(2)).toBe(3);
    await expect(raise(1)).rejects.toMatchObject({ code: 'Superseded' });
    expect((await begin(taskUuid)).plan).toBe(3);
    const [row] = await database().db('remote_backup_tasks').where({ uuid: taskUuid });
    expect(row.plan_reasons).toEqual(['the base vanished', 'the base vanished']);
  });

  it('closes the receivers of the plan before', async () => {
    const { taskUuid } = await begin();
    const fence = fenceOf(spec.uuid, 1);
    const record = { fence, taskUuid, answer: answerOf(randomUUID()), node: 'b1' };
    const [disk] = await catalog.recordSyncInfo(record);
    const diskTaskUuid = disk?.diskTaskUuid ?? '';
    const epoch = { generation: 1, plan: 1, openCount: 1 };
    await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint: FINGERPRINT });
    await catalog.raisePlan({ fence, taskUuid, reason: 'another map' });
    expect(await catalog.findSession(diskTaskUuid)).toMatchObject({ state: 'closed' });
    const again = { ...record, fence: fenceOf(spec.uuid, 1, 2) };
    const [newDisk] = await catalog.recordSyncInfo(again);
    expect(newDisk?.diskTaskUuid).not.toBe(diskTaskUuid);
  });
});

describe('recordSyncInfo', () => {
  it('makes partial rows and a disk task each disk, once', async () => {
    const { taskUuid } = await begin();
    const target = randomUUID();
    const answer = answerOf(target, [planOf(), planOf({ disk: 'vdb', virtualSizeBytes: 5 })]);
    const record = { fence: fenceOf(spec.uuid, 1), taskUuid, answer, node: 'b1' };
    const both = await Promise.all([catalog.recordSyncInfo(record), catalog.recordSyncInfo(record)]);
    expect(both[0]).toEqual([
      { diskTaskUuid: expect.any(String), disk: 'vda', node: 'b1' },
      { diskTaskUuid: expect.any(String), disk: 'vdb', node: 'b1' },
    ]);
    expect(both[1]).toEqual(both[0]);
    expect(await catalog.recordSyncInfo({ ...record, node: 'b2' })).toEqual(both[0]);
    const snapshot = await database().db('host_snapshots').where({ uuid: target }).first();
    expect(snapshot).toMatchObject({ state: 'partial', sequence: null, origin_sequence: 1 });
    expect(await createReplicaInventory(database().db).findPoint(target)).toBeNull();
  });

  it('never lowers what is published', async () => {
    const target = randomUUID();
    await publishTask(catalog, spec.uuid, answerOf(target));
    const before = await createReplicaInventory(database().db).findPoint(target);
    const { taskUuid, generation } = await begin();
    const answer = answerOf(target, [planOf({ virtualSizeBytes: 1 })]);
    await catalog.recordSyncInfo({ fence: fenceOf(spec.uuid, generation), taskUuid, answer, node: 'b1' });
    expect(await createReplicaInventory(database().db).findPoint(target)).toEqual(before);
  });

  it('keeps all layers of a disk on one node, and takes only published bases', async () => {
    const target = randomUUID();
    await publishTask(catalog, spec.uuid, answerOf(target));
    const { taskUuid, generation } = await begin();
    const fence = fenceOf(spec.uuid, generation);
    const record = (baseSnapshot: string) => ({
      fence,
      taskUuid,
      answer: answerOf(randomUUID(), [planOf({ method: 'incremental', baseSnapshot })]),
      node: 'b2',
    });
    await expect(catalog.recordSyncInfo(record(randomUUID()))).rejects.toMatchObject({ code: 'PlanBroken' });
    expect(await catalog.recordSyncInfo(record(target))).toMatchObject([{ node: 'b1' }]);
  });

  it('refuses the snapshot of another host', async () => {
    const target = randomUUID();
    await publishTask(catalog, spec.uuid, answerOf(target));
    const other = await newSchedule(catalog);
    const task = await catalog.createEmptyTask({ scheduleUuid: other.uuid, taskUuid: randomUUID() });
    const record = { fence: fenceOf(other.uuid, 1), taskUuid: task.taskUuid, node: 'b1' };
    await expect(catalog.recordSyncInfo({ ...record, answer: answerOf(target) })).rejects.toMatchObject({
      code: 'InvalidInput',
    });
  });
});

describe('endTask', () => {
  const end = async (outcome: 'paused' | 'stopped' | 'upToDate') => {
    const { taskUuid, generation } = await begin();
    return { fence: fenceOf(spec.uuid, generation), taskUuid, outcome, reason: 'why' };
  };

  it('ends once: the retry gives the same summary', async () => {
    const input = await end('upToDate');
    const summary = await catalog.endTask(input);
    expect(summary).toMatchObject({ outcome: 'upToDate', reason: 'why', hostSnapshot: null, disks: [] });
    expect(summary.finishedAtMs).toBeGreaterThanOrEqual(summary.startedAtMs);
    expect(await catalog.endTask({ ...input, outcome: 'stopped' })).toEqual(summary);
    expect(await catalog.taskValidity(input)).toEqual({
      valid: false,
      reason: 'the task has ended as upToDate',
    });
  });

  it('ends as what the operator wanted of the schedule, where the task was cut short', async () => {
    const stopped = await end('stopped');
    await recordPaused(catalog, spec.uuid, true);
    expect(await catalog.taskValidity(stopped)).toEqual({ valid: false, reason: 'the schedule is paused' });
    expect(await catalog.endTask(stopped)).toMatchObject({ outcome: 'paused' });
    await recordPaused(catalog, spec.uuid, false);
    expect(await catalog.endTask(await end('paused'))).toMatchObject({ outcome: 'paused' });
    const upToDate = await end('upToDate');
    await recordPaused(catalog, spec.uuid, true);
    expect(await catalog.endTask(upToDate)).toMatchObject({ outcome: 'upToDate' });
  });
});

describe('taskValidity', () => {
  it('is true for the running task of the newest plan only', async () => {
    const { taskUuid } = await begin();
    const input = { fence: fenceOf(spec.uuid, 1), taskUuid };
    expect(await catalog.taskValidity(input)).toEqual({ valid: true, reason: null });
    await catalog.raisePlan({ ...input, reason: 'changed' });
    expect(await catalog.taskValidity(input)).toMatchObject({ valid: false });
    const unknown = { ...input, fence: fenceOf(spec.uuid, 1, 2), taskUuid: randomUUID() };
    expect(await catalog.taskValidity(unknown)).toMatchObject({ reason: 'the task is unknown' });
    expect(await catalog.taskValidity({ ...input, fence: fenceOf(randomUUID(), 1) })).toMatchObject({
      reason: 'the schedule is not registered',
    });
  });
});

describe('the inventory', () => {
  it('lists live schedules and shows one with its newest tasks', async () => {
    const { task } = await publishTask(catalog, spec.uuid, answerOf(randomUUID()));
    const next = await begin();
    const inventory = createReplicaInventory(database().db);
    expect((await inventory.listSchedules()).map(({ name }) => name)).toContain(spec.name);
    expect(await inventory.showSchedule(spec.name)).toMatchObject({
      uuid: spec.uuid,
      host: spec.host,
      state: 'live',
      lastGeneration: 2,
      cursor: { taskUuid: task.taskUuid },
      tasks: [
        { taskUuid: next.taskUuid, outcome: null },
        { taskUuid: task.taskUuid, outcome: 'published', disks: [{ disk: 'vda', bytesTotal: 4096 }] },
      ],
    });
    expect(await inventory.showSchedule('nothing')).toBeNull();
  });
});
