/** The files of a replica: one layout, one storage; sealed before it is published. */
import { randomBytes } from 'node:crypto';
import { dirname, join, relative } from 'node:path';
import type { Epoch, Fence } from '../contract/fence.ts';
import { PlanBrokenError, ReopenNeededError } from '../domain/errors.ts';
import type { NodeFile, SealedFile } from '../domain/sealed-file.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import { type Database, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError } from './errors.ts';
import { chainOf } from './replica-chains.ts';
import {
  type Comparison,
  type DiskTaskRow,
  findDiskTask,
  lockRunningTask,
  type StorageRow,
} from './replica-rows.ts';
import { assertOpen, lockSession } from './replica-sessions.ts';
import { lockDiskForAdding } from './replica-storage-files.ts';

/** Where the file of a disk task lies, and what it stands on. */
export interface ReplicaLayout {
  readonly storageId: number;
  /** xxh3-128 over target, disk, base and extent map; 32 hexadecimal digits. */
  readonly layoutDigest: string;
  readonly mapDigest: string;
  /** Absolute; on the disk task's node. */
  readonly directory: string;
  /** The name that the sealed file gets in `directory`. */
  readonly finalName: string;
  /** The base of what is sent, as an image names it: relative to `directory`. */
  readonly backing: { readonly name: string; readonly format: 'qcow2' | 'raw' } | null;
  /**
   * True when the sealed file holds what the base has, too: the base's chain is as long as it may be, or the base is
   * none that a replica may stand on.
   */
  readonly standsAlone: boolean;
  /** Of a disk that was compared. */
  readonly compared: Comparison | null;
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number;
  readonly state: StorageRow['state'];
}

export interface AdoptLayoutInput {
  readonly diskTaskUuid: string;
  readonly epoch: Epoch;
  /** Hexadecimal, 32 digits. */
  readonly mapDigest: string;
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number;
  /** What the sender says of its comparison, hexadecimal; null for a map of none. */
  readonly compared?: { readonly token: string; readonly guestDigest: string } | null;
}

type LocatedDiskTask = DiskTaskRow & { host: string; disk: string; target: string };

interface LayoutOptions {
  /** The absolute folder under which this site's replicas lie, a folder a host and disk. */
  readonly replicaRoot: string;
  /** Chains have fewer layers than this. */
  readonly chainLimit: number;
}

