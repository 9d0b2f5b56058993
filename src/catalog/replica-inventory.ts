/** A replica's recovery points and schedules, for its operator. Needs neither the source nor Temporal. */
import { UUID } from '../contract/names.ts';
import type { ScheduleSettings, TaskSummary } from '../contract/schedule.ts';
import type { Cursor } from '../contract/sync.ts';
import type { LayerDamage } from '../domain/sealed-file.ts';
import { type Database, guarded, inReadTransaction, type Transaction } from './database.ts';
import { type DamageColumns, toDamage } from './replica-health.ts';
import { readSummary, type ScheduleRow, type TaskRow } from './replica-rows.ts';
import { TAKEN_AT_HERE } from './source-clock.ts';

/** One file of a disk's chain. */
export interface PointLayer {
  readonly path: string;
  readonly layoutDigest: string | null;
  readonly contentDigest: string | null;
  readonly totalBytes: number | null;
  readonly damage: LayerDamage | null;
  /** When the whole file was read and compared last. */
  readonly verifiedAtMs: number | null;
}

export interface PointDisk {
  readonly disk: string;
  readonly node: string;
  readonly path: string;
  readonly virtualSizeBytes: number;
  /** How many files QEMU opens for this disk, 1 for a stand-alone image. */
  readonly chainDepth: number;
  /** Those files, the top first. */
  readonly layers: readonly PointLayer[];
}

export interface RecoveryPoint {
  readonly host: string;
  /** The host snapshot's UUID. */
  readonly point: string;
  readonly sequence: number;
  readonly originSite: string;
  readonly kind: 'qcow2' | 'cdp';
  readonly takenAtMs: number;
  readonly publishedAtMs: number;
  readonly disks: readonly PointDisk[];
}

/** A schedule as this replica's catalog has it. */
export interface ReplicaSchedule {
  readonly uuid: string;
  readonly name: string;
  readonly replicaSite: string;
  readonly sourceSite: string;
  readonly host: string;
  readonly settings: ScheduleSettings;
  readonly paused: boolean;
  readonly state: 'live' | 'deleting' | 'deleted';
  readonly createdAtMs: number;
  readonly nextRunAtMs: number | null;
  readonly lastGeneration: number;
  readonly cursor: Cursor | null;
}

export interface ListedSchedule extends ReplicaSchedule {
  /** When the cursor's host snapshot was taken, by this database's clock; null before the first. */
  readonly newestPointAtMs: number | null;
  /** By one clock: how long ago that is. */
  readonly newestPointAgeMs: number | null;
  /** Recovery points of its host that need a file which is damaged or in doubt. */
  readonly damage: { readonly points: number; readonly newest: boolean };
  /** The newest task that has ended. */
  readonly lastTask: TaskSummary | null;
}

