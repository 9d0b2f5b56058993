/** The files that a replica consists of, from its top down to the image that stands alone. */
import type { ReplicaChain, ReplicaLayer, SealedFile } from '../domain/sealed-file.ts';
import type { Database, Transaction } from './database.ts';
import { type DamageColumns, toDamage } from './replica-health.ts';
import type { DiskTaskRow } from './replica-rows.ts';

/**
 * A chain at the replica has fewer layers than this: the layer that would be the 32nd is written stand-alone.
 * QEMU opens longer chains, but each layer costs the guest a look and the opening a file.
 */
export const CHAIN_LIMIT = 32;

/** Deeper chains do not occur; this bounds the query should a row ever name itself. */
const MAX_DEPTH = 256;

export function createChainRows(db: Database) {
  return {
    /** Of each disk of the schedule's newest published point the files in use; empty without a point. */
    async cursorChains(scheduleUuid: string): Promise<readonly ReplicaChain[]> {
      const disks = await db('remote_backup_schedules as s')
        .join('disk_snapshots as ds', 'ds.host_snapshot_id', 's.cursor_snapshot_id')
        .join('disks as d', 'd.id', 'ds.disk_id')
        .where('s.uuid', scheduleUuid)
        .orderBy('d.ident')
        .select<{ ident: string; storage_id: number | null }[]>('d.ident', 'ds.storage_id');
      return Promise.all(
        disks.map(async ({ ident, storage_id: storageId }) => ({
          disk: ident,
          layers: await chainOf(db, storageId),
        })),
      );
    },

    /** The files on which the disk task's layer stands, or which are copied into it; empty for a full copy. */
    async baseChain(diskTaskUuid: string): Promise<ReplicaChain> {
      const row = await db('remote_backup_disk_tasks as dt')
        .join('disks as d', 'd.id', 'dt.disk_id')
        .where('dt.uuid', diskTaskUuid)
        .first<Pick<DiskTaskRow, 'base_storage_id'> & { ident: string }>('d.ident', 'dt.base_storage_id');
      return { disk: row.ident, layers: await chainOf(db, row.base_storage_id) };
    },
  };
}

interface LayerRow extends DamageColumns {
  readonly node: string;
  readonly path: string;
  readonly sealed_file: SealedFile | null;
}

/** A storage and all beneath it, the top first. A journal is no layer: its chain is that of its base. */
export async function chainOf(
  db: Database | Transaction,
  storageId: number | null,
): Promise<readonly ReplicaLayer[]> {
  if (storageId === null) return [];
  const { rows } = await db.raw<{ rows: LayerRow[] }>(
    `with recursive chain as (
       select id, base_storage_id, 1 as depth from snapshot_storages where id = ?
       union all
       select st.id, st.base_storage_id, chain.depth + 1
       from chain join snapshot_storages st on st.id = chain.base_storage_id
       where chain.depth < ${MAX_DEPTH}
     )
     select st.node, st.path, st.sealed_file, st.damage, st.damage_kind, st.damage_found_at
     from chain join snapshot_storages st using (id) where st.format = 'qcow2' order by depth`,
    [storageId],
  );
  return rows.map(row => ({
    node: row.node,
    path: row.path,
    sealed: row.sealed_file,
    damage: toDamage(row),
  }));
}