export function createLayoutRows(db: Database, options: LayoutOptions) {
  return {
    /**
     * Gives the storage of this layout, or makes it; the unique (disk snapshot, layout digest) makes it
     * idempotent, so that a later task or plan adopts what an earlier one began.
     * @throws {SupersededError} unless the session's epoch is that one and open
     * @throws {PlanBrokenError} when this disk task has another map already, or the map's disk another size
     * @throws {ReopenNeededError} when the sender's map came of another comparison than was settled
     */
    adoptLayout: (input: AdoptLayoutInput): Promise<ReplicaLayout> =>
      inTransaction(db, 'replica.commit.adoptLayout', async trx => {
        assertOpen(await lockSession(trx, input.diskTaskUuid), input.epoch);
        const diskTask = await locate(trx, input.diskTaskUuid);
        const compared = comparedNow(diskTask, input.compared ?? null);
        const base = await publishedBase(trx, diskTask, compared);
        if (diskTask.storage_id !== null) {
          const storage = await findStorage(trx, diskTask.storage_id);
          if (storage?.map_digest !== input.mapDigest) {
            throw new PlanBrokenError(`disk ${diskTask.disk} has another extent map than when it was begun`);
          }
          if (storage.state === 'dropped') throw new PlanBrokenError(`${storage.path} is being removed`);
          return toLayout(storage, base, compared);
        }
        const storage = await storageOf(trx, options, diskTask, base, input);
        await trx('remote_backup_disk_tasks')
          .where({ uuid: diskTask.uuid })
          .update({ storage_id: storage.id, compared: compared === null ? null : JSON.stringify(compared) });
        return toLayout(storage, base, compared);
      }),

    /** The disk task's layout, null before {@link adoptLayout} and once its file is to be removed. */
    async findLayout(diskTaskUuid: string): Promise<ReplicaLayout | null> {
      const row = await db<DiskTaskRow>('remote_backup_disk_tasks')
        .where({ uuid: diskTaskUuid } as object)
        .first('storage_id', 'base_storage_id', 'compared');
      const storage = await findStorage(db, row?.storage_id ?? null);
      if (storage === null || storage.state === 'dropped') return null;
      return toLayout(storage, await findStorage(db, row?.base_storage_id ?? null), row?.compared ?? null);
    },

    /**
     * After the file has its final name: storage and disk task are sealed, and what the file is now is kept for
     * its proof. A retry finds it done.
     * @throws {CatalogInputError} when the bytes were not received, or `path` is not the layout's
     * @throws {PlanBrokenError} when the file is to be removed
     */
    markSealed: (input: {
      fence: Fence;
      diskTaskUuid: string;
      path: string;
      file: SealedFile;
    }): Promise<void> =>
      inTransaction(db, 'replica.commit.markSealed', async trx => {
        const diskTask = await findDiskTask(trx, input.diskTaskUuid);
        await lockRunningTask(trx, input.fence, diskTask.task_uuid);
        if (diskTask.plan !== input.fence.plan) {
          throw new CatalogInputError(`disk task ${diskTask.uuid} is one of plan ${diskTask.plan}`);
        }
        const storage = await findStorage(trx, diskTask.storage_id);
        if (storage?.path !== input.path) {
          throw new CatalogInputError(`${input.path} is not the file of disk task ${diskTask.uuid}`);
        }
        if (diskTask.state === 'planned') {
          throw new CatalogInputError(`disk task ${diskTask.uuid} was not received`);
        }
        const sealed = await trx('snapshot_storages')
          .where({ id: storage.id })
          .whereIn('state', ['partial', 'sealed'])
          .update({ state: 'sealed', sealed_file: JSON.stringify(input.file) });
        const now = sealed === 1 ? null : await findStorage(trx, storage.id);
        if (sealed === 0 && now?.state !== 'published') {
          throw new PlanBrokenError(`${storage.path} is being removed`);
        }
        await trx('remote_backup_disk_tasks').where({ uuid: diskTask.uuid }).update({ state: 'sealed' });
      }),

    /**
     * What lies there under the disk task's layout is not what the source has, or is damaged: it is to be removed,
     * and the next plan begins another file. Nothing happens while another task counts on it.
     * @returns its path when it is to be removed now
     * @throws {SupersededError} unless the session's epoch is that one and open
     */
    rejectLayout: (input: { diskTaskUuid: string; epoch: Epoch }): Promise<string | null> =>
      inTransaction(db, 'replica.commit.rejectLayout', async trx => {
        assertOpen(await lockSession(trx, input.diskTaskUuid), input.epoch);
        return (await dropUnlessCountedOn(trx, await locate(trx, input.diskTaskUuid)))?.path ?? null;
      }),

    /**
     * The same of a layer that was received, and that the storage may have lost before it was sealed.
     * @returns null while another task counts on it
     * @throws {SupersededError} by the fence, or when the task has ended
     */
    rejectReceived: (input: { diskTaskUuid: string; fence: Fence }): Promise<NodeFile | null> =>
      inTransaction(db, 'replica.commit.rejectReceived', async trx => {
        const diskTask = await findDiskTask(trx, input.diskTaskUuid);
        await lockRunningTask(trx, input.fence, diskTask.task_uuid);
        return dropUnlessCountedOn(trx, diskTask);
      }),

    /** The replica files that may exist, by what the catalog says; whatever else lies there is a stray. */
    async activeStoragePaths(): Promise<
      readonly { node: string; path: string; state: StorageRow['state']; layoutDigest: string }[]
    > {
      const rows = await db<StorageRow>('snapshot_storages')
        .whereNotNull('layout_digest')
        .orderBy('path')
        .select('node', 'path', 'state', 'layout_digest');
      return rows.map(row => ({
        node: row.node,
        path: row.path,
        state: row.state,
        layoutDigest: row.layout_digest ?? '',
      }));
    },
  };
}

