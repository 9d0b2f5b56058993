/** What disks are compared with at a replica: candidates, and what was settled on. */
import type { Epoch } from '../contract/fence.ts';
import type { ComparableDisk } from '../contract/sync.ts';
import { PlanBrokenError } from '../domain/errors.ts';
import type { ReplicaLayer } from '../domain/sealed-file.ts';
import { type Database, inTransaction } from './database.ts';
import { CatalogInputError } from './errors.ts';
import { CHAIN_LIMIT, chainOf } from './replica-chains.ts';
import type { Comparison, DiskTaskRow } from './replica-rows.ts';
import { assertOpen, lockSession } from './replica-sessions.ts';

/** An image of the disk that is on this node. */
export interface CompareCandidate {
  readonly kind: 'replica' | 'seed';
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  /** In words for the operator. */
  readonly text: string;
  /** The published storage; null for a seed. */
  readonly storageId: number | null;
  readonly seedUuid: string | null;
  /** Of a replica, the top first; empty for a seed. */
  readonly layers: readonly ReplicaLayer[];
  /** False where an overlay over it cannot be: of the same snapshot, or of a chain of full length. */
  readonly mayCarry: boolean;
}

export function createComparisonRows(db: Database, { chainLimit = CHAIN_LIMIT }: { chainLimit?: number }) {
  return {
    /** The disks of the schedule's host of which something is here: a published file, or a seed that waits. */
    async comparableDisks(scheduleUuid: string): Promise<readonly ComparableDisk[]> {
      const { rows } = await db.raw<{ rows: { disk: string; has_seed: boolean }[] }>(
        `select disk, bool_or(is_seed) as has_seed from (
           select d.ident as disk, false as is_seed
           from remote_backup_schedules s join hosts h on h.ident = s.host join disks d on d.host_id = h.id
           join disk_snapshots ds on ds.disk_id = d.id join snapshot_storages st on st.id = ds.storage_id
           where s.uuid = ? and st.state = 'published'
           union all
           select rs.disk, true from remote_backup_schedules s join replica_seeds rs on rs.host = s.host
           where s.uuid = ? and rs.used_at is null
         ) found group by disk order by disk`,
        [scheduleUuid, scheduleUuid],
      );
      return rows.map(row => ({ disk: row.disk, what: row.has_seed ? 'seed' : 'replica' }));
    },

    /** What the disk task's disk may be compared with, the likeliest first: a seed, then the newest replicas. */
    async compareCandidates(diskTaskUuid: string, most: number): Promise<readonly CompareCandidate[]> {
      const { rows: seeds } = await db.raw<{ rows: SeedCandidateRow[] }>(
        `select rs.uuid, rs.path, rs.format from remote_backup_disk_tasks dt
         join disks d on d.id = dt.disk_id join hosts h on h.id = d.host_id
         join replica_seeds rs on rs.host = h.ident and rs.disk = d.ident and rs.node = dt.node
         where dt.uuid = ? and rs.used_at is null`,
        [diskTaskUuid],
      );
      const { rows: replicas } = await db.raw<{ rows: ReplicaCandidateRow[] }>(
        `select st.id, st.path, st.format, hs.uuid as point, ds.id = dt.disk_snapshot_id as is_target
         from remote_backup_disk_tasks dt
         join disk_snapshots ds on ds.disk_id = dt.disk_id
         join host_snapshots hs on hs.id = ds.host_snapshot_id and hs.state = 'complete'
         join snapshot_storages st on st.id = ds.storage_id and st.state = 'published' and st.node = dt.node
         where dt.uuid = ? and st.format = 'qcow2'
         order by hs.sequence desc limit ?`,
        [diskTaskUuid, most],
      );
      const candidates = seeds.map(
        ({ uuid, path, format }): CompareCandidate => ({
          ...{ kind: 'seed', path, format, text: `the seed ${path}`, storageId: null, seedUuid: uuid },
          ...{ layers: [], mayCarry: false },
        }),
      );
      for (const row of replicas) {
        const layers = await chainOf(db, row.id);
        candidates.push({
          ...{ kind: 'replica', path: row.path, format: 'qcow2', storageId: row.id, seedUuid: null, layers },
          text: `the replica of ${row.point}`,
          mayCarry: !row.is_target && layers.length + 1 < chainLimit,
        });
      }
      return candidates;
    },

    /**
     * Notes what the disk is compared with, before its map is taken. The same comparison finds it done.
     * @throws {SupersededError} unless the session's epoch is that one and open
     * @throws {PlanBrokenError} when the disk was begun over another comparison
     */
    settleComparison: (input: {
      diskTaskUuid: string;
      epoch: Epoch;
      comparison: Comparison;
      /** The published storage that it is over; null for a seed or none. */
      baseStorageId: number | null;
    }): Promise<void> =>
      inTransaction(db, 'replica.commit.settleComparison', async trx => {
        assertOpen(await lockSession(trx, input.diskTaskUuid), input.epoch);
        const row = await trx<DiskTaskRow>('remote_backup_disk_tasks')
          .where({ uuid: input.diskTaskUuid } as object)
          .forUpdate()
          .first();
        if (row?.method !== 'compare') {
          throw new CatalogInputError(`disk task ${input.diskTaskUuid} is none that compares`);
        }
        const { token } = input.comparison;
        if (row.storage_id !== null) {
          if (row.compared?.token === token && row.compared.isProven === input.comparison.isProven) return;
          throw new PlanBrokenError('what the disk is compared with changed since it was begun');
        }
        await trx('remote_backup_disk_tasks')
          .where({ uuid: input.diskTaskUuid })
          .update({ compared: JSON.stringify(input.comparison), base_storage_id: input.baseStorageId });
      }),

    /** The disk task's method, and what was settled on. */
    async findComparison(
      diskTaskUuid: string,
    ): Promise<{ method: DiskTaskRow['method']; compared: Comparison | null } | null> {
      const row = await db<DiskTaskRow>('remote_backup_disk_tasks')
        .where({ uuid: diskTaskUuid } as object)
        .first('method', 'compared');
      return row === undefined ? null : { method: row.method, compared: row.compared };
    },
  };
}

interface SeedCandidateRow {
  readonly uuid: string;
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
}

interface ReplicaCandidateRow {
  readonly id: number;
  readonly path: string;
  readonly point: string;
  readonly is_target: boolean;
}