export function createReplicaInventory(db: Database) {
  return guarded({
    /** Recovery points in order of host and sequence; of all hosts by default. An unknown host has none. */
    listPoints: (filter: { host: string | null } = { host: null }): Promise<readonly RecoveryPoint[]> =>
      readPoints(db, filter.host === null ? {} : { host: filter.host }),

    /** The recovery point of this UUID, null when there is none. */
    async findPoint(point: string): Promise<RecoveryPoint | null> {
      if (!UUID.test(point)) return null;
      return (await readPoints(db, { uuid: point })).at(0) ?? null;
    },

    /** The host's recovery point with the highest sequence, null when there is none. */
    async newestPoint(host: string): Promise<RecoveryPoint | null> {
      return (await readPoints(db, { host })).at(-1) ?? null;
    },

    /** All schedules that are not deleted, by name, each with the newest of its tasks that has ended. */
    listSchedules: (): Promise<readonly ListedSchedule[]> =>
      inReadTransaction(db, async trx => {
        const rows = await trx('remote_backup_schedules as s')
          .leftJoin('host_snapshots as hs', 'hs.id', 's.cursor_snapshot_id')
          .whereNull('s.deleted_at')
          .orderBy('s.name')
          .select<(ScheduleRow & { taken_at: Date | null; now: Date })[]>(
            's.*',
            trx.raw(`${TAKEN_AT_HERE} as taken_at`),
            trx.raw('clock_timestamp() as now'),
          );
        const schedules: ListedSchedule[] = [];
        for (const row of rows) {
          const task = await trx<TaskRow>('remote_backup_tasks')
            .where({ schedule_uuid: row.uuid })
            .whereNotNull('finished_at')
            .orderBy('generation', 'desc')
            .first();
          schedules.push({
            ...toSchedule(row),
            newestPointAtMs: row.taken_at?.getTime() ?? null,
            newestPointAgeMs:
              row.taken_at === null ? null : Math.max(0, row.now.getTime() - row.taken_at.getTime()),
            damage: await damageOf(trx, row),
            lastTask: task === undefined ? null : await readSummary(trx, task as TaskRow),
          });
        }
        return schedules;
      }),

    /** The schedule of this name that is not deleted, with its newest tasks, the newest first. */
    showSchedule: (
      name: string,
      taskCount = 10,
    ): Promise<(ReplicaSchedule & { tasks: readonly TaskSummary[] }) | null> =>
      inReadTransaction(db, async trx => {
        const row = await trx<ScheduleRow>('remote_backup_schedules')
          .where({ name })
          .whereNull('deleted_at')
          .first();
        if (row === undefined) return null;
        const tasks = await trx<TaskRow>('remote_backup_tasks')
          .where({ schedule_uuid: row.uuid })
          .orderBy('generation', 'desc')
          .limit(taskCount);
        const summaries: TaskSummary[] = [];
        for (const task of tasks as TaskRow[]) summaries.push(await readSummary(trx, task));
        return { ...toSchedule(row as ScheduleRow), tasks: summaries };
      }),
  });
}

interface LayerRow extends DamageColumns {
  readonly verified_at: Date | null;
  readonly host: string;
  readonly point: string;
  readonly sequence: number;
  readonly origin_site: string;
  readonly kind: 'qcow2' | 'cdp';
  readonly taken_at: Date;
  readonly published_at: Date;
  readonly disk: string;
  readonly node: string;
  readonly virtual_size_bytes: number;
  readonly path: string;
  readonly layout_digest: string | null;
  readonly content_digest: string | null;
  readonly total_bytes: number | null;
}

/** Deeper chains do not occur; this bounds the query should a row ever name itself. */
const MAX_DEPTH = 256;

/** How many points of the schedule's host are damaged, and whether its newest is. */
async function damageOf(trx: Transaction, row: ScheduleRow): Promise<ListedSchedule['damage']> {
  const { rows } = await trx.raw<{ rows: { points: number; newest: boolean | null }[] }>(
    `with recursive broken (id, depth) as (
       select st.id, 1 from snapshot_storages st
       join disk_snapshots ds on ds.id = st.disk_snapshot_id
       join disks d on d.id = ds.disk_id
       join hosts h on h.id = d.host_id
       where st.damage is not null and h.ident = ?
       union
       select st.id, broken.depth + 1
       from snapshot_storages st join broken on st.base_storage_id = broken.id
       where broken.depth < ${MAX_DEPTH}
     )
     select count(distinct hs.id)::integer as points, bool_or(hs.id = ?) as newest
     from host_snapshots hs
     join disk_snapshots ds on ds.host_snapshot_id = hs.id
     join broken on broken.id = ds.storage_id
     where hs.state = 'complete'`,
    [row.host, row.cursor_snapshot_id],
  );
  return { points: rows[0]?.points ?? 0, newest: rows[0]?.newest ?? false };
}