/** What was settled, with the sender's digest. The map is of use only over the very base that was hashed for it. */
function comparedNow(
  { compared, disk }: LocatedDiskTask,
  offered: NonNullable<AdoptLayoutInput['compared']> | null,
): Comparison | null {
  if ((compared?.token ?? null) !== (offered?.token ?? null)) {
    throw new ReopenNeededError(`disk ${disk} was compared with something else since`);
  }
  return compared === null || offered === null ? compared : { ...compared, guestDigest: offered.guestDigest };
}

/** Nothing happens while another task counts on the file. @returns what is to be removed now */
async function dropUnlessCountedOn(
  trx: Transaction,
  { storage_id: id, uuid }: DiskTaskRow,
): Promise<NodeFile | null> {
  await trx('snapshot_storages').where({ id }).forNoKeyUpdate().first();
  const [dropped] = await trx('snapshot_storages')
    .where({ id })
    .whereIn('state', ['partial', 'sealed'])
    .whereNotExists(
      trx('remote_backup_disk_tasks as dt')
        .join('remote_backup_tasks as t', 't.id', 'dt.task_id')
        .where('dt.storage_id', id)
        .whereNot('dt.uuid', uuid)
        .whereNull('t.finished_at')
        .where('dt.plan', trx.ref('t.plan')),
    )
    .update({ state: 'dropped' })
    .returning<NodeFile[]>(['node', 'path']);
  return dropped ?? null;
}

async function locate(trx: Transaction, diskTaskUuid: string): Promise<LocatedDiskTask> {
  const row = await trx('remote_backup_disk_tasks as dt')
    .join('disks as d', 'd.id', 'dt.disk_id')
    .join('hosts as h', 'h.id', 'd.host_id')
    .join('disk_snapshots as ds', 'ds.id', 'dt.disk_snapshot_id')
    .join('host_snapshots as hs', 'hs.id', 'ds.host_snapshot_id')
    .where('dt.uuid', diskTaskUuid)
    .forUpdate('dt')
    .first<LocatedDiskTask | undefined>('dt.*', 'h.ident as host', 'd.ident as disk', 'hs.uuid as target');
  if (row === undefined) throw new CatalogInputError(`disk task ${diskTaskUuid} has no target`);
  return row;
}

async function findStorage(db: Database | Transaction, id: number | null): Promise<StorageRow | null> {
  if (id === null) return null;
  return (await db<StorageRow>('snapshot_storages').where({ id }).first()) ?? null;
}

/** The storage that the disk task's layer is over; null for a full copy, or over a seed. */
async function publishedBase(
  trx: Transaction,
  diskTask: LocatedDiskTask,
  compared: Comparison | null,
): Promise<StorageRow | null> {
  const base = await findStorage(trx, diskTask.base_storage_id);
  if (base === null && compared?.kind === 'replica') {
    throw new PlanBrokenError(`${compared.path}, which the disk is compared with, is gone`);
  }
  if (base === null && diskTask.base_snapshot !== null) {
    throw new PlanBrokenError(`the base ${diskTask.base_snapshot} is gone`);
  }
  if (base !== null && base.state !== 'published') {
    throw new PlanBrokenError(`the base ${base.path} is being removed`);
  }
  return base;
}

