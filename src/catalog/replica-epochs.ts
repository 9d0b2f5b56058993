/** What a replica has of epochs of continuous data protection: ranges that can be restored, markers, journals. */
import { effect } from '../lib/fault-points.ts';
import { ADVISORY, type Database, guarded, inTransaction } from './database.ts';
import { type KeptConnection, keepConnection } from './kept-connection.ts';

/** The journal of one disk. */
export interface EpochDisk {
  readonly disk: string;
  readonly node: string;
  /** The folder of the journal. */
  readonly directory: string;
  readonly virtualSizeBytes: number;
  /** The number of the next record: those before are durable. */
  readonly nextIndex: number;
  /** The image beneath. */
  readonly basePath: string;
}

export interface ReplicaEpoch {
  readonly host: string;
  /** The CDP host snapshot's UUID. */
  readonly point: string;
  readonly sequence: number;
  /** The frozen base's UUID. */
  readonly base: string;
  /** Counts the host's epochs where they were recorded. */
  readonly epoch: number;
  /** When its base was taken: the first state. */
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  readonly endedReason: string | null;
  /** States from here on are there; above {@link newestCheckpoint} when retention removed them all. */
  readonly oldestCheckpoint: number;
  /** 0 before the first. */
  readonly newestCheckpoint: number;
  readonly newestCheckpointAtMs: number | null;
  /** How many named checkpoints can be restored. */
  readonly markers: number;
  readonly journalBytes: number;
  readonly disks: readonly EpochDisk[];
}

export interface EpochMarker {
  readonly host: string;
  readonly point: string;
  readonly checkpoint: number;
  readonly name: string;
  readonly markedAtMs: number;
}

/** A journal whose records are to be read. */
export interface JournalToVerify {
  readonly storageId: number;
  readonly host: string;
  readonly disk: string;
  readonly directory: string;
  readonly nextIndex: number;
  readonly journalBytes: number;
  readonly verifiedAtMs: number | null;
  readonly isDamaged: boolean;
}

/** `e` is an epoch that has a state which can be restored. */
export const HAS_STATES = 'e.newest_checkpoint > 0 and e.oldest_checkpoint <= e.newest_checkpoint';

export function createEpochRows(db: Database) {
  return guarded({
    /** Published epochs in order of host and sequence, of one host or all, also those without a state. */
    async listEpochs(host: string | null): Promise<readonly ReplicaEpoch[]> {
      const { rows } = await db.raw<{ rows: EpochRow[] }>(
        `select h.ident as host, hs.uuid as point, hs.sequence, base.uuid as base, e.epoch,
                base.taken_at as started_at,
                e.ended_at, e.ended_reason, e.oldest_checkpoint, e.newest_checkpoint, e.newest_checkpoint_at,
                (select count(*)::integer from cdp_markers m where m.host_snapshot_id = hs.id
                   and m.sequence between e.oldest_checkpoint and e.newest_checkpoint) as markers,
                d.ident as disk, st.node, st.path as directory, ds.virtual_size_bytes,
                coalesce(j.next_index, 0) as next_index, coalesce(j.record_bytes, 0) as record_bytes,
                below.path as base_path
         from cdp_epochs e
         join host_snapshots hs on hs.id = e.host_snapshot_id
         join host_snapshots base on base.id = e.base_snapshot_id
         join hosts h on h.id = hs.host_id
         join disk_snapshots ds on ds.host_snapshot_id = hs.id
         join disks d on d.id = ds.disk_id
         join snapshot_storages st on st.id = ds.storage_id
         left join cdp_journals j on j.storage_id = st.id
         join disk_snapshots bds on bds.host_snapshot_id = base.id and bds.disk_id = ds.disk_id
         join snapshot_storages below on below.id = coalesce(st.base_storage_id, bds.storage_id)
         where hs.state = 'complete' and st.layout_digest is not null and h.ident = coalesce(?::text, h.ident)
         order by h.ident, hs.sequence, d.ident`,
        [host],
      );
      return [...Map.groupBy(rows, row => row.point).values()].map(toEpoch);
    },

    /** Named checkpoints that can be restored, of one host or all, in order of host, snapshot and sequence. */
    async listMarkers(host: string | null): Promise<readonly EpochMarker[]> {
      const rows = await db('cdp_markers as m')
        .join('cdp_epochs as e', 'e.host_snapshot_id', 'm.host_snapshot_id')
        .join('host_snapshots as hs', 'hs.id', 'm.host_snapshot_id')
        .join('hosts as h', 'h.id', 'hs.host_id')
        .where('hs.state', 'complete')
        .whereRaw('m.sequence between e.oldest_checkpoint and e.newest_checkpoint')
        .whereRaw(
          `exists (select 1 from disk_snapshots ds join snapshot_storages st on st.id = ds.storage_id
                   where ds.host_snapshot_id = hs.id and st.layout_digest is not null)`,
        )
        .whereRaw('h.ident = coalesce(?::text, h.ident)', [host])
        .orderBy(['h.ident', 'hs.sequence', 'm.sequence'])
        .select<MarkerRow[]>(
          ...['h.ident as host', 'hs.uuid as point', 'm.sequence as checkpoint', 'm.name', 'm.marked_at'],
        );
      return rows.map(({ marked_at: markedAt, ...row }) => ({ ...row, markedAtMs: markedAt.getTime() }));
    },

    /** The journals of a node that have states, those first that were verified longest ago or never. */
    async journalsToVerify(input: {
      node: string;
      host: string | null;
    }): Promise<readonly JournalToVerify[]> {
      const { rows } = await db.raw<{ rows: VerifyRow[] }>(
        `select st.id, h.ident as host, d.ident as disk, st.path as directory, j.next_index, j.record_bytes,
                st.verified_at, st.damage is not null as is_damaged
         ${JOURNALS} where ${HAS_STATES} and hs.state = 'complete' and st.node = ?
           and h.ident = coalesce(?::text, h.ident)
         order by st.verified_at nulls first, st.id`,
        [input.node, input.host],
      );
      return rows.map(row => ({
        storageId: row.id,
        ...{ host: row.host, disk: row.disk, directory: row.directory },
        nextIndex: row.next_index,
        journalBytes: row.record_bytes,
        verifiedAtMs: row.verified_at?.getTime() ?? null,
        isDamaged: row.is_damaged,
      }));
    },

    /**
     * Notes what reading a journal gave. Nothing happens when retention has given it up meanwhile.
     * @returns whether it was noted
     */
    recordJournalVerified: (input: { storageId: number; damage: string | null }): Promise<boolean> =>
      inTransaction(db, 'replica.commit.recordJournalVerified', async trx => {
        const { damage, storageId } = input;
        const { rowCount } = await trx.raw<{ rowCount: number }>(
          `update snapshot_storages set verified_at = now(), damage = ?::text,
             damage_kind = case when ?::text is null then null else 'content' end,
             damage_found_at = case when ?::text is null then null else coalesce(damage_found_at, now()) end
           where id = ? and state = 'published' and exists (
             select 1 from disk_snapshots ds join cdp_epochs e on e.host_snapshot_id = ds.host_snapshot_id
             where ds.id = snapshot_storages.disk_snapshot_id and ${HAS_STATES})`,
          [damage, damage, damage, storageId],
        );
        return rowCount > 0;
      }),
  });
}

