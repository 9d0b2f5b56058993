import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import { lockTypeOf } from '../../../src/contract/names.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  answerOf,
  FINGERPRINT,
  fenceOf,
  freshMap,
  MIB,
  newSchedule,
  publishTask,
  queryOf,
  registerChain,
  SETTINGS,
} from './fixtures.ts';

const database = useTestDatabase();
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
let revision = 0;
beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
  revision = 0;
});

/** As a newer write than all before, or at a given place in their order. */
function write(pause: { paused: boolean; releasing?: boolean }, at?: number): Promise<boolean> {
  revision = at ?? revision + 1;
  const { paused, releasing = false } = pause;
  return catalog.recordPaused({ scheduleUuid: spec.uuid, revision, draining: false, releasing, paused });
}

/** A task that has begun one file of the target. */
async function begin(target: string, schedule = spec) {
  const taskUuid = randomUUID();
  const task = await catalog.createEmptyTask({ scheduleUuid: schedule.uuid, taskUuid });
  const fence = fenceOf(schedule.uuid, task.generation);
  const record = { fence, taskUuid, answer: answerOf(target), node: 'b1' };
  const [disk] = await catalog.recordSyncInfo(record);
  const diskTaskUuid = disk?.diskTaskUuid ?? '';
  const epoch = { generation: task.generation, plan: 1, openCount: 1 };
  await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint: FINGERPRINT });
  const map = { mapDigest: freshMap(), virtualSizeBytes: 64 * MIB, clusterSizeBytes: 65_536 };
  const { directory, finalName } = await catalog.adoptLayout({ diskTaskUuid, epoch, ...map });
  return { fence, taskUuid, task, path: `${directory}/${finalName}` };
}

const end = ({ fence, taskUuid }: { fence: ReturnType<typeof fenceOf>; taskUuid: string }) =>
  catalog.endTask({ fence, taskUuid, outcome: 'paused', reason: null });

const giveUp = async () => {
  const input = { scheduleUuid: spec.uuid, revision };
  const begun = await catalog.beginGivingUp(input);
  expect(await catalog.beginGivingUp(input)).toEqual(begun);
  await catalog.finishGivingUp(input);
  await catalog.finishGivingUp(input);
  return begun;
};

describe('what a row says', () => {
  it('is not undone by a late retry of an older write', async () => {
    expect(await write({ paused: true }, 1)).toBe(true);
    expect(await write({ paused: false }, 2)).toBe(true);
    expect(await write({ paused: true }, 1)).toBe(false);
    const settings = { ...SETTINGS, everyMs: 5_000 };
    const newer = { scheduleUuid: spec.uuid, revision: 3, settings, replan: true };
    await catalog.recordSettings(newer);
    await catalog.recordSettings({ ...newer, revision: 2, settings: SETTINGS });
    const record = await catalog.registerSchedule({ spec, settings: SETTINGS, paused: true });
    expect(record).toMatchObject({ paused: false, settings, revision: 3 });
  });

  it('forgets the next run only when it is to be planned anew', async () => {
    const run = { scheduleUuid: spec.uuid, afterMs: 1_000, nextRunAtMs: 61_000 };
    await catalog.storeNextRun(run);
    const same = { scheduleUuid: spec.uuid, settings: SETTINGS, replan: false };
    await catalog.recordSettings({ ...same, revision: 1 });
    expect((await catalog.storeNextRun({ ...run, nextRunAtMs: 9_000 })).nextRunAtMs).toBe(61_000);
    await catalog.recordSettings({ ...same, revision: 2, replan: true });
    // A plan for the settings before, by an attempt that was held up, does not count.
    const late = { ...run, nextRunAtMs: 99_000, revision: 1 };
    expect((await catalog.storeNextRun(late)).nextRunAtMs).toBe(99_000);
    expect((await catalog.storeNextRun({ ...run, nextRunAtMs: 9_000, revision: 2 })).nextRunAtMs).toBe(9_000);
    expect((await catalog.storeNextRun(late)).nextRunAtMs).toBe(99_000);
    expect((await catalog.storeNextRun(run)).nextRunAtMs).toBe(9_000);
  });
});

