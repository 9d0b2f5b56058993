/**
 * Two catalogs and their files as a few runs of one schedule leave them: two published points, then a task
 * that was paused while it received the third; and a second schedule that was deleted.
 */
import { randomUUID } from 'node:crypto';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { type Database, migrate, openDatabase } from '../../../src/catalog/database.ts';
import { lockTypeOf } from '../../../src/contract/names.ts';
import { qemuImg, qemuIo } from '../../support/qemu.ts';

const HOST = 'web';
const DISKS = ['vda', 'vdb'];
const DISK_BYTES = 1024 * 1024;
const TAKEN_AT = new Date('2026-01-02T03:04:05Z');
const DIGEST = '0'.repeat(32);

export const SCHEDULE = { uuid: randomUUID(), name: 'nightly' };
export const DELETED_SCHEDULE = { uuid: randomUUID(), name: 'given-up' };
/** Host snapshots s1 to s3 of tasks t1 to t3. */
export const SNAPSHOTS = [randomUUID(), randomUUID(), randomUUID()] as const;
export const TASKS = [randomUUID(), randomUUID(), randomUUID()] as const;
const MIDDLE = { hostSnapshot: SNAPSHOTS[1], taskUuid: TASKS[1] };

export interface State {
  readonly source: Database;
  readonly replica: Database;
  readonly sourceDb: string;
  readonly replicaDb: string;
  readonly imageRoot: string;
  readonly replicaRoot: string;
}

export interface StateMaker {
  /** A copy of the clean state, of the test's own. */
  make(): Promise<State>;
  close(): Promise<void>;
}