/** All journals of replicas; `e`, `hs`, `h`, `ds`, `d`, `st` and `j`. */
export const JOURNALS = `from cdp_epochs e
  join host_snapshots hs on hs.id = e.host_snapshot_id
  join hosts h on h.id = hs.host_id
  join disk_snapshots ds on ds.host_snapshot_id = hs.id
  join disks d on d.id = ds.disk_id
  join snapshot_storages st on st.id = ds.storage_id and st.layout_digest is not null
  join cdp_journals j on j.storage_id = st.id`;

/**
 * Keeps a host's journals from being given up, and a folder from being restored into twice, until it is closed. Both
 * locks are those of a connection: they go when the process dies.
 * @returns null when another process restores into the folder just now
 * @throws {CatalogError}
 */
export async function holdForRestore(
  url: string,
  { host, folder }: { readonly host: string; readonly folder: string },
): Promise<KeptConnection | null> {
  let isTaken = false;
  const kept = await keepConnection(url, async client => {
    const { rows } = await effect('restore.hold', () =>
      client.query<{ free: boolean }>(
        `select pg_advisory_lock_shared($1, hashtext($2)), pg_try_advisory_lock($3, hashtext($4)) as free`,
        [ADVISORY.restoredHosts, host, ADVISORY.restoredFolders, folder],
      ),
    );
    isTaken = rows[0]?.free !== true;
  });
  if (!isTaken) return kept;
  await kept.close();
  return null;
}

interface EpochRow {
  readonly host: string;
  readonly point: string;
  readonly sequence: number;
  readonly base: string;
  readonly epoch: number;
  readonly started_at: Date;
  readonly ended_at: Date | null;
  readonly ended_reason: string | null;
  readonly oldest_checkpoint: number;
  readonly newest_checkpoint: number;
  readonly newest_checkpoint_at: Date | null;
  readonly markers: number;
  readonly disk: string;
  readonly node: string;
  readonly directory: string;
  readonly virtual_size_bytes: number;
  readonly next_index: number;
  readonly record_bytes: number;
  readonly base_path: string;
}

interface MarkerRow {
  readonly host: string;
  readonly point: string;
  readonly checkpoint: number;
  readonly name: string;
  readonly marked_at: Date;
}

interface VerifyRow {
  readonly id: number;
  readonly host: string;
  readonly disk: string;
  readonly directory: string;
  readonly next_index: number;
  readonly record_bytes: number;
  readonly verified_at: Date | null;
  readonly is_damaged: boolean;
}

function toEpoch(rows: readonly EpochRow[]): ReplicaEpoch {
  const row = rows[0] as EpochRow;
  return {
    ...{ host: row.host, point: row.point, sequence: row.sequence, base: row.base, epoch: row.epoch },
    startedAtMs: row.started_at.getTime(),
    endedAtMs: row.ended_at?.getTime() ?? null,
    endedReason: row.ended_reason,
    oldestCheckpoint: row.oldest_checkpoint,
    newestCheckpoint: row.newest_checkpoint,
    newestCheckpointAtMs: row.newest_checkpoint_at?.getTime() ?? null,
    markers: row.markers,
    journalBytes: rows.reduce((sum, { record_bytes: bytes }) => sum + bytes, 0),
    disks: rows.map(({ disk, node, directory, ...disks }) => ({
      ...{ disk, node, directory },
      virtualSizeBytes: disks.virtual_size_bytes,
      nextIndex: disks.next_index,
      basePath: disks.base_path,
    })),
  };
}