describe('giving up at the replica', () => {
  it('drops what was begun, keeps what is published, and the next task begins anew', async () => {
    const published = randomUUID();
    const { task } = await publishTask(catalog, spec.uuid, answerOf(published));
    const target = randomUUID();
    const begun = await begin(target);
    await write({ paused: true, releasing: true });
    await end(begun);
    const { files, givenUp } = await giveUp();
    expect(files).toEqual([{ node: 'b1', path: begun.path }]);
    expect(givenUp).toEqual({
      fence: { scheduleUuid: spec.uuid, generation: begun.fence.generation + 1, plan: 0 },
      lockType: lockTypeOf(spec.uuid),
      keepGeneration: task.generation,
      keepTaskUuids: [task.taskUuid],
    });
    const { db } = database();
    expect(await db('host_snapshots').whereIn('uuid', [published, target]).pluck('uuid')).toEqual([
      published,
    ]);
    expect(await db('snapshot_storages').where({ path: begun.path })).toEqual([]);
    await write({ paused: false });
    const next = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid: randomUUID() });
    expect(next).toMatchObject({ generation: begun.fence.generation + 1, plan: 1, unfinished: null });
    expect(next.prev?.hostSnapshot).toBe(published);
  });

  it('has nothing for the source when the last task left nothing there', async () => {
    await write({ paused: true });
    expect(await giveUp()).toEqual({ files: [], givenUp: null });
    await write({ paused: false });
    await publishTask(catalog, spec.uuid, answerOf(randomUUID()));
    await write({ paused: true });
    expect(await giveUp()).toEqual({ files: [], givenUp: null });
  });

  it('is refused once the schedule was resumed, or paused anew', async () => {
    await end(await begin(randomUUID()));
    await write({ paused: true });
    await write({ paused: false });
    const superseded = { code: 'Superseded' };
    await expect(catalog.beginGivingUp({ scheduleUuid: spec.uuid, revision: 1 })).rejects.toMatchObject(
      superseded,
    );
    await write({ paused: true });
    await expect(catalog.beginGivingUp({ scheduleUuid: spec.uuid, revision: 1 })).rejects.toMatchObject(
      superseded,
    );
  });

  it('ends a task whose workflow is gone, and fences it off', async () => {
    const begun = await begin(randomUUID());
    await write({ paused: true });
    await giveUp();
    const late = { fence: begun.fence, taskUuid: begun.taskUuid };
    await expect(catalog.finishTask(late)).rejects.toMatchObject({ code: 'Superseded' });
    expect(await end(begun)).toMatchObject({ outcome: 'paused', reason: 'what it began was given up' });
  });

  it('leaves what another schedule has begun as well', async () => {
    const target = randomUUID();
    const other = await newSchedule(catalog, { host: spec.host, sourceSite: 'c' });
    const theirs = await begin(target, other);
    await end(await begin(target));
    await write({ paused: true });
    const { files } = await giveUp();
    expect(files.map(({ path }) => path)).not.toContain(theirs.path);
    expect(await database().db('snapshot_storages').where({ path: theirs.path })).toHaveLength(1);
    await write({ paused: false });
    const next = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid: randomUUID() });
    expect(next.unfinished).toBeNull();
  });
});

describe('giving up at the source', () => {
  const source = () => createSourceCatalog(database().db, { site: 'a', instance: 1, senderGraceMs: 0 });
  const locksOf = (scheduleUuid: string) =>
    database()
      .db('host_snapshot_locks')
      .where({ lock_type: lockTypeOf(scheduleUuid) })
      .orderBy('generation')
      .pluck('task_uuid');

  it("releases the unfinished target's lock, keeps prev's, and refuses what comes late", async () => {
    const [first = '', second = ''] = await registerChain(database().db, spec.host, 2);
    const scheduleUuid = spec.uuid;
    const one = queryOf(spec.host, fenceOf(scheduleUuid, 1));
    await source().answerSync(one, async () => answerOf(first));
    const two = queryOf(spec.host, fenceOf(scheduleUuid, 2));
    await source().answerSync(two, async () => answerOf(second));
    const givenUp = {
      fence: fenceOf(scheduleUuid, 3, 0),
      lockType: lockTypeOf(scheduleUuid),
      keepGeneration: 1,
      keepTaskUuids: [one.taskUuid],
    };
    expect(await source().releaseGivenUp(givenUp)).toBe(1);
    expect(await source().releaseGivenUp(givenUp)).toBe(0);
    expect(await locksOf(scheduleUuid)).toEqual([one.taskUuid]);
    await expect(source().answerSync(two, async () => answerOf(second))).rejects.toMatchObject({
      code: 'Superseded',
    });
    const three = queryOf(spec.host, fenceOf(scheduleUuid, 3));
    await source().answerSync(three, async () => answerOf(second));
    expect(await locksOf(scheduleUuid)).toEqual([one.taskUuid, three.taskUuid]);
    await expect(source().releaseGivenUp(givenUp)).rejects.toMatchObject({ code: 'Superseded' });
  });
});

describe("a task's rate", () => {
  const source = () => createSourceCatalog(database().db, { site: 'a', instance: 1 });

  it('is the one of the highest revision, and goes with the task or the schedule', async () => {
    const [taskUuid, nextTask] = [randomUUID(), randomUUID()];
    const scheduleUuid = spec.uuid;
    const rate = { scheduleUuid, taskUuid, revision: 2, bandwidthBytesPerSecond: 4096 };
    expect(await source().taskRate(taskUuid)).toBeNull();
    await source().setTaskRate(rate);
    await source().setTaskRate({ ...rate, revision: 1, bandwidthBytesPerSecond: 1 });
    expect(await source().taskRate(taskUuid)).toEqual({ bandwidthBytesPerSecond: 4096 });
    await source().setTaskRate({ ...rate, revision: 3, bandwidthBytesPerSecond: null });
    expect(await source().taskRate(taskUuid)).toEqual({ bandwidthBytesPerSecond: null });
    await source().setTaskRate({ ...rate, taskUuid: nextTask, revision: 1 });
    expect(await source().taskRate(taskUuid)).toBeNull();
    const lockType = lockTypeOf(scheduleUuid);
    await source().entomb({ scheduleUuid, lockType });
    await source().releaseAll({ scheduleUuid, lockType });
    await source().setTaskRate({ ...rate, revision: 9 });
    expect(await database().db('task_rates').where({ schedule_uuid: scheduleUuid })).toEqual([]);
  });
});
