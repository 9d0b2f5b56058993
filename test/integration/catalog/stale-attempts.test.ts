/** What a step may still do that was held up, as by SIGSTOP, while a later one went on; and two schedules at once. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createReplicaInventory } from '../../../src/catalog/replica-inventory.ts';
import type { Fence } from '../../../src/contract/fence.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  answerOf,
  digestOf,
  FINGERPRINT,
  fenceOf,
  freshMap,
  MIB,
  newSchedule,
  planOf,
  publishTask,
  SEALED,
  transfer,
} from './fixtures.ts';

const database = useTestDatabase();
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
});

const KEEP = { purge: false };
const PURGE = { purge: true };
const planBroken = { code: 'PlanBroken' };

interface Running {
  readonly fence: Fence;
  readonly taskUuid: string;
  readonly diskTaskUuid: string;
  readonly epoch: { generation: number; plan: number; openCount: number };
}

async function startDisk(schedule: ScheduleSpec, target: string, plan = planOf()): Promise<Running> {
  const taskUuid = randomUUID();
  const { generation } = await catalog.createEmptyTask({ scheduleUuid: schedule.uuid, taskUuid });
  return openPlan({ fence: fenceOf(schedule.uuid, generation), taskUuid }, target, plan);
}

/** Records the task's plan and opens its disk. */
async function openPlan(
  task: { fence: Fence; taskUuid: string },
  target: string,
  plan = planOf(),
): Promise<Running> {
  const [disk] = await catalog.recordSyncInfo({ ...task, answer: answerOf(target, [plan]), node: 'b1' });
  const diskTaskUuid = disk?.diskTaskUuid ?? '';
  const epoch = { generation: task.fence.generation, plan: task.fence.plan, openCount: 1 };
  await catalog.openSession({ fence: task.fence, diskTaskUuid, epoch, senderFingerprint: FINGERPRINT });
  return { ...task, diskTaskUuid, epoch };
}

const adopt = ({ diskTaskUuid, epoch }: Running, mapDigest: string) =>
  catalog.adoptLayout({
    diskTaskUuid,
    epoch,
    mapDigest,
    virtualSizeBytes: 64 * MIB,
    clusterSizeBytes: 65_536,
  });

const receive = ({ diskTaskUuid, epoch }: Running) =>
  catalog.markReceived({ diskTaskUuid, epoch, totalBytes: 4096, contentDigest: digestOf(7) });

async function pauseFor(schedule: ScheduleSpec, revision: number, paused: boolean): Promise<void> {
  const pause = { paused, draining: false, releasing: paused };
  await catalog.recordPaused({ scheduleUuid: schedule.uuid, revision, ...pause });
}

async function giveUp(schedule: ScheduleSpec, revision: number): Promise<readonly string[]> {
  const input = { scheduleUuid: schedule.uuid, revision };
  const { files } = await catalog.beginGivingUp(input);
  await catalog.finishGivingUp(input);
  return files.map(({ path }) => path);
}

async function deleteSchedule(schedule: ScheduleSpec, request: { purge: boolean }) {
  const input = { scheduleUuid: schedule.uuid, request };
  await catalog.beginDelete(input);
  const files = await catalog.filesToDrop(input);
  await catalog.finishDelete(input);
  return files.map(({ path }) => path);
}

