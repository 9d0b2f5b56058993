/** Publishes a recovery point and moves the cursor, in one transaction. */
import type { Fence } from '../contract/fence.ts';
import type { TaskSummary } from '../contract/schedule.ts';
import type { SyncTarget } from '../contract/sync.ts';
import { SupersededError } from '../domain/errors.ts';
import { type Database, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError, DisksNotSealedError } from './errors.ts';
import { checkFence } from './fence-rows.ts';
import { announceSnapshot, lockHost, nextSequence } from './host-rows.ts';
import {
  type DiskTaskRow,
  finishTaskRow,
  lockTask,
  readOutcome,
  type ScheduleRow,
  type TaskRow,
  writeCursor,
} from './replica-rows.ts';
import { lockLiveSchedule } from './replica-schedules.ts';
import { noteUsedSeeds } from './replica-seeds.ts';

export function createPublicationRows(db: Database) {
  return {
    /**
     * Publishes the task's host snapshot. Its retry finds it done and gives the same summary.
     * @throws {DisksNotSealedError} while a disk is not sealed
     * @throws {SupersededError} when the cursor no longer stands where the task began
     */
    finishTask: (input: { fence: Fence; taskUuid: string }): Promise<TaskSummary> =>
      inTransaction(db, 'replica.commit.finishTask', async trx => {
        const done = await trx<TaskRow>('remote_backup_tasks')
          .where({ uuid: input.taskUuid, outcome: 'published' })
          .first();
        if (done !== undefined) return readOutcome(trx, done as TaskRow);

        const schedule = await lockLiveSchedule(trx, input.fence.scheduleUuid);
        const task = await lockTask(trx, input.fence, input.taskUuid);
        // Another call of this task may have published it while this one waited for the lock.
        if (task.outcome === 'published') return readOutcome(trx, task);
        await checkFence(trx, input.fence);
        if (task.outcome !== null)
          throw new SupersededError(`task ${task.uuid} has ended as ${task.outcome}`);
        const target = task.sync_info?.target;
        if (target == null) throw new CatalogInputError(`task ${task.uuid} has nothing to publish`);
        if (target.position !== null) {
          await assertJournalPublished(trx, schedule, task, target);
        } else if (task.prev_info?.taskUuid !== schedule.cursor?.taskUuid) {
          throw new SupersededError(`the cursor moved since task ${task.uuid} began`);
        } else {
          await publish(trx, schedule, task, target);
        }
        return readOutcome(trx, await finishTaskRow(trx, task, 'published', task.sync_info?.reason ?? null));
      }),
  };
}

/** A journal is published while it comes (replica-journals.ts): here the named checkpoint must have been reached. */
async function assertJournalPublished(
  trx: Transaction,
  { cursor }: ScheduleRow,
  task: TaskRow,
  target: SyncTarget,
): Promise<void> {
  await sealedDisks(trx, task, target);
  if (cursor?.taskUuid !== task.uuid)
    throw new SupersededError(`the cursor moved since task ${task.uuid} began`);
  const [published, wanted] = [cursor.position?.checkpoint ?? 0, target.position?.checkpoint ?? 0];
  if (published < wanted) {
    throw new CatalogInputError(
      `task ${task.uuid} was to bring checkpoint ${wanted}, published is ${published}`,
    );
  }
}

async function publish(
  trx: Transaction,
  schedule: ScheduleRow,
  task: TaskRow,
  target: SyncTarget,
): Promise<void> {
  const host = await lockHost(trx, schedule.host);
  if (host === null || task.target_snapshot_id === null) {
    throw new CatalogInputError(`the target of task ${task.uuid} was not recorded`);
  }
  for (const diskTask of await sealedDisks(trx, task, target)) await publishDisk(trx, diskTask);

  const snapshot = await trx('host_snapshots')
    .where({ id: task.target_snapshot_id })
    .first<{ state: string }>('state');
  if (snapshot.state === 'partial') {
    const sequence = await nextSequence(trx, host.id);
    await trx('host_snapshots')
      .where({ id: task.target_snapshot_id })
      .update({ state: 'complete', sequence, published_at: trx.fn.now() });
  }
  await noteUsedSeeds(trx, task.id, target.hostSnapshot);
  await writeCursor(trx, task, target, target.position);
  await announceSnapshot(trx, host.ident);
}

/** The disk tasks of the task's plan. @throws {DisksNotSealedError} unless every disk of the target is sealed */
async function sealedDisks(
  trx: Transaction,
  task: TaskRow,
  target: SyncTarget,
): Promise<readonly DiskTaskRow[]> {
  const rows = await trx('remote_backup_disk_tasks as dt')
    .join('disks as d', 'd.id', 'dt.disk_id')
    .where({ 'dt.task_id': task.id, 'dt.plan': task.plan })
    .select<(DiskTaskRow & { ident: string })[]>('dt.*', 'd.ident');
  const sealed = rows.filter(row => row.state === 'sealed');
  const missing = target.disks
    .map(({ disk }) => disk)
    .filter(disk => !sealed.some(row => row.ident === disk));
  if (missing.length > 0) throw new DisksNotSealedError(missing);
  return sealed;
}

async function publishDisk(trx: Transaction, diskTask: DiskTaskRow): Promise<void> {
  const { storage_id: storageId, disk_snapshot_id: diskSnapshotId } = diskTask;
  await trx('snapshot_storages')
    .where({ id: storageId, state: 'sealed' })
    .update({ state: 'published', published_at: trx.fn.now() });
  const base = await trx('snapshot_storages as st')
    .leftJoin('snapshot_storages as base', 'base.id', 'st.base_storage_id')
    .where('st.id', storageId)
    .first<{ virtual_size_bytes: number; parent_id: number | null }>(
      'st.virtual_size_bytes',
      'base.disk_snapshot_id as parent_id',
    );
  // The trigger refuses a storage that is not published by now.
  await trx('disk_snapshots').where({ id: diskSnapshotId }).update({
    storage_id: storageId,
    parent_id: base.parent_id,
    virtual_size_bytes: base.virtual_size_bytes,
  });
}
