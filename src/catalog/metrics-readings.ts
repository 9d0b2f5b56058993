/** What a worker's metrics tell of its catalog: few small queries, cheap enough for every scrape. */
import type { TaskOutcome } from '../contract/schedule.ts';
import { type Database, guarded } from './database.ts';
import { TAKEN_AT_HERE } from './source-clock.ts';

/** A schedule that is not deleted, as this replica's rows have it. */
export interface ScheduleReading {
  readonly uuid: string;
  readonly name: string;
  readonly host: string;
  readonly paused: boolean;
  readonly rpoMs: number | null;
  readonly nextRunAtMs: number | null;
  /** When the cursor's host snapshot was taken, at its origin; null before the first. */
  readonly newestPointAtMs: number | null;
  /**
   * When the oldest host snapshot was taken that a task since the last *published* or *up to date* was to bring;
   * null when there was none. What the source has taken and no task has asked for is not known here.
   */
  readonly behindSinceMs: number | null;
  /** The newest task that has ended. */
  readonly lastTask: { readonly outcome: TaskOutcome; readonly finishedAtMs: number } | null;
  /** Disks of the running task whose receiver is open and has not everything yet. */
  readonly receivingDisks: number;
}

/** The locks that one replica site's schedules hold. */
export interface LockReading {
  /** Null where no schedule of the lock type has asked yet. */
  readonly replicaSite: string | null;
  readonly locks: number;
  /** Of the oldest, by the database's clock. */
  readonly oldestAgeMs: number;
}

/** Replica files of one host that are damaged or in doubt; none are told as 0. */
export interface DamageReading {
  readonly host: string;
  readonly kind: 'doubt' | 'content';
  readonly files: number;
}

/** The complete host snapshots of one host. */
export interface SnapshotReading {
  readonly host: string;
  readonly snapshots: number;
}

/** Which disk of which schedule a disk task brings. */
export interface ReceivedDiskName {
  readonly scheduleUuid: string;
  readonly disk: string;
}

interface ScheduleReadingRow {
  readonly uuid: string;
  readonly name: string;
  readonly host: string;
  readonly paused: boolean;
  readonly rpo_ms: number | null;
  readonly next_run_at: Date | null;
  readonly taken_at: Date | null;
  readonly behind_since_ms: number | null;
  readonly outcome: TaskOutcome | null;
  readonly finished_at: Date | null;
  readonly receiving_disks: number;
}

/** All laterals go by the unique index over (schedule, generation). */
const SCHEDULES = `
  select s.uuid, s.name, s.host, s.paused, (s.settings->>'rpoMs')::float8 as rpo_ms, s.next_run_at,
         ${TAKEN_AT_HERE} as taken_at,
         behind.since_ms as behind_since_ms, ended.outcome, ended.finished_at,
         coalesce(receiving.disks, 0)::integer as receiving_disks
  from remote_backup_schedules s
  left join host_snapshots hs on hs.id = s.cursor_snapshot_id
  left join lateral (
    select t.outcome, t.finished_at from remote_backup_tasks t
    where t.schedule_uuid = s.uuid and t.finished_at is not null
    order by t.generation desc limit 1
  ) ended on true
  left join lateral (
    select t.generation from remote_backup_tasks t
    where t.schedule_uuid = s.uuid and t.outcome in ('published', 'upToDate')
    order by t.generation desc limit 1
  ) met on true
  left join lateral (
    select min((t.sync_info->'target'->>'takenAtMs')::float8
               + coalesce(ts.clock_offset_ms, s.source_clock_offset_ms, 0)) as since_ms
    from remote_backup_tasks t left join host_snapshots ts on ts.id = t.target_snapshot_id
    where t.schedule_uuid = s.uuid and t.generation > coalesce(met.generation, 0)
      -- A journal is published while its task still runs.
      and not coalesce(
        s.cursor->>'hostSnapshot' = t.sync_info->'target'->>'hostSnapshot'
        and (s.cursor->'position'->>'checkpoint')::bigint
          >= (t.sync_info->'target'->'position'->>'checkpoint')::bigint, false)
  ) behind on true
  left join lateral (
    select count(*) as disks from remote_backup_tasks t
    join remote_backup_disk_tasks dt on dt.task_id = t.id and dt.plan = t.plan
    join receiver_sessions r on r.disk_task_uuid = dt.uuid
    where t.schedule_uuid = s.uuid and t.finished_at is null and r.state = 'open'
  ) receiving on true
  where s.deleted_at is null`;

