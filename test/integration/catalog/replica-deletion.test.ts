import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createReplicaInventory } from '../../../src/catalog/replica-inventory.ts';
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
  planOf,
  publishTask,
  queryOf,
  recordPaused,
  SEALED,
  SETTINGS,
  specOf,
} from './fixtures.ts';

const database = useTestDatabase();
const inventory = () => createReplicaInventory(database().db);
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
});

const KEEP = { purge: false };
const PURGE = { purge: true };

/** A task that has begun one file. @returns its path */
async function beginFile(target: string = randomUUID(), schedule = spec) {
  const taskUuid = randomUUID();
  const { generation } = await catalog.createEmptyTask({ scheduleUuid: schedule.uuid, taskUuid });
  const fence = fenceOf(schedule.uuid, generation);
  const record = { fence, taskUuid, answer: answerOf(target), node: 'b1' };
  const [disk] = await catalog.recordSyncInfo(record);
  const diskTaskUuid = disk?.diskTaskUuid ?? '';
  const epoch = { generation, plan: 1, openCount: 1 };
  const session = { fence, diskTaskUuid, epoch, senderFingerprint: FINGERPRINT };
  await catalog.openSession(session);
  const map = { mapDigest: freshMap(), virtualSizeBytes: 64 * MIB, clusterSizeBytes: 65_536 };
  const { directory, finalName } = await catalog.adoptLayout({ diskTaskUuid, epoch, ...map });
  return { fence, taskUuid, diskTaskUuid, session, map, path: `${directory}/${finalName}` };
}

async function deleteSchedule(request: { purge: boolean }, schedule = spec): Promise<readonly string[]> {
  const input = { scheduleUuid: schedule.uuid, request };
  await catalog.beginDelete(input);
  const files = await catalog.filesToDrop(input);
  expect(await catalog.filesToDrop(input)).toEqual(files);
  await catalog.finishDelete(input);
  await catalog.finishDelete(input);
  return files.map(({ path }) => path);
}

const rowsLeft = async (uuid: string) => (await database().db('host_snapshots').where({ uuid })).length;

describe('beginDelete', () => {
  it('fences everything of the schedule: nothing acts or opens any more', async () => {
    const running = await beginFile();
    const { fence, taskUuid, diskTaskUuid, session, map, path } = running;
    await catalog.beginDelete({ scheduleUuid: spec.uuid, request: KEEP });
    await catalog.beginDelete({ scheduleUuid: spec.uuid, request: KEEP });
    expect(await catalog.findSession(diskTaskUuid)).toMatchObject({ state: 'closed' });
    expect(await catalog.closeSessions(spec.uuid)).toEqual([diskTaskUuid]);
    expect(await catalog.taskValidity({ fence, taskUuid })).toEqual({
      valid: false,
      reason: 'the schedule was deleted',
    });
    const end = { fence, taskUuid, outcome: 'paused' as const, reason: null };
    expect(await catalog.endTask(end)).toMatchObject({ outcome: 'stopped' });

    const deleted = { code: 'ScheduleDeleted' };
    const task = { scheduleUuid: spec.uuid, taskUuid: randomUUID() };
    await expect(catalog.createEmptyTask(task)).rejects.toMatchObject(deleted);
    await expect(catalog.openSession(session)).rejects.toMatchObject(deleted);
    await expect(catalog.raisePlan({ fence, taskUuid, reason: '' })).rejects.toMatchObject(deleted);
    await expect(catalog.markSealed({ fence, diskTaskUuid, path, file: SEALED })).rejects.toMatchObject(
      deleted,
    );
    await expect(catalog.finishTask({ fence, taskUuid })).rejects.toMatchObject(deleted);
    await expect(recordPaused(catalog, spec.uuid, false)).rejects.toMatchObject(deleted);
    const adopt = { diskTaskUuid, epoch: session.epoch, ...map };
    await expect(catalog.adoptLayout(adopt)).rejects.toMatchObject({ code: 'Superseded' });
  });

  it('holds the name and the host until the delete is finished, and never gives the uuid again', async () => {
    const again = specOf({ name: spec.name, host: spec.host });
    const input = { spec: again, settings: SETTINGS, paused: false };
    await catalog.beginDelete({ scheduleUuid: spec.uuid, request: KEEP });
    await expect(catalog.registerSchedule(input)).rejects.toMatchObject({ code: 'ScheduleConflict' });
    await catalog.finishDelete({ scheduleUuid: spec.uuid, request: KEEP });
    await catalog.registerSchedule(input);
    expect(await inventory().showSchedule(spec.name)).toMatchObject({ uuid: again.uuid });
    const same = { spec: { ...spec, name: 'other' }, settings: SETTINGS, paused: false };
    await expect(catalog.registerSchedule(same)).rejects.toMatchObject({ code: 'ScheduleDeleted' });
  });

  it('leaves the tombstone of a schedule that was never registered', async () => {
    const unknown = specOf();
    const input = { scheduleUuid: unknown.uuid, request: KEEP };
    await catalog.beginDelete(input);
    expect(await catalog.filesToDrop(input)).toEqual([]);
    await catalog.finishDelete(input);
    await expect(
      catalog.registerSchedule({ spec: unknown, settings: SETTINGS, paused: false }),
    ).rejects.toMatchObject({ code: 'ScheduleDeleted' });
  });

  it('comes before the rest', async () => {
    const input = { scheduleUuid: spec.uuid, request: KEEP };
    await expect(catalog.filesToDrop(input)).rejects.toMatchObject({ code: 'InvalidInput' });
    await expect(catalog.finishDelete(input)).rejects.toMatchObject({ code: 'InvalidInput' });
  });
});

