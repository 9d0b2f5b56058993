/**
 * How far the source's clock is off, and its times by this catalog's clock. docs/clocks.md tells which time comes from
 * which clock.
 */
import { effect } from '../lib/fault-points.ts';
import type { Database, Transaction } from './database.ts';

/** A clock that is further off is not believed, since nothing that it says is of use. */
const MOST_OFF_MS = 366 * 24 * 3_600_000;

export function createSourceClockRows(db: Database) {
  return {
    /**
     * Notes this database's clock minus the source's, as the hello of a transfer just told it: for the schedule the
     * newest, for the snapshot the first, which lies nearest to when it was taken.
     * @param input.sentAtMs the source's clock now, but for the time on the line
     */
    async noteSourceClock(input: { diskTaskUuid: string; sentAtMs: number }): Promise<void> {
      const { diskTaskUuid, sentAtMs } = input;
      await effect('replica.commit.noteSourceClock', () =>
        db.raw(
          `with hello as (
             select t.schedule_uuid, t.target_snapshot_id,
                    round(extract(epoch from clock_timestamp()) * 1000 - ?::numeric)::bigint as offset_ms
             from remote_backup_disk_tasks dt join remote_backup_tasks t on t.id = dt.task_id
             where dt.uuid = ?
           ), schedule as (
             update remote_backup_schedules s set source_clock_offset_ms = hello.offset_ms from hello
             where s.uuid = hello.schedule_uuid and abs(hello.offset_ms) <= ?
           )
           update host_snapshots hs set clock_offset_ms = hello.offset_ms from hello
           where hs.id = hello.target_snapshot_id and hs.clock_offset_ms is null
             and hs.state = 'partial' and abs(hello.offset_ms) <= ?`,
          [sentAtMs, diskTaskUuid, MOST_OFF_MS, MOST_OFF_MS],
        ),
      );
    },
  };
}

/** When snapshot `hs` of schedule `s` was taken, by this database's clock; as the source said, where that is unknown. */
export const TAKEN_AT_HERE = `(hs.taken_at
  + coalesce(hs.clock_offset_ms, s.source_clock_offset_ms, 0) * interval '1 millisecond')`;

/** How old the task's target is; null without one, and while the source's clock is not known. */
export async function targetAgeMs(trx: Transaction, taskUuid: string): Promise<number | null> {
  const { rows } = await trx.raw<{ rows: { age_ms: number }[] }>(
    `select extract(epoch from clock_timestamp() - ${TAKEN_AT_HERE})::float8 * 1000 as age_ms
     from remote_backup_tasks t
     join remote_backup_schedules s on s.uuid = t.schedule_uuid
     join host_snapshots hs on hs.id = t.target_snapshot_id
     where t.uuid = ? and coalesce(hs.clock_offset_ms, s.source_clock_offset_ms) is not null`,
    [taskUuid],
  );
  return rows[0] === undefined ? null : Math.max(0, Math.round(rows[0].age_ms));
}
