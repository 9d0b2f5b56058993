/** Deleting a schedule at the replica: fence first, then rows leave the view, then files, then rows. */
import type { DeleteRequest } from '../contract/schedule.ts';
import type { NodeFile } from '../domain/sealed-file.ts';
import { type Database, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError, SnapshotLockedError } from './errors.ts';
import { leaveTombstone } from './fence-rows.ts';
import { lockHost } from './host-rows.ts';
import {
  closeSessionsOf,
  finishTaskRow,
  lockSchedule,
  type ScheduleRow,
  type TaskRow,
} from './replica-rows.ts';
import { leaveToNodes } from './replica-storage-files.ts';

export interface DeleteInput {
  readonly scheduleUuid: string;
  readonly request: DeleteRequest;
}

/** The last step also knows whether the source has let go; workflows of version 0.1.0 did not say. */
export interface FinishDeleteInput extends DeleteInput {
  readonly released?: boolean | undefined;
}

export function createDeletionRows(db: Database) {
  return {
    /** Nothing of the schedule acts any more: tombstone, closed sessions, the running task stopped. Idempotent. */
    beginDelete: ({ scheduleUuid, request }: DeleteInput): Promise<void> =>
      inTransaction(db, 'replica.commit.beginDelete', async trx => {
        const schedule = await lockSchedule(trx, scheduleUuid);
        if (schedule !== null && schedule.deleted_at === null) {
          await trx('remote_backup_schedules')
            .where({ uuid: scheduleUuid })
            .update({
              deleting: true,
              purge: schedule.purge || request.purge,
              forced: schedule.forced || (request.force ?? false),
            });
          const running = await trx<TaskRow>('remote_backup_tasks')
            .where({ schedule_uuid: scheduleUuid })
            .whereNull('finished_at')
            .first();
          if (running !== undefined) await finishTaskRow(trx, running, 'stopped', 'the schedule was deleted');
        }
        // After the task's row, as everywhere: two that lock in other orders wait for each other.
        await leaveTombstone(trx, scheduleUuid);
        await closeSessionsOf(trx, 't.schedule_uuid = ?', scheduleUuid);
      }),

    /**
     * Takes what is to go out of everybody's view, and names its files. Asked again it names them again. Of a
     * schedule that was deleted before, a purge takes the points that stayed then.
     * @throws {SnapshotLockedError} when a recovery point that is to be purged is locked; nothing has gone then
     */
    filesToDrop: (input: DeleteInput): Promise<readonly NodeFile[]> =>
      inTransaction(db, 'replica.commit.filesToDrop', async trx => {
        const schedule = await lockSchedule(trx, input.scheduleUuid);
        if (schedule === null || isOver(schedule, input.request)) return [];
        assertDeleting(schedule);
        await lockHost(trx, schedule.host);
        if (schedule.purge || input.request.purge) await withdrawPoints(trx, schedule.uuid);
        return dropUnpublished(trx, schedule.uuid);
      }),

    /**
     * After the files are gone: drops the rows, and frees the name and the (host, source). Unless the source has
     * let go, the row remembers that it still has to be told.
     */
    finishDelete: ({ scheduleUuid, request, released }: FinishDeleteInput): Promise<void> =>
      inTransaction(db, 'replica.commit.finishDelete', async trx => {
        const schedule = await lockSchedule(trx, scheduleUuid);
        if (schedule === null || isOver(schedule, request)) return;
        assertDeleting(schedule);
        await lockHost(trx, schedule.host);
        const storages = await droppedStorages(trx, scheduleUuid);
        await trx('remote_backup_schedules')
          .where({ uuid: scheduleUuid })
          .update({ cursor_snapshot_id: null });
        await dropStorages(trx, storages);
        await dropEmptySnapshots(trx, scheduleUuid);
        if (schedule.deleted_at !== null) return;
        await trx('remote_backup_schedules')
          .where({ uuid: scheduleUuid })
          .update({
            deleted_at: trx.fn.now(),
            next_run_at: null,
            next_run_after: null,
            release_pending: !(released ?? !request.force),
          });
      }),
  };
}

/** `st` was written for a disk task of the schedule (one binding). */
const OWN_STORAGE = `exists (
  select 1 from remote_backup_disk_tasks dt join remote_backup_tasks t on t.id = dt.task_id
  where dt.storage_id = st.id and t.schedule_uuid = ?)`;