async function lockWaits(): Promise<number> {
  const { rows } = await database().db.raw(
    `select count(*) as waits from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
  );
  return rows[0].waits;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(10);
}

const pathsInUse = async () => (await catalog.activeStoragePaths()).map(({ path }) => path);
const points = async () =>
  (await createReplicaInventory(database().db).listPoints({ host: spec.host })).map(({ point }) => point);

describe('a removal of files that comes late', () => {
  it('cannot meet what was begun again after it was given up', async () => {
    const [target, map] = [randomUUID(), freshMap()];
    await adopt(await startDisk(spec, target), map);
    await pauseFor(spec, 1, true);
    const removed = await giveUp(spec, 1);
    expect(removed).toHaveLength(1);
    await pauseFor(spec, 2, false);
    await adopt(await startDisk(spec, target), map);
    const inUse = await pathsInUse();
    for (const path of removed) expect(inUse).not.toContain(path);
  });

  it('cannot meet the replica of a schedule that followed one that was purged', async () => {
    const [target, map] = [randomUUID(), freshMap()];
    const first = await startDisk(spec, target);
    await transfer(catalog, first.fence, first.diskTaskUuid, map);
    await catalog.finishTask(first);
    const removed = await deleteSchedule(spec, PURGE);
    expect(removed).toHaveLength(1);
    const next = await newSchedule(catalog, { host: spec.host });
    const second = await startDisk(next, target);
    await transfer(catalog, second.fence, second.diskTaskUuid, map);
    await catalog.finishTask(second);
    const inUse = await pathsInUse();
    for (const path of removed) expect(inUse).not.toContain(path);
  });
});

describe('a finishing that comes late', () => {
  it('of a pause that was given up leaves the task alone that began after the resume', async () => {
    const target = randomUUID();
    await adopt(await startDisk(spec, target), freshMap());
    await pauseFor(spec, 1, true);
    await giveUp(spec, 1);
    await pauseFor(spec, 2, false);
    const running = await startDisk(spec, target);
    const late = catalog.finishGivingUp({ scheduleUuid: spec.uuid, revision: 1 });
    await expect(late).rejects.toMatchObject({ code: 'Superseded' });
    await transfer(catalog, running.fence, running.diskTaskUuid);
    await catalog.finishTask(running);
    expect(await points()).toEqual([target]);
  });
});

describe('a file that is to be removed', () => {
  it('is not adopted, received or sealed any more; the next plan begins another', async () => {
    const [target, map] = [randomUUID(), freshMap()];
    const running = await startDisk(spec, target);
    const { storageId, directory, finalName } = await adopt(running, map);
    await database().db('snapshot_storages').where({ id: storageId }).update({ state: 'dropped' });
    await expect(adopt(running, map)).rejects.toMatchObject(planBroken);
    expect(await catalog.findLayout(running.diskTaskUuid)).toBeNull();
    await expect(receive(running)).rejects.toMatchObject(planBroken);
    await database()
      .db('remote_backup_disk_tasks')
      .where({ uuid: running.diskTaskUuid })
      .update({ state: 'received' });
    const seal = { ...running, path: `${directory}/${finalName}`, file: SEALED };
    await expect(catalog.markSealed(seal)).rejects.toMatchObject(planBroken);

    const plan = await catalog.raisePlan({ ...running, reason: 'it is being removed' });
    const next = await openPlan({ ...running, fence: { ...running.fence, plan } }, target);
    const other = await adopt(next, map);
    expect(other).toMatchObject({ state: 'partial' });
    expect(other.finalName).not.toBe(finalName);
  });

  it('is not taken from a schedule that is just adopting it', async () => {
    const [target, map] = [randomUUID(), freshMap()];
    const { storageId: id } = await adopt(await startDisk(spec, target), map);
    const other = await newSchedule(catalog, { host: spec.host, sourceSite: 'c' });
    const running = await startDisk(other, target);
    const input = { scheduleUuid: spec.uuid, request: KEEP };
    await catalog.beginDelete(input);
    // Another transaction holds both up at the file's row, so that they meet there.
    const gate = await database().db.transaction();
    await gate('snapshot_storages').where({ id }).forUpdate().first();
    const adopting = adopt(running, map);
    await until(async () => (await lockWaits()) === 1);
    const dropping = catalog.filesToDrop(input);
    await until(async () => (await lockWaits()) === 2);
    await gate.commit();
    const [files, layout] = await Promise.all([dropping, adopting]);
    const path = `${layout.directory}/${layout.finalName}`;
    expect(files.map(file => file.path)).not.toContain(path);
  });
});

describe('a layout whose file is not what the source has', () => {
  it('is given up, and the next plan begins another file', async () => {
    const [target, map] = [randomUUID(), freshMap()];
    const first = await startDisk(spec, target);
    const sealed = await transfer(catalog, first.fence, first.diskTaskUuid, map);
    const second = await startDisk(spec, target);
    expect(await adopt(second, map)).toMatchObject({ finalName: sealed.finalName, state: 'sealed' });
    const path = `${sealed.directory}/${sealed.finalName}`;
    await expect(catalog.rejectLayout(first)).rejects.toMatchObject({ code: 'Superseded' });
    expect(await catalog.rejectLayout(second)).toBe(path);
    expect(await catalog.rejectLayout(second)).toBeNull();
    const plan = await catalog.raisePlan({ ...second, reason: 'another content' });
    const third = await openPlan({ ...second, fence: { ...second.fence, plan } }, target);
    expect((await adopt(third, map)).finalName).not.toBe(sealed.finalName);
  });

  it('stays while the task of another schedule counts on it', async () => {
    const [target, map] = [randomUUID(), freshMap()];
    const other = await newSchedule(catalog, { host: spec.host, sourceSite: 'c' });
    const theirs = await startDisk(other, target);
    await transfer(catalog, theirs.fence, theirs.diskTaskUuid, map);
    const mine = await startDisk(spec, target);
    await adopt(mine, map);
    expect(await catalog.rejectLayout(mine)).toBeNull();
    await catalog.finishTask(theirs);
    expect(await points()).toEqual([target]);
  });
});

describe('ending a task', () => {
  it('is not refused because its reply about a newer plan was lost', async () => {
    const running = await startDisk(spec, randomUUID());
    await catalog.raisePlan({ ...running, reason: 'the reply is lost' });
    const end = {
      fence: running.fence,
      taskUuid: running.taskUuid,
      outcome: 'paused',
      reason: null,
    } as const;
    expect(await catalog.endTask(end)).toMatchObject({ outcome: 'paused' });
    await expect(
      catalog.recordSyncInfo({ ...running, answer: answerOf(randomUUID()), node: 'b1' }),
    ).rejects.toThrow();
  });
});

describe('two schedules of a host that are deleted at once', () => {
  /** Both publish `point`; the second has begun an increment on it. */
  async function sharePoint() {
    const point = randomUUID();
    await publishTask(catalog, spec.uuid, answerOf(point));
    const other = await newSchedule(catalog, { host: spec.host, sourceSite: 'c' });
    await publishTask(catalog, other.uuid, answerOf(point));
    const increment = planOf({ method: 'incremental', baseSnapshot: point });
    await adopt(await startDisk(other, randomUUID(), increment), freshMap());
    return { point, other };
  }

  it('both come to their end, though one has begun a file on what the other purges', async () => {
    const { other } = await sharePoint();
    await catalog.beginDelete({ scheduleUuid: other.uuid, request: KEEP });
    const files = await deleteSchedule(spec, PURGE);
    const rest = await deleteSchedule(other, KEEP);
    expect(new Set([...files, ...rest]).size).toBe(3);
    expect(await points()).toEqual([]);
    expect((await pathsInUse()).filter(path => path.includes(`/${spec.host}/`))).toEqual([]);
  });

  it('leave no file behind that a schedule wrote which was deleted before', async () => {
    const { other } = await sharePoint();
    await deleteSchedule(other, KEEP);
    expect(await deleteSchedule(spec, PURGE)).toHaveLength(2);
    expect((await pathsInUse()).filter(path => path.includes(`/${spec.host}/`))).toEqual([]);
  });
});