async function readPoints(
  db: Database,
  filter: { host?: string; uuid?: string },
): Promise<readonly RecoveryPoint[]> {
  const { rows } = await db.raw<{ rows: LayerRow[] }>(
    `with recursive layers as (
       select ds.id as disk_snapshot_id, 1 as depth, st.id,
              -- A journal stands on the base of its epoch.
              coalesce(st.base_storage_id, (
                select base.storage_id from cdp_epochs e
                join disk_snapshots base on base.host_snapshot_id = e.base_snapshot_id and base.disk_id = ds.disk_id
                where e.host_snapshot_id = hs.id)) as base_storage_id,
              st.node, st.path, st.layout_digest, st.content_digest, st.total_bytes, st.damage, st.damage_kind, st.damage_found_at,
              st.verified_at
       from host_snapshots hs
       join hosts h on h.id = hs.host_id
       join disk_snapshots ds on ds.host_snapshot_id = hs.id
       join snapshot_storages st on st.id = ds.storage_id
       where hs.state = 'complete' and st.layout_digest is not null
         and h.ident = coalesce(?::text, h.ident) and hs.uuid = coalesce(?::uuid, hs.uuid)
       union all
       select l.disk_snapshot_id, l.depth + 1, st.id, st.base_storage_id, st.node, st.path,
              st.layout_digest, st.content_digest, st.total_bytes, st.damage, st.damage_kind, st.damage_found_at,
              st.verified_at
       from layers l join snapshot_storages st on st.id = l.base_storage_id
       where l.depth < ${MAX_DEPTH}
     )
     select h.ident as host, hs.uuid as point, hs.sequence, hs.origin_site, hs.kind, hs.taken_at,
            hs.published_at, d.ident as disk, l.node, ds.virtual_size_bytes, l.path, l.layout_digest,
            l.content_digest, l.total_bytes, l.damage, l.damage_kind, l.damage_found_at, l.verified_at
     from layers l
     join disk_snapshots ds on ds.id = l.disk_snapshot_id
     join disks d on d.id = ds.disk_id
     join host_snapshots hs on hs.id = ds.host_snapshot_id
     join hosts h on h.id = hs.host_id
     order by h.ident, hs.sequence, d.ident, l.depth`,
    [filter.host ?? null, filter.uuid ?? null],
  );
  return [...Map.groupBy(rows, row => row.point).values()].map(toPoint);
}

function toPoint(rows: readonly LayerRow[]): RecoveryPoint {
  const first = rows[0] as LayerRow;
  return {
    host: first.host,
    point: first.point,
    sequence: first.sequence,
    originSite: first.origin_site,
    kind: first.kind,
    takenAtMs: first.taken_at.getTime(),
    publishedAtMs: first.published_at.getTime(),
    disks: [...Map.groupBy(rows, row => row.disk).values()].map(toDisk),
  };
}

function toDisk(rows: readonly LayerRow[]): PointDisk {
  const top = rows[0] as LayerRow;
  return {
    disk: top.disk,
    node: top.node,
    path: top.path,
    virtualSizeBytes: top.virtual_size_bytes,
    chainDepth: rows.length,
    layers: rows.map(row => ({
      path: row.path,
      layoutDigest: row.layout_digest,
      contentDigest: row.content_digest,
      totalBytes: row.total_bytes,
      damage: toDamage(row),
      verifiedAtMs: row.verified_at?.getTime() ?? null,
    })),
  };
}

const toSchedule = (row: ScheduleRow): ReplicaSchedule => ({
  uuid: row.uuid,
  name: row.name,
  replicaSite: row.replica_site,
  sourceSite: row.source_site,
  host: row.host,
  settings: row.settings,
  paused: row.paused,
  state: row.deleted_at !== null ? 'deleted' : row.deleting ? 'deleting' : 'live',
  createdAtMs: row.created_at.getTime(),
  nextRunAtMs: row.next_run_at?.getTime() ?? null,
  lastGeneration: row.last_generation,
  cursor: row.cursor,
});