/** `st` is also that of another schedule which lives (one binding). */
const WANTED_BY_OTHERS = `exists (
  select 1 from remote_backup_disk_tasks dt join remote_backup_tasks t on t.id = dt.task_id
  join remote_backup_schedules s on s.uuid = t.schedule_uuid
  where dt.storage_id = st.id and s.uuid <> ? and not s.deleting)`;

/** Nothing is left to be done for a deleted schedule but to purge it. */
const isOver = ({ deleted_at: deletedAt }: ScheduleRow, { purge }: DeleteRequest): boolean =>
  deletedAt !== null && !purge;

function assertDeleting(schedule: ScheduleRow): void {
  if (!schedule.deleting) throw new CatalogInputError(`schedule ${schedule.name} is not being deleted`);
}

interface DroppedRow extends NodeFile {
  readonly id: number;
}

/**
 * What the schedule has begun and nobody else goes on with is to be removed.
 * @returns all that is to be removed for it, also from earlier calls
 */
export async function dropUnpublished(trx: Transaction, scheduleUuid: string): Promise<readonly NodeFile[]> {
  // Locked first: who is just adopting one has committed then, and is seen by the next statement.
  await trx.raw(
    `select 1 from snapshot_storages st where st.state in ('partial', 'sealed') and ${OWN_STORAGE}
     order by st.id for no key update`,
    [scheduleUuid],
  );
  await trx.raw(
    `update snapshot_storages st set state = 'dropped'
     where st.state in ('partial', 'sealed') and ${OWN_STORAGE} and not ${WANTED_BY_OTHERS}`,
    [scheduleUuid, scheduleUuid],
  );
  const rows = await droppedStorages(trx, scheduleUuid);
  return rows.map(({ node, path }) => ({ node, path }));
}

export async function droppedStorages(
  trx: Transaction,
  scheduleUuid: string,
): Promise<readonly DroppedRow[]> {
  // Of all files of its targets: those that a schedule wrote which is deleted have nobody else to see to them.
  const { rows } = await trx.raw<{ rows: DroppedRow[] }>(
    `select st.id, st.node, st.path from snapshot_storages st where st.state = 'dropped' and exists (
       select 1 from remote_backup_disk_tasks dt join remote_backup_tasks t on t.id = dt.task_id
       where dt.disk_snapshot_id = st.disk_snapshot_id and t.schedule_uuid = ?)
     order by st.path`,
    [scheduleUuid],
  );
  return rows;
}

/**
 * The recovery points that only this schedule published, and on which nothing of others stands, become partial:
 * they leave the lists before their files go.
 */
async function withdrawPoints(trx: Transaction, scheduleUuid: string): Promise<void> {
  const { rows } = await trx.raw<{ rows: { id: number; locked: string | null }[] }>(
    `with recursive own as (
       select distinct t.target_snapshot_id as id from remote_backup_tasks t
       join host_snapshots target on target.id = t.target_snapshot_id
       -- A journal is published while its task still runs.
       where t.schedule_uuid = ? and (t.outcome = 'published' or target.kind = 'cdp')
     ), foreign_points as (
       select hs.id from host_snapshots hs where hs.state = 'complete' and (
         not exists (select 1 from own where own.id = hs.id)
         or exists (select 1 from remote_backup_tasks t join remote_backup_schedules s on s.uuid = t.schedule_uuid
                    where t.target_snapshot_id = hs.id and s.uuid <> ? and not s.deleting)
         or exists (select 1 from disk_snapshots ds join snapshot_storages st on st.id = ds.storage_id
                    where ds.host_snapshot_id = hs.id and st.layout_digest is null))
     ), needed (storage_id) as (
       select st.id from snapshot_storages st join disk_snapshots ds on ds.id = st.disk_snapshot_id
       where ds.host_snapshot_id in (select id from foreign_points)
         or (st.state in ('partial', 'sealed') and ${WANTED_BY_OTHERS})
       union
       select st.base_storage_id from snapshot_storages st join needed on needed.storage_id = st.id
       where st.base_storage_id is not null
     )
     select hs.id, (select min(lock_holding(ds.id)) from disk_snapshots ds where ds.host_snapshot_id = hs.id)
         as locked
     from host_snapshots hs join own on own.id = hs.id
     where hs.state = 'complete' and not exists (
       select 1 from disk_snapshots ds join snapshot_storages st on st.disk_snapshot_id = ds.id
       where ds.host_snapshot_id = hs.id
         and (st.id in (select storage_id from needed) or hs.id in (select id from foreign_points)))`,
    [scheduleUuid, scheduleUuid, scheduleUuid],
  );
  const locked = rows.find(row => row.locked !== null);
  if (locked?.locked != null) throw new SnapshotLockedError(locked.locked);
  const ids = rows.map(({ id }) => id);
  // The file in use is named by the disk snapshot; what is withdrawn has none in use.
  await trx('disk_snapshots').whereIn('host_snapshot_id', ids).update({ storage_id: null });
  await trx('snapshot_storages')
    .whereIn('disk_snapshot_id', trx('disk_snapshots').whereIn('host_snapshot_id', ids).select('id'))
    .update({ state: 'dropped' });
  await trx('cdp_epochs')
    .whereIn('host_snapshot_id', ids)
    .update({ newest_checkpoint: 0, newest_checkpoint_at: null });
  await trx('host_snapshots')
    .whereIn('id', ids)
    .update({ state: 'partial', sequence: null, published_at: null });
}