/** @param postgresUrl a database whose user may make others */
export async function createStateMaker(postgresUrl: string): Promise<StateMaker> {
  const directory = await mkdtemp(join(tmpdir(), 'offsite-invariants-'));
  const server = openDatabase({ url: postgresUrl });
  const names: string[] = [];
  const open: Database[] = [];
  const createDatabase = async (template: string | null): Promise<string> => {
    const name = `invariants_${randomUUID().replaceAll('-', '')}`;
    await server.raw(`create database ${name}${template === null ? '' : ` template ${template}`}`);
    names.push(name);
    return name;
  };
  const urlOf = (name: string): string => Object.assign(new URL(postgresUrl), { pathname: `/${name}` }).href;

  const templateRoot = join(directory, 'template');
  await makeFiles(templateRoot);
  const [templateA, templateB] = [await createDatabase(null), await createDatabase(null)];
  await filling(urlOf(templateA), db => fillSource(db, templateRoot));
  await filling(urlOf(templateB), db => fillReplica(db, templateRoot));
  return {
    async make() {
      const root = join(directory, `state-${names.length}`);
      await cp(templateRoot, root, { recursive: true });
      const [nameA, nameB] = [await createDatabase(templateA), await createDatabase(templateB)];
      const [sourceDb, replicaDb] = [urlOf(nameA), urlOf(nameB)];
      const [source, replica] = [openDatabase({ url: sourceDb }), openDatabase({ url: replicaDb })];
      open.push(source, replica);
      for (const db of [source, replica]) {
        await db.raw('update snapshot_storages set path = replace(path, ?, ?)', [templateRoot, root]);
      }
      return {
        source,
        replica,
        sourceDb,
        replicaDb,
        imageRoot: join(root, 'images'),
        replicaRoot: join(root, 'replicas'),
      };
    },
    async close() {
      await Promise.all(open.map(db => db.destroy()));
      for (const name of names) await server.raw(`drop database ${name} with (force)`);
      await server.destroy();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** @param number of the snapshot, from 1 */
export const sourcePath = (imageRoot: string, disk: string, number: number): string =>
  join(imageRoot, `${disk}-${number}.qcow2`);

export const replicaPath = (replicaRoot: string, disk: string, number: number): string =>
  join(replicaRoot, HOST, disk, `${SNAPSHOTS[number - 1]}.${DIGEST.slice(0, 16)}.qcow2`);

async function makeFiles(root: string): Promise<void> {
  for (const disk of DISKS) {
    const path = (number: number) => sourcePath(join(root, 'images'), disk, number);
    const replica = (number: number) => replicaPath(join(root, 'replicas'), disk, number);
    await mkdir(dirname(path(1)), { recursive: true });
    await mkdir(dirname(replica(1)), { recursive: true });
    await qemuImg('create', '-f', 'qcow2', path(1), String(DISK_BYTES));
    await qemuIo(path(1), ['write -P 1 0 256k']);
    for (const number of [2, 3]) {
      await qemuImg('create', '-f', 'qcow2', '-b', basename(path(number - 1)), '-F', 'qcow2', path(number));
      await qemuIo(path(number), [`write -P ${number} 128k 64k`]);
    }
    await cp(path(1), replica(1));
    await cp(path(2), replica(2));
    await qemuImg('rebase', '-u', '-b', basename(replica(1)), '-F', 'qcow2', replica(2));
    for (const number of [1, 2]) await writeFile(`${replica(number)}.digests`, 'digests');
    for (const suffix of ['partial', 'map', 'progress']) await writeFile(`${replica(3)}.${suffix}`, suffix);
  }
}

async function filling(url: string, fill: (db: Database) => Promise<void>): Promise<void> {
  const db = openDatabase({ url });
  try {
    await migrate(db);
    await fill(db);
  } finally {
    // A template with a connection cannot be copied.
    await db.destroy();
  }
}

async function fillSource(db: Database, root: string): Promise<void> {
  await fillSnapshots(db, {
    completeCount: 3,
    storage: (disk, number) => ({
      path: sourcePath(join(root, 'images'), disk, number),
      device: '1',
      inode: String(number),
    }),
  });
  await db('schedule_fences').insert([
    { schedule_uuid: SCHEDULE.uuid, lock_type: lockTypeOf(SCHEDULE.uuid), generation: 3, plan: 1 },
    {
      schedule_uuid: DELETED_SCHEDULE.uuid,
      lock_type: lockTypeOf(DELETED_SCHEDULE.uuid),
      generation: 0,
      plan: 0,
      tombstoned_at: TAKEN_AT,
    },
  ]);
  for (const number of [2, 3]) await db('host_snapshot_locks').insert(lockRow(number));
  await db('sync_answers').insert({
    task_uuid: TASKS[2],
    plan: 1,
    schedule_uuid: SCHEDULE.uuid,
    generation: 3,
    answer: JSON.stringify({ result: 'update', target: { hostSnapshot: SNAPSHOTS[2] } }),
  });
}

/** The lock of one snapshot by its task. */
export const lockRow = (number: number) => ({
  host_snapshot_id: number,
  lock_type: lockTypeOf(SCHEDULE.uuid),
  task_uuid: TASKS[number - 1],
  generation: number,
});

async function fillReplica(db: Database, root: string): Promise<void> {
  await fillSnapshots(db, {
    completeCount: 2,
    storage: (disk, number) => ({
      path: replicaPath(join(root, 'replicas'), disk, number),
      layout_digest: DIGEST,
      map_digest: DIGEST,
      cluster_size_bytes: 65_536,
      virtual_size_bytes: DISK_BYTES,
    }),
  });
  const schedule = { replica_site: 'b', source_site: 'a', host: HOST, settings: '{}' };
  await db('remote_backup_schedules').insert({
    ...schedule,
    ...SCHEDULE,
    last_generation: 3,
    cursor: JSON.stringify(MIDDLE),
    cursor_snapshot_id: 2,
    cursor_generation: 2,
  });
  await db('remote_backup_schedules').insert({
    ...schedule,
    ...DELETED_SCHEDULE,
    deleting: true,
    deleted_at: TAKEN_AT,
  });
  await db('schedule_fences').insert({
    schedule_uuid: SCHEDULE.uuid,
    lock_type: lockTypeOf(SCHEDULE.uuid),
    generation: 3,
    plan: 1,
  });
  for (const number of [1, 2, 3]) await db('remote_backup_tasks').insert(taskRow(number));
}

/** The row of one task; the third was paused. */
export function taskRow(number: number) {
  const prev = { hostSnapshot: SNAPSHOTS[number - 2], taskUuid: TASKS[number - 2] };
  return {
    uuid: TASKS[number - 1],
    schedule_uuid: SCHEDULE.uuid,
    generation: number,
    plan: 1,
    prev_info: number === 1 ? null : JSON.stringify(prev),
    current_info: '{}',
    sync_info: '{}',
    target_snapshot_id: number,
    outcome: number === 3 ? 'paused' : 'published',
    finished_at: TAKEN_AT as Date | null,
  };
}

interface SnapshotFill {
  /** The snapshots after these are partial. */
  readonly completeCount: number;
  storage(disk: string, number: number): Record<string, string | number>;
}

/** Host snapshots get the ids 1 to 3, a disk's layers stand on each other. */
async function fillSnapshots(db: Database, fill: SnapshotFill): Promise<void> {
  await db('hosts').insert({ ident: HOST, last_sequence: fill.completeCount });
  for (const ident of DISKS) await db('disks').insert({ host_id: 1, ident });
  for (const number of [1, 2, 3]) {
    const isComplete = number <= fill.completeCount;
    await db('host_snapshots').insert({
      uuid: SNAPSHOTS[number - 1],
      host_id: 1,
      origin_site: 'a',
      taken_at: TAKEN_AT,
      ...(isComplete
        ? { state: 'complete', sequence: number, published_at: TAKEN_AT }
        : { state: 'partial' }),
    });
    for (const disk of DISKS) await fillDisk(db, disk, number, fill);
  }
}

/** Its disk snapshot and its storage have the same id. */
async function fillDisk(db: Database, disk: string, number: number, fill: SnapshotFill): Promise<void> {
  const diskId = DISKS.indexOf(disk) + 1;
  const id = (number - 1) * DISKS.length + diskId;
  const beneath = number === 1 ? null : id - DISKS.length;
  await db('disk_snapshots').insert({
    host_snapshot_id: number,
    disk_id: diskId,
    parent_id: beneath,
    virtual_size_bytes: DISK_BYTES,
  });
  const isComplete = number <= fill.completeCount;
  const file = fill.storage(disk, number);
  await db('snapshot_storages').insert({
    ...file,
    disk_snapshot_id: id,
    node: 'n1',
    format: 'qcow2',
    state: isComplete ? 'published' : 'partial',
    base_storage_id: file.layout_digest === undefined ? null : beneath,
    published_at: isComplete ? TAKEN_AT : null,
  });
  if (isComplete) await db('disk_snapshots').where({ id }).update({ storage_id: id });
}
