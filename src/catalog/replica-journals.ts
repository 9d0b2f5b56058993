/** Journals at the replica: where they lie, what of them is durable, and what of it is published. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Epoch, Fence } from '../contract/fence.ts';
import type { Cursor, SyncTarget } from '../contract/sync.ts';
import { PlanBrokenError, SupersededError } from '../domain/errors.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import { type Database, inReadTransaction, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError } from './errors.ts';
import { announceSnapshot, lockHost, nextSequence } from './host-rows.ts';
import {
  type DiskTaskRow,
  findDiskTask,
  lockRunningTask,
  type ScheduleRow,
  type StorageRow,
  type TaskRow,
  writeCursor,
} from './replica-rows.ts';
import { lockLiveSchedule } from './replica-schedules.ts';
import { assertOpen, lockSession } from './replica-sessions.ts';
import { lockDiskForAdding } from './replica-storage-files.ts';

/** Where the journal of a disk task lies, and how far it goes. */
export interface ReplicaJournal {
  /** The folder of its segments; absolute, on the disk task's node. */
  readonly directory: string;
  readonly host: string;
  readonly disk: string;
  /** The uuid of the CDP host snapshot. */
  readonly epochUuid: string;
  readonly virtualSizeBytes: number;
  /** The number of the next record, and the bytes of those before. */
  readonly nextIndex: number;
  readonly recordBytes: number;
}

export interface DurableRecords {
  readonly diskTaskUuid: string;
  readonly epoch: Epoch;
  readonly nextIndex: number;
  readonly recordBytes: number;
  /** The newest checkpoint among the records before; null when none came. */
  readonly checkpoint: { readonly sequence: number; readonly atMs: number } | null;
  /** Named checkpoints that came. */
  readonly markers: readonly { readonly sequence: number; readonly atMs: number; readonly name: string }[];
}

export function createJournalRows(db: Database, options: { readonly replicaRoot: string }) {
  return {
    /**
     * Gives the disk task's journal, or makes its row. Every later task of the same disk and epoch gets the same.
     * @throws {SupersededError} unless the session's epoch is that one and open
     * @throws {PlanBrokenError} when the disk task appends to nothing, or the journal is being removed
     */
    openJournal: (input: { diskTaskUuid: string; epoch: Epoch }): Promise<ReplicaJournal> =>
      inTransaction(db, 'replica.commit.openJournal', async trx => {
        assertOpen(await lockSession(trx, input.diskTaskUuid), input.epoch);
        const diskTask = await locate(trx, input.diskTaskUuid);
        const storage = await storageOf(trx, options.replicaRoot, diskTask);
        await trx('remote_backup_disk_tasks')
          .where({ uuid: diskTask.uuid })
          .update({ storage_id: storage.id });
        await trx('cdp_journals').insert({ storage_id: storage.id }).onConflict('storage_id').ignore();
        const { next_index: nextIndex, record_bytes: recordBytes } = await trx('cdp_journals')
          .where({ storage_id: storage.id })
          .first<{ next_index: number; record_bytes: number }>('next_index', 'record_bytes');
        const { host, disk, target: epochUuid, size: virtualSizeBytes } = diskTask;
        return { directory: storage.path, host, disk, epochUuid, virtualSizeBytes, nextIndex, recordBytes };
      }),

    /**
     * Notes what became durable of one disk's journal, and publishes what all disks have, in one transaction. A point
     * never goes back: greatest(old, least over the disks).
     * @returns the sequence of the published checkpoint, 0 for none
     * @throws {SupersededError} unless the session's epoch is that one and open, and the cursor where the task began
     */
    appendDurable: (input: DurableRecords): Promise<{ publishedCheckpoint: number }> =>
      inTransaction(db, 'replica.commit.appendDurable', async trx => {
        const diskTask = await findDiskTask(trx, input.diskTaskUuid);
        const schedule = await lockLiveSchedule(trx, diskTask.schedule_uuid);
        assertOpen(await lockSession(trx, input.diskTaskUuid), input.epoch);
        await noteDurable(trx, diskTask, input);
        const task = await trx<TaskRow>('remote_backup_tasks').where({ id: diskTask.task_id }).first();
        return { publishedCheckpoint: await publishJournals(trx, schedule, task as TaskRow) };
      }),

    /**
     * After the end of an append was received: the disk task is done. A retry finds it so.
     * @returns the journal's folder; null when the disk task is one of images
     * @throws {CatalogInputError} when nothing was received
     */
    async markAppended(input: { fence: Fence; diskTaskUuid: string }): Promise<{ path: string } | null> {
      const { method } = await inReadTransaction(db, trx => findDiskTask(trx, input.diskTaskUuid));
      if (method !== 'append') return null;
      return inTransaction(db, 'replica.commit.markAppended', async trx => {
        const diskTask = await findDiskTask(trx, input.diskTaskUuid);
        await lockRunningTask(trx, input.fence, diskTask.task_uuid);
        if (diskTask.plan !== input.fence.plan || diskTask.state === 'planned') {
          throw new CatalogInputError(`disk task ${diskTask.uuid} was not received under this plan`);
        }
        await trx('remote_backup_disk_tasks').where({ uuid: diskTask.uuid }).update({ state: 'sealed' });
        return trx('snapshot_storages').where({ id: diskTask.storage_id }).first<{ path: string }>('path');
      });
    },
  };
}