export function createMetricsReadings(db: Database) {
  return guarded({
    async schedules(): Promise<readonly ScheduleReading[]> {
      const { rows } = await db.raw<{ rows: ScheduleReadingRow[] }>(SCHEDULES);
      return rows.map(toSchedule);
    },

    /** The database's clock, by which the times of {@link schedules} are. */
    async nowMs(): Promise<number> {
      const { rows } = await db.raw<{ rows: { now: Date }[] }>('select clock_timestamp() as now');
      return rows[0]?.now.getTime() ?? 0;
    },

    async locks(): Promise<readonly LockReading[]> {
      const rows = await db('host_snapshot_locks as l')
        .leftJoin('schedule_fences as f', 'f.lock_type', 'l.lock_type')
        .groupBy('f.replica_site')
        .select<{ replica_site: string | null; locks: number; age_ms: number }[]>(
          'f.replica_site',
          db.raw('count(*)::integer as locks'),
          db.raw('extract(epoch from clock_timestamp() - min(l.locked_at))::float8 * 1000 as age_ms'),
        );
      return rows.map(({ replica_site: replicaSite, locks, age_ms: ageMs }) => ({
        replicaSite,
        locks,
        oldestAgeMs: Math.max(0, ageMs),
      }));
    },

    async snapshots(): Promise<readonly SnapshotReading[]> {
      return db('hosts as h')
        .join('host_snapshots as hs', 'hs.host_id', 'h.id')
        .where('hs.state', 'complete')
        .groupBy('h.ident')
        .select<SnapshotReading[]>('h.ident as host', db.raw('count(*)::integer as snapshots'));
    },

    async damage(): Promise<readonly DamageReading[]> {
      return db('snapshot_storages as st')
        .join('disk_snapshots as ds', 'ds.id', 'st.disk_snapshot_id')
        .join('disks as d', 'd.id', 'ds.disk_id')
        .join('hosts as h', 'h.id', 'd.host_id')
        .joinRaw("cross join (values ('content'), ('doubt')) as k (kind)")
        .whereNotNull('st.layout_digest')
        .whereIn('st.state', ['sealed', 'published'])
        .groupBy('h.ident', 'k.kind')
        .select<DamageReading[]>(
          'h.ident as host',
          'k.kind',
          db.raw('count(*) filter (where st.damage_kind = k.kind)::integer as files'),
        );
    },

    /** Null when the disk task is not known. */
    async receivedDisk(diskTaskUuid: string): Promise<ReceivedDiskName | null> {
      const row = await db('remote_backup_disk_tasks as dt')
        .join('remote_backup_tasks as t', 't.id', 'dt.task_id')
        .join('disks as d', 'd.id', 'dt.disk_id')
        .where('dt.uuid', diskTaskUuid)
        .first<ReceivedDiskName | undefined>('t.schedule_uuid as scheduleUuid', 'd.ident as disk');
      return row ?? null;
    },
  });
}

const toSchedule = (row: ScheduleReadingRow): ScheduleReading => ({
  uuid: row.uuid,
  name: row.name,
  host: row.host,
  paused: row.paused,
  rpoMs: row.rpo_ms,
  nextRunAtMs: row.next_run_at?.getTime() ?? null,
  newestPointAtMs: row.taken_at?.getTime() ?? null,
  behindSinceMs: row.behind_since_ms,
  lastTask:
    row.outcome === null || row.finished_at === null
      ? null
      : { outcome: row.outcome, finishedAtMs: row.finished_at.getTime() },
  receivingDisks: row.receiving_disks,
});