export async function dropStorages(trx: Transaction, storages: readonly DroppedRow[]): Promise<void> {
  const ids = storages.map(({ id }) => id);
  // Those of other nodes are still there, and a writer that was held up may have come after the removal here.
  await leaveToNodes(trx, storages);
  await trx('remote_backup_disk_tasks').whereIn('base_storage_id', ids).update({ base_storage_id: null });
  await trx('remote_backup_disk_tasks')
    .whereIn('storage_id', ids)
    .update({ storage_id: null, disk_snapshot_id: null });
  // Overlays name their base: one statement, so that the order among them does not matter. What another schedule
  // that is being deleted has begun on them goes with that one.
  await trx('snapshot_storages')
    .where(either =>
      either
        .whereIn('id', ids)
        .orWhere(unpublished => unpublished.whereIn('base_storage_id', ids).whereNot('state', 'published')),
    )
    .update({ base_storage_id: null });
  await trx('snapshot_storages').whereIn('id', ids).delete();
}

/** Partial snapshots that the schedule's tasks began and nobody else wants. */
export async function dropEmptySnapshots(trx: Transaction, scheduleUuid: string): Promise<void> {
  const { rows } = await trx.raw<{ rows: { id: number }[] }>(
    `select distinct hs.id from host_snapshots hs join remote_backup_tasks t on t.target_snapshot_id = hs.id
     where t.schedule_uuid = ? and hs.state = 'partial'
       and not exists (
         select 1 from remote_backup_tasks o join remote_backup_schedules s on s.uuid = o.schedule_uuid
         where o.target_snapshot_id = hs.id and s.uuid <> ? and not s.deleting)
       and not exists (
         select 1 from disk_snapshots ds join snapshot_storages st on st.disk_snapshot_id = ds.id
         where ds.host_snapshot_id = hs.id)
       and not exists (
         select 1 from disk_snapshots ds join disk_snapshots child on child.parent_id = ds.id
         where ds.host_snapshot_id = hs.id and child.host_snapshot_id not in (
           select target_snapshot_id from remote_backup_tasks
           where schedule_uuid = ? and target_snapshot_id is not null))`,
    [scheduleUuid, scheduleUuid, scheduleUuid],
  );
  const ids = rows.map(({ id }) => id);
  const disks = trx('disk_snapshots').whereIn('host_snapshot_id', ids);
  const diskIds = (await disks.clone().select<{ id: number }[]>('id')).map(({ id }) => id);
  // Another schedule that is being deleted may have stood there as well.
  await trx('remote_backup_schedules')
    .whereIn('cursor_snapshot_id', ids)
    .update({ cursor_snapshot_id: null });
  await trx('remote_backup_tasks').whereIn('target_snapshot_id', ids).update({ target_snapshot_id: null });
  await trx('remote_backup_disk_tasks')
    .whereIn('disk_snapshot_id', diskIds)
    .update({ disk_snapshot_id: null });
  await trx('disk_snapshots').whereIn('id', diskIds).update({ parent_id: null });
  await trx('disk_snapshots').whereIn('id', diskIds).delete();
  await trx('cdp_epochs').whereIn('host_snapshot_id', ids).delete();
  await trx('host_snapshots').whereIn('id', ids).delete();
}