type LocatedDiskTask = DiskTaskRow & { host: string; disk: string; target: string; size: number };

async function locate(trx: Transaction, diskTaskUuid: string): Promise<LocatedDiskTask> {
  const row = await trx('remote_backup_disk_tasks as dt')
    .join('disks as d', 'd.id', 'dt.disk_id')
    .join('hosts as h', 'h.id', 'd.host_id')
    .join('disk_snapshots as ds', 'ds.id', 'dt.disk_snapshot_id')
    .join('host_snapshots as hs', 'hs.id', 'ds.host_snapshot_id')
    .where('dt.uuid', diskTaskUuid)
    .forUpdate('dt')
    .first<LocatedDiskTask | undefined>(
      'dt.*',
      'h.ident as host',
      'd.ident as disk',
      'hs.uuid as target',
      'ds.virtual_size_bytes as size',
    );
  if (row === undefined) throw new CatalogInputError(`disk task ${diskTaskUuid} has no target`);
  if (row.method !== 'append' || row.base_storage_id === null) {
    throw new PlanBrokenError(`disk ${row.disk} is to be sent as ${row.method}, not as a journal`);
  }
  return row;
}

/** One journal a disk and epoch; one that is being removed is followed by another, with a name of its own. */
async function storageOf(
  trx: Transaction,
  replicaRoot: string,
  diskTask: LocatedDiskTask,
): Promise<StorageRow> {
  const { host, disk, target, disk_snapshot_id: diskSnapshotId, base_storage_id: base } = diskTask;
  await lockDiskForAdding(trx, host, disk);
  const known = await trx<StorageRow>('snapshot_storages')
    .where({ disk_snapshot_id: diskSnapshotId, format: 'cdp' } as object)
    .whereIn('state', ['partial', 'published'])
    .forNoKeyUpdate()
    .first();
  if (known !== undefined) {
    // The base may have been written anew since: the same content in another file.
    await trx('snapshot_storages').where({ id: known.id }).update({ base_storage_id: base });
    return known as StorageRow;
  }
  const nonce = randomBytes(4).toString('hex');
  const digest = createXxh128();
  digest.update(Buffer.from(`journal\n${target}\n${disk}\n${nonce}\n`));
  const [made] = await trx('snapshot_storages')
    .insert({
      disk_snapshot_id: diskSnapshotId,
      node: diskTask.node,
      path: join(replicaRoot, host, disk, `${target}.${nonce}.cdp`),
      format: 'cdp',
      state: 'partial',
      layout_digest: toHex(digest.digest()),
      virtual_size_bytes: diskTask.size,
      base_storage_id: base,
    })
    .returning<StorageRow[]>('*');
  return made as StorageRow;
}

async function noteDurable(
  trx: Transaction,
  diskTask: DiskTaskRow,
  { nextIndex, recordBytes, checkpoint, markers }: DurableRecords,
): Promise<void> {
  const [journal] = await trx('cdp_journals')
    .where({ storage_id: diskTask.storage_id })
    .where('next_index', '<=', nextIndex)
    .update({
      next_index: nextIndex,
      record_bytes: recordBytes,
      ...(checkpoint !== null && {
        checkpoint: checkpoint.sequence,
        checkpoint_at: new Date(checkpoint.atMs),
      }),
    })
    .returning<{ storage_id: number }[]>('storage_id');
  if (journal === undefined) {
    throw new SupersededError(
      `the journal of disk task ${diskTask.uuid} goes beyond record ${nextIndex} already`,
    );
  }
  const epochId = trx('disk_snapshots').where({ id: diskTask.disk_snapshot_id }).select('host_snapshot_id');
  if (markers.length > 0) {
    await trx('cdp_markers')
      .insert(
        markers.map(({ sequence, atMs, name }) => ({
          host_snapshot_id: epochId.clone(),
          ...{ sequence, name, marked_at: new Date(atMs) },
        })),
      )
      .onConflict(['host_snapshot_id', 'sequence'])
      .ignore();
  }
}

