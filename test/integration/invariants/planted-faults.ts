/** The faults that a sound state is given, one a test. */
import { randomUUID } from 'node:crypto';
import { cp, mkdir, open, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { lockTypeOf } from '../../../src/contract/names.ts';
import { qemuImg } from '../../support/qemu.ts';
import {
  DELETED_SCHEDULE,
  lockRow,
  replicaPath,
  SCHEDULE,
  SNAPSHOTS,
  type State,
  TASKS,
  taskRow,
} from './clean-state.ts';

export const schedule = (state: State) =>
  state.replica('remote_backup_schedules').where({ uuid: SCHEDULE.uuid });
export const fence = (db: State['source']) => db('schedule_fences').where({ schedule_uuid: SCHEDULE.uuid });
export const cursorTo = (number: number) => ({
  cursor: JSON.stringify({ hostSnapshot: SNAPSHOTS[number - 1], taskUuid: TASKS[number - 1] }),
  cursor_snapshot_id: number,
  cursor_generation: number,
});
export const replicaOf = (state: State, number: number): string =>
  replicaPath(state.replicaRoot, 'vda', number);

export const unlock = (source: State['source'], number: number) =>
  source('host_snapshot_locks').where({ host_snapshot_id: number }).delete();

export const lockFor = ({ source }: State, scheduleUuid: string) =>
  source('host_snapshot_locks').insert({ ...lockRow(1), lock_type: lockTypeOf(scheduleUuid), generation: 0 });

export const loseTombstone = ({ source }: State) =>
  source('schedule_fences').where({ schedule_uuid: DELETED_SCHEDULE.uuid }).delete();

export const losePoint = ({ replica }: State) =>
  replica('host_snapshots').where({ id: 1 }).update({ state: 'partial', sequence: null, published_at: null });

export const loseDisk = async ({ replica }: State) => {
  await replica('disk_snapshots').where({ host_snapshot_id: 2, disk_id: 2 }).update({ storage_id: null });
};

export const unpublishStorage = ({ replica }: State) =>
  replica('snapshot_storages').where({ id: 1 }).update({ state: 'sealed' });

export const dropStorage = ({ replica }: State) =>
  replica('snapshot_storages').where({ id: 5 }).update({ state: 'dropped' });

export const loseCursor = (state: State) =>
  schedule(state).update({ cursor: null, cursor_snapshot_id: null, cursor_generation: null });

export async function publishTwice({ replica }: State): Promise<void> {
  await replica.raw('alter table host_snapshots drop constraint host_snapshots_uuid_key');
  await replica.raw(
    `insert into host_snapshots (uuid, host_id, origin_site, sequence, taken_at, state, published_at)
     select uuid, host_id, origin_site, 9, taken_at, state, published_at from host_snapshots where id = 2`,
  );
  await replica.raw(
    `insert into disk_snapshots (host_snapshot_id, disk_id, virtual_size_bytes)
     select 4, disk_id, virtual_size_bytes from disk_snapshots where host_snapshot_id = 2`,
  );
  // Both points stand on the same files.
  await replica.raw('alter table disk_snapshots drop constraint storage_in_use');
  await replica.raw('update disk_snapshots set storage_id = disk_id + 2 where host_snapshot_id = 4');
}

export async function addUnfinishedTasks({ replica }: State): Promise<void> {
  await replica.raw('drop index one_unfinished_task_a_schedule');
  for (const number of [4, 5]) {
    await replica('remote_backup_tasks').insert({
      ...taskRow(3),
      uuid: randomUUID(),
      generation: number,
      sync_info: null,
      target_snapshot_id: null,
      outcome: null,
      finished_at: null,
    });
  }
  await raiseGeneration(replica, 5);
}

export async function repeatGeneration({ replica }: State): Promise<void> {
  await replica.raw(
    'alter table remote_backup_tasks drop constraint remote_backup_tasks_schedule_uuid_generation_key',
  );
  const ended = { sync_info: null, target_snapshot_id: null, outcome: 'superseded' };
  await replica('remote_backup_tasks').insert({ ...taskRow(3), ...ended, uuid: randomUUID() });
}

export async function skipGeneration({ replica }: State): Promise<void> {
  await replica('remote_backup_tasks').where({ uuid: TASKS[2] }).update({ generation: 4 });
  await raiseGeneration(replica, 4);
}

async function raiseGeneration(replica: State['replica'], generation: number): Promise<void> {
  await replica('remote_backup_schedules')
    .where({ uuid: SCHEDULE.uuid })
    .update({ last_generation: generation });
  await fence(replica).update({ generation });
}

export async function addSecondSchedule({ replica }: State): Promise<void> {
  await replica.raw('drop index one_live_schedule_a_name');
  await replica('remote_backup_schedules').insert({
    uuid: randomUUID(),
    name: SCHEDULE.name,
    replica_site: 'b',
    source_site: 'c',
    host: 'other',
    settings: '{}',
  });
}

export async function moveBase(state: State): Promise<void> {
  const from = replicaOf(state, 1);
  const to = join(state.replicaRoot, 'web', 'elsewhere', basename(from));
  await mkdir(dirname(to));
  await cp(from, to);
  await rename(`${from}.digests`, `${to}.digests`);
  await state.replica('snapshot_storages').where({ path: from }).update({ path: to });
  // The overlay still finds its base by name, so only the row tells.
  const { id: _, ...row } = await state.replica('snapshot_storages').where({ id: 1 }).first();
  await state.replica('snapshot_storages').insert({
    ...row,
    path: from,
    layout_digest: 'f'.repeat(32),
  });
  await writeFile(`${from}.digests`, 'digests');
}

export async function nameOtherBase(state: State): Promise<void> {
  const overlay = replicaOf(state, 2);
  const path = join('..', basename(dirname(overlay)), basename(replicaOf(state, 1)));
  await qemuImg('rebase', '-u', '-b', path, '-F', 'qcow2', overlay);
}

/** Counts a cluster in the refcount block that nothing refers to. */
export async function leakCluster(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const header = Buffer.alloc(56);
  await file.read(header, 0, header.length, 0);
  const table = Buffer.alloc(8);
  await file.read(table, 0, 8, Number(header.readBigUInt64BE(48)));
  const { size } = await file.stat();
  const unused = Math.ceil(size / 65_536);
  await file.write(Buffer.from([0, 1]), 0, 2, Number(table.readBigUInt64BE(0)) + unused * 2);
  await file.truncate((unused + 1) * 65_536);
}
