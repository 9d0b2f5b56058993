/** What a source's guard sees of the schedules that lock snapshots, and may let go when space is low. */
import { lockTypeOf } from '../contract/names.ts';
import { formatSize } from '../lib/sizes.ts';
import { ADVISORY, type Database, guarded, inTransaction, type Transaction } from './database.ts';

/** A schedule that keeps snapshots from being deleted here. Times are the database's. */
export interface LockingSchedule {
  readonly scheduleUuid: string;
  /** Null where it has not asked yet. */
  readonly replicaSite: string | null;
  readonly locks: number;
  readonly oldestLockedAtMs: number;
  /** When it last asked what to sync, for so long it has been silent since. */
  readonly silentMs: number;
  /** A disk is being sent for it by a worker that lives. */
  readonly isSending: boolean;
}

export interface GuardRelease {
  readonly scheduleUuid: string;
  readonly replicaSite: string | null;
  /** The host snapshots that it no longer locks. */
  readonly snapshots: readonly string[];
}

/** Why the guard acts. */
export interface LowSpace {
  readonly folder: string;
  readonly freeBytes: number;
}

interface LockingRow {
  readonly schedule_uuid: string;
  readonly replica_site: string | null;
  readonly locks: number;
  readonly oldest: Date;
  readonly silent_ms: number;
  readonly sending: boolean;
}

/** A schedule that never got an answer which is still kept counts from its newest lock. */
const LOCKING = `
  select f.schedule_uuid, f.replica_site, count(l.id)::integer as locks, min(l.locked_at) as oldest,
         extract(epoch from clock_timestamp() - greatest(max(l.locked_at), max(a.asked_at)))::float8 * 1000 as silent_ms,
         exists (
           select 1 from disk_senders s where s.schedule_uuid = f.schedule_uuid and s.ended_at is null
             and s.instance in (
               select objid::bigint from pg_locks where locktype = 'advisory' and granted and classid::bigint = ?
                 and objsubid = 2 and database = (select oid from pg_database where datname = current_database()))
         ) as sending
  from schedule_fences f
  join host_snapshot_locks l on l.lock_type = f.lock_type
  left join lateral (
    select max(answered_at) as asked_at from sync_answers where schedule_uuid = f.schedule_uuid
  ) a on true
  where f.tombstoned_at is null`;

export function createSourceGuardRows(db: Database) {
  return guarded({
    /** Those that hold locks, the longest silent first. */
    lockingSchedules: (): Promise<readonly LockingSchedule[]> => readLocking(db, null),

    /**
     * Releases what the schedule that was silent longest locks, and notes it, so that it is told when it asks again.
     * Its answers go as well: whoever asks for one again is to lock anew.
     * @param input.idleMs schedules that asked within this time, or are being sent for, keep their locks
     * @returns null when there is none that may be released
     */
    releaseIdlest: (input: { idleMs: number; low: LowSpace }): Promise<GuardRelease | null> =>
      inTransaction(db, 'source.commit.guardRelease', async trx => {
        const { idleMs, low } = input;
        const idlest = (await readLocking(trx, null)).find(row => mayRelease(row, idleMs));
        if (idlest === undefined) return null;
        const { scheduleUuid } = idlest;
        // Whoever asks holds this row until it has locked, so the second look is the one that counts.
        await trx('schedule_fences').where({ schedule_uuid: scheduleUuid }).forUpdate().first();
        const [now] = await readLocking(trx, scheduleUuid);
        if (now === undefined || !mayRelease(now, idleMs)) return null;
        return release(trx, now, low);
      }),
  });
}

const mayRelease = ({ isSending, silentMs }: LockingSchedule, idleMs: number): boolean =>
  !isSending && silentMs >= idleMs;

async function release(
  trx: Transaction,
  { scheduleUuid, replicaSite }: LockingSchedule,
  { folder, freeBytes }: LowSpace,
): Promise<GuardRelease> {
  const lockType = lockTypeOf(scheduleUuid);
  const released = await trx('host_snapshot_locks as l')
    .join('host_snapshots as hs', 'hs.id', 'l.host_snapshot_id')
    .where('l.lock_type', lockType)
    .orderBy('l.id')
    .select<{ uuid: string; task_uuid: string; locked_at: Date }[]>('hs.uuid', 'l.task_uuid', 'l.locked_at');
  await trx('guard_releases').insert(
    released.map(({ uuid, task_uuid, locked_at }) => ({
      ...{ schedule_uuid: scheduleUuid, lock_type: lockType, host_snapshot: uuid, task_uuid, locked_at },
      ...{ folder, free_bytes: freeBytes },
    })),
  );
  await trx('host_snapshot_locks').where({ lock_type: lockType }).delete();
  await trx('sync_answers').where({ schedule_uuid: scheduleUuid }).delete();
  return { scheduleUuid, replicaSite, snapshots: released.map(({ uuid }) => uuid) };
}

async function readLocking(
  db: Database | Transaction,
  scheduleUuid: string | null,
): Promise<readonly LockingSchedule[]> {
  const { rows } = await db.raw<{ rows: LockingRow[] }>(
    `select * from (
       ${LOCKING} and f.schedule_uuid = coalesce(?::uuid, f.schedule_uuid)
       group by f.schedule_uuid, f.replica_site
     ) as locking order by silent_ms desc, schedule_uuid`,
    [ADVISORY.instances, scheduleUuid],
  );
  return rows.map(row => ({
    scheduleUuid: row.schedule_uuid,
    replicaSite: row.replica_site,
    locks: row.locks,
    oldestLockedAtMs: row.oldest.getTime(),
    silentMs: Math.max(0, row.silent_ms),
    isSending: row.sending,
  }));
}

interface ReleaseRow {
  readonly host_snapshot: string;
  readonly released_at: Date;
  readonly folder: string;
  readonly free_bytes: number;
}

/** What the guard let go of a schedule, in words for the answer that tells it; then it is forgotten. */
export async function tellReleases(trx: Transaction, scheduleUuid: string): Promise<readonly string[]> {
  const rows = await trx('guard_releases')
    .where({ schedule_uuid: scheduleUuid })
    .delete()
    .returning<ReleaseRow[]>(['host_snapshot', 'released_at', 'folder', 'free_bytes']);
  return rows.map(
    ({ host_snapshot: snapshot, released_at: at, folder, free_bytes: freeBytes }) =>
      `the source's guard released ${snapshot} at ${at.toISOString()}: ${folder} had only ${formatSize(freeBytes)} free`,
  );
}