interface EpochRow {
  readonly epoch: number;
  readonly newest_checkpoint: number;
  readonly newest_checkpoint_at: Date | null;
  readonly state: 'partial' | 'complete';
}

/** @returns the sequence of the published checkpoint */
async function publishJournals(trx: Transaction, schedule: ScheduleRow, task: TaskRow): Promise<number> {
  const target = task.sync_info?.target;
  const id = task.target_snapshot_id;
  if (target == null || id === null) throw new CatalogInputError(`task ${task.uuid} has no target`);
  const host = await lockHost(trx, schedule.host);
  if (host === null) throw new CatalogInputError(`the host of task ${task.uuid} is unknown`);
  const epoch = await trx('cdp_epochs as e')
    .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
    .where('hs.id', id)
    .forNoKeyUpdate('e')
    .first<EpochRow>('e.epoch', 'e.newest_checkpoint', 'e.newest_checkpoint_at', 'hs.state');
  const common = await leastCheckpoint(trx, id, target);
  const isNew = common !== null && common.checkpoint > epoch.newest_checkpoint;
  if (isNew) {
    await trx('cdp_epochs')
      .where({ host_snapshot_id: id })
      .update({ newest_checkpoint: common.checkpoint, newest_checkpoint_at: common.checkpoint_at });
    if (epoch.state === 'partial') await publishFirst(trx, id, host.id);
    // A point's age is that of its newest checkpoint.
    await trx('host_snapshots').where({ id }).update({ taken_at: common.checkpoint_at });
  }
  const checkpoint = isNew ? common.checkpoint : epoch.newest_checkpoint;
  if (checkpoint > 0) await moveCursor(trx, schedule, task, target, { epoch: epoch.epoch, checkpoint });
  if (isNew) await announceSnapshot(trx, host.ident);
  return checkpoint;
}

/** Null while a disk has none. */
async function leastCheckpoint(
  trx: Transaction,
  hostSnapshotId: number,
  target: SyncTarget,
): Promise<{ checkpoint: number; checkpoint_at: Date } | null> {
  const rows = await trx('cdp_journals as j')
    .join('snapshot_storages as st', 'st.id', 'j.storage_id')
    .join('disk_snapshots as ds', 'ds.id', 'st.disk_snapshot_id')
    .where('ds.host_snapshot_id', hostSnapshotId)
    .whereNot('st.state', 'dropped')
    .where('j.checkpoint', '>', 0)
    .orderBy('j.checkpoint')
    .select<{ checkpoint: number; checkpoint_at: Date }[]>('j.checkpoint', 'j.checkpoint_at');
  return rows.length < target.disks.length ? null : (rows[0] ?? null);
}

/** The host snapshot's journals become its storages in use, and it takes its place in the order. */
async function publishFirst(trx: Transaction, id: number, hostId: number): Promise<void> {
  const storages = trx('disk_snapshots').where({ host_snapshot_id: id }).select('id');
  await trx('snapshot_storages')
    .whereIn('disk_snapshot_id', storages)
    .where({ format: 'cdp', state: 'partial' })
    .update({ state: 'published', published_at: trx.fn.now() });
  await trx.raw(
    `update disk_snapshots ds set storage_id = st.id, parent_id = base.disk_snapshot_id
     from snapshot_storages st join snapshot_storages base on base.id = st.base_storage_id
     where ds.host_snapshot_id = ? and st.disk_snapshot_id = ds.id and st.format = 'cdp' and st.state = 'published'`,
    [id],
  );
  await trx('host_snapshots')
    .where({ id })
    .update({ state: 'complete', sequence: await nextSequence(trx, hostId), published_at: trx.fn.now() });
}

async function moveCursor(
  trx: Transaction,
  schedule: ScheduleRow,
  task: TaskRow,
  target: SyncTarget,
  position: NonNullable<Cursor['position']>,
): Promise<void> {
  const { cursor } = schedule;
  const isOwn = cursor?.taskUuid === task.uuid;
  if (!isOwn && cursor?.taskUuid !== task.prev_info?.taskUuid) {
    throw new SupersededError(`the cursor moved since task ${task.uuid} began`);
  }
  if (isOwn && (cursor.position?.checkpoint ?? 0) >= position.checkpoint) return;
  await writeCursor(trx, task, target, position);
}