async function storageOf(
  trx: Transaction,
  { replicaRoot, chainLimit }: LayoutOptions,
  diskTask: LocatedDiskTask,
  base: StorageRow | null,
  input: AdoptLayoutInput,
): Promise<StorageRow> {
  const { target, disk, host, disk_snapshot_id: diskSnapshotId } = diskTask;
  await assertSize(trx, diskTask, input.virtualSizeBytes);
  const { compared } = diskTask;
  const isUnproven = compared !== null && compared.kind !== 'none' && !compared.isProven;
  const standsAlone = isUnproven || (base !== null && (await chainOf(trx, base.id)).length + 1 >= chainLimit);
  const baseStorageId = standsAlone ? null : (base?.id ?? null);
  const parts = [
    target,
    disk,
    base === null ? (compared?.path ?? '-') : (base.layout_digest ?? base.path),
    input.mapDigest,
    ...(standsAlone ? ['stand-alone'] : []),
    // What an unproven base holds is told by its hashes only.
    ...(isUnproven ? [compared.token ?? ''] : []),
  ];
  // The layers of a replica lie in one directory; a base that we did not write keeps its own place.
  const directory = base?.layout_digest == null ? join(replicaRoot, host, disk) : dirname(base.path);
  await lockDiskForAdding(trx, host, disk);
  for (let copy = 0; ; copy += 1) {
    const layoutDigest = digestLayout(copy === 0 ? parts : [...parts, String(copy)]);
    const storage = await findOrInsert(trx, {
      disk_snapshot_id: diskSnapshotId,
      node: diskTask.node,
      path: join(directory, freshName(target, layoutDigest)),
      format: 'qcow2',
      state: 'partial',
      layout_digest: layoutDigest,
      map_digest: input.mapDigest,
      virtual_size_bytes: input.virtualSizeBytes,
      cluster_size_bytes: input.clusterSizeBytes,
      base_storage_id: baseStorageId,
    });
    // A published file is never opened again, and one that is being removed is lost: the same layer once more is
    // written beside them, so the copy's number becomes part of the layout.
    if (storage.state === 'partial' || storage.state === 'sealed') return storage;
  }
}

/** Locked until the transaction ends, so that nobody drops what is being adopted. */
async function findOrInsert(
  trx: Transaction,
  row: Record<string, unknown> & Pick<StorageRow, 'layout_digest'>,
): Promise<StorageRow> {
  const key = { disk_snapshot_id: row.disk_snapshot_id, layout_digest: row.layout_digest };
  for (;;) {
    await trx('snapshot_storages').insert(row).onConflict(['disk_snapshot_id', 'layout_digest']).ignore();
    const storage = await trx('snapshot_storages').where(key).forShare().first<StorageRow | undefined>();
    // Null when the row that stood in the way was deleted in between.
    if (storage !== undefined) return storage;
  }
}

/**
 * The name of a new file. It begins as its layout does, and is never given twice: a removal that comes late, by a
 * process that was held up, cannot meet the file of a later storage.
 */
const freshName = (target: string, layoutDigest: string): string =>
  `${target}.${layoutDigest.slice(0, 8)}${randomBytes(4).toString('hex')}.qcow2`;

async function assertSize(trx: Transaction, diskTask: LocatedDiskTask, sizeBytes: number): Promise<void> {
  const row = await trx('disk_snapshots')
    .where({ id: diskTask.disk_snapshot_id })
    .first<{ virtual_size_bytes: number }>('virtual_size_bytes');
  if (row.virtual_size_bytes !== sizeBytes) {
    throw new PlanBrokenError(
      `disk ${diskTask.disk} has ${sizeBytes} bytes and not ${row.virtual_size_bytes} as decided`,
    );
  }
}

/** Lines of text, each with its end, so that no two lists of parts give the same bytes. */
function digestLayout(parts: readonly string[]): string {
  const hasher = createXxh128();
  for (const part of parts) hasher.update(Buffer.from(`${part}\n`));
  return toHex(hasher.digest());
}

/** @param base what the disk task's increment stands on; the storage does not name it where it stands alone */
function toLayout(storage: StorageRow, base: StorageRow | null, compared: Comparison | null): ReplicaLayout {
  const directory = dirname(storage.path);
  const seed = compared?.kind === 'seed' ? compared : null;
  const basePath = base?.path ?? seed?.path ?? null;
  return {
    storageId: storage.id,
    layoutDigest: storage.layout_digest ?? '',
    mapDigest: storage.map_digest ?? '',
    directory,
    finalName: storage.path.slice(directory.length + 1),
    backing:
      basePath === null ? null : { name: relative(directory, basePath), format: seed?.format ?? 'qcow2' },
    standsAlone: basePath !== null && storage.base_storage_id === null,
    compared,
    virtualSizeBytes: storage.virtual_size_bytes ?? 0,
    clusterSizeBytes: storage.cluster_size_bytes ?? 0,
    state: storage.state,
  };
}