describe('finishing a delete', () => {
  it('drops what was never published, and keeps the recovery points', async () => {
    const [point, target] = [randomUUID(), randomUUID()];
    await publishTask(catalog, spec.uuid, answerOf(point));
    const { path } = await beginFile(target);
    expect(await deleteSchedule(KEEP)).toEqual([path]);
    expect(await rowsLeft(target)).toBe(0);
    expect((await inventory().listPoints({ host: spec.host })).map(row => row.point)).toEqual([point]);
    const files = (await catalog.activeStoragePaths()).filter(row => row.path.includes(`/${spec.host}/`));
    expect(files).toHaveLength(1);
  });

  it('with purge drops the recovery points too, whole chains of them', async () => {
    const uuids = [randomUUID(), randomUUID(), randomUUID()];
    let base: string | null = null;
    for (const uuid of uuids) {
      const plan = planOf(base === null ? {} : { method: 'incremental', baseSnapshot: base });
      await publishTask(catalog, spec.uuid, answerOf(uuid, [plan, planOf({ disk: 'vdb' })]));
      base = uuid;
    }
    await publishTask(catalog, spec.uuid, answerOf(uuids[1] ?? ''));
    await beginFile();
    expect(await deleteSchedule(PURGE)).toHaveLength(8);
    expect(await inventory().listPoints({ host: spec.host })).toEqual([]);
    for (const uuid of uuids) expect(await rowsLeft(uuid)).toBe(0);
    expect((await catalog.activeStoragePaths()).some(row => row.path.includes(`/${spec.host}/`))).toBe(false);
  });

  it('with purge hides the points before their files go', async () => {
    await publishTask(catalog, spec.uuid, answerOf(randomUUID()));
    const input = { scheduleUuid: spec.uuid, request: PURGE };
    await catalog.beginDelete(input);
    expect(await catalog.filesToDrop(input)).toHaveLength(1);
    expect(await inventory().listPoints({ host: spec.host })).toEqual([]);
  });

  it('with purge keeps what another schedule published or stands on', async () => {
    const [shared, mine, theirs] = [randomUUID(), randomUUID(), randomUUID()];
    await publishTask(catalog, spec.uuid, answerOf(shared));
    const increment = (target: string) =>
      answerOf(target, [planOf({ method: 'incremental', baseSnapshot: shared })]);
    await publishTask(catalog, spec.uuid, increment(mine));
    const other = await newSchedule(catalog, { host: spec.host, sourceSite: 'c' });
    await publishTask(catalog, other.uuid, increment(theirs));
    const before = await inventory().findPoint(theirs);
    expect(await deleteSchedule(PURGE)).toHaveLength(1);
    expect((await inventory().listPoints({ host: spec.host })).map(row => row.point)).toEqual([
      shared,
      theirs,
    ]);
    expect(await inventory().findPoint(theirs)).toEqual(before);
    expect(await rowsLeft(mine)).toBe(0);
  });

  it('keeps a begun file that another schedule goes on with', async () => {
    const target = randomUUID();
    const { map, path } = await beginFile(target);
    const other = await newSchedule(catalog, { host: spec.host, sourceSite: 'c' });
    const { generation } = await catalog.createEmptyTask({
      scheduleUuid: other.uuid,
      taskUuid: randomUUID(),
    });
    const [task] = await database().db('remote_backup_tasks').where({ schedule_uuid: other.uuid });
    const fence = fenceOf(other.uuid, generation);
    const record = { fence, taskUuid: task.uuid, answer: answerOf(target), node: 'b1' };
    const [disk] = await catalog.recordSyncInfo(record);
    const epoch = { generation, plan: 1, openCount: 1 };
    const diskTaskUuid = disk?.diskTaskUuid ?? '';
    await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint: FINGERPRINT });
    await catalog.adoptLayout({ diskTaskUuid, epoch, ...map });
    expect(await deleteSchedule(KEEP)).toEqual([]);
    expect(await rowsLeft(target)).toBe(1);
    expect(await deleteSchedule(KEEP, other)).toEqual([path]);
    expect(await rowsLeft(target)).toBe(0);
  });

  it('with purge waits while a cascade holds a point, and loses nothing meanwhile', async () => {
    const [first, second] = [randomUUID(), randomUUID()];
    await publishTask(catalog, spec.uuid, answerOf(first));
    await publishTask(
      catalog,
      spec.uuid,
      answerOf(second, [planOf({ method: 'incremental', baseSnapshot: first })]),
    );
    const cascade = randomUUID();
    const source = createSourceCatalog(database().db, { site: 'b', instance: 1 });
    await source.answerSync(queryOf(spec.host, fenceOf(cascade, 1)), async () => answerOf(second));
    const input = { scheduleUuid: spec.uuid, request: PURGE };
    await catalog.beginDelete(input);
    await expect(catalog.filesToDrop(input)).rejects.toMatchObject({
      code: 'SnapshotLocked',
      message: expect.stringContaining(lockTypeOf(cascade)),
    });
    expect(await inventory().listPoints({ host: spec.host })).toHaveLength(2);
    await source.entomb({ scheduleUuid: cascade, lockType: lockTypeOf(cascade) });
    await source.releaseAll({ scheduleUuid: cascade, lockType: lockTypeOf(cascade) });
    expect(await catalog.filesToDrop(input)).toHaveLength(2);
    await catalog.finishDelete(input);
  });
});

describe('a purge after a plain delete', () => {
  it('takes the points that stayed, once, and not those of another schedule', async () => {
    const own = randomUUID();
    await publishTask(catalog, spec.uuid, answerOf(own));
    const other = await newSchedule(catalog);
    const others = randomUUID();
    await publishTask(catalog, other.uuid, answerOf(others));
    await deleteSchedule(KEEP);
    const { deleted_at: deletedAt } = await database()
      .db('remote_backup_schedules')
      .where({ uuid: spec.uuid })
      .first();
    expect(await rowsLeft(own)).toBe(1);

    const input = { scheduleUuid: spec.uuid, request: PURGE };
    const files = await catalog.filesToDrop(input);
    expect(files).toHaveLength(1);
    expect(await catalog.filesToDrop(input)).toEqual(files);
    await catalog.finishDelete(input);
    expect(await rowsLeft(own)).toBe(0);
    expect(await rowsLeft(others)).toBe(1);
    expect(await catalog.filesToDrop(input)).toEqual([]);
    await catalog.finishDelete(input);
    const row = await database().db('remote_backup_schedules').where({ uuid: spec.uuid }).first();
    expect(row).toMatchObject({ deleted_at: deletedAt, release_pending: false });
  });
});
