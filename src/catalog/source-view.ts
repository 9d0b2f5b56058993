/** Reads what the decision about a host needs to see. */
import type { DiskView, EpochView, HostView, SnapshotView } from '../domain/host-view.ts';
import type { Transaction } from './database.ts';
import type { HostRow } from './host-rows.ts';

interface ViewRow {
  uuid: string;
  sequence: number;
  origin_site: string;
  taken_at: Date;
  kind: 'qcow2' | 'cdp';
  disk: string;
  disk_snapshot_id: number;
  parent_id: number | null;
  node: string;
  path: string;
  format: 'qcow2' | 'cdp';
  virtual_size_bytes: number;
  base_snapshot: string | null;
  epoch: number;
  newest_checkpoint: number;
  newest_checkpoint_at: Date | null;
  ended_reason: string | null;
}

/** The complete host snapshots, each disk with its storage in use. Partial ones are not seen. */
export async function readHostView(trx: Transaction, host: HostRow): Promise<HostView> {
  const { rows } = await trx.raw<{ rows: ViewRow[] }>(
    `select hs.uuid, hs.sequence, hs.origin_site, hs.kind,
            hs.taken_at + coalesce(hs.clock_offset_ms, 0) * interval '1 millisecond' as taken_at, d.ident as disk,
            ds.id as disk_snapshot_id, ds.parent_id, st.node, st.path, st.format, ds.virtual_size_bytes,
            base.uuid as base_snapshot, e.epoch, e.newest_checkpoint, e.newest_checkpoint_at, e.ended_reason
     from host_snapshots hs
     join disk_snapshots ds on ds.host_snapshot_id = hs.id
     join disks d on d.id = ds.disk_id
     join snapshot_storages st on st.id = ds.storage_id
     left join cdp_epochs e on e.host_snapshot_id = hs.id
     left join host_snapshots base on base.id = e.base_snapshot_id
     where hs.host_id = ? and hs.state = 'complete'
     order by hs.sequence, d.ident`,
    [host.id],
  );
  const snapshots: (Omit<SnapshotView, 'disks'> & { disks: DiskView[] })[] = [];
  for (const row of rows) {
    if (snapshots.at(-1)?.uuid !== row.uuid) {
      const { uuid, sequence, kind } = row;
      const takenAtMs = row.taken_at.getTime();
      const epoch = toEpochView(row);
      snapshots.push({ uuid, sequence, originSite: row.origin_site, takenAtMs, kind, ...epoch, disks: [] });
    }
    snapshots.at(-1)?.disks.push(toDiskView(row));
  }
  return { host: host.ident, snapshots };
}

const toEpochView = (row: ViewRow): { epoch?: EpochView } =>
  row.base_snapshot === null
    ? {}
    : {
        epoch: {
          baseSnapshot: row.base_snapshot,
          epoch: row.epoch,
          newestCheckpoint: row.newest_checkpoint,
          newestCheckpointAtMs: (row.newest_checkpoint_at ?? row.taken_at).getTime(),
          endedReason: row.ended_reason,
        },
      };

const toDiskView = (row: ViewRow): DiskView => ({
  disk: row.disk,
  diskSnapshotId: row.disk_snapshot_id,
  parentId: row.parent_id,
  node: row.node,
  path: row.path,
  format: row.format,
  virtualSizeBytes: row.virtual_size_bytes,
});
