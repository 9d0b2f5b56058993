/** Which journals a replica keeps, and for how long: docs/decisions/0057. */
import { ADVISORY, type Database, guarded, inTransaction } from './database.ts';
import { lockHost } from './host-rows.ts';
import { HAS_STATES, JOURNALS } from './replica-epochs.ts';

/** A journal whose states were given up, and whose files may still be there. */
export interface JournalToRemove {
  readonly storageId: number;
  readonly host: string;
  readonly disk: string;
  readonly directory: string;
}

export function createJournalRetentionRows(db: Database) {
  return guarded({
    /**
     * Gives up the states of epochs, the oldest first, that are out of the window or beyond the size, and that nobody
     * needs: a later point is there (for the window: one from before its start), no schedule's cursor or unfinished
     * task stands in it, no lock holds it, and nobody restores a state of the host just now.
     * @param limits.keepMs null for no window @param limits.maxBytes of all journals here, null for no limit
     * @returns the epochs that were given up now
     */
    async giveUpJournals(limits: {
      keepMs: number | null;
      maxBytes: number | null;
    }): Promise<readonly { host: string; point: string }[]> {
      const given: { host: string; point: string }[] = [];
      for (const { id, host, point } of await candidates(db, limits)) {
        const isGiven = await inTransaction(db, 'replica.commit.giveUpJournal', async trx => {
          await lockHost(trx, host);
          const { rows } = await trx.raw<{ rows: { free: boolean }[] }>(
            'select pg_try_advisory_xact_lock(?, hashtext(?)) as free',
            [ADVISORY.restoredHosts, host],
          );
          if (rows[0]?.free !== true) return false;
          const { rowCount } = await trx.raw<{ rowCount: number }>(
            `update cdp_epochs e set oldest_checkpoint = e.newest_checkpoint + 1
             from host_snapshots hs where hs.id = e.host_snapshot_id and hs.id = ? and ${HAS_STATES} and ${UNUSED}`,
            [id],
          );
          return rowCount > 0;
        });
        if (isGiven) given.push({ host, point });
      }
      return given;
    },

    /** The journals of a node that were given up and may still have files. */
    async journalsToRemove(node: string): Promise<readonly JournalToRemove[]> {
      const { rows } = await db.raw<{ rows: (Omit<JournalToRemove, 'storageId'> & { id: number })[] }>(
        `select st.id, h.ident as host, d.ident as disk, st.path as directory
         ${JOURNALS} where e.oldest_checkpoint > e.newest_checkpoint and j.record_bytes > 0 and st.node = ?
         order by st.id`,
        [node],
      );
      return rows.map(({ id, ...row }) => ({ ...row, storageId: id }));
    },

    /** Notes that the files of a journal are gone. */
    noteJournalRemoved: (storageId: number): Promise<void> =>
      inTransaction(db, 'replica.commit.noteJournalRemoved', async trx => {
        await trx('cdp_journals').where({ storage_id: storageId }).update({ record_bytes: 0 });
      }),
  });
}

/** Nothing stands in the epoch of `hs` any more, and a later point is there. */
const UNUSED = `exists (
    select 1 from host_snapshots later where later.host_id = hs.host_id and later.state = 'complete'
      and later.sequence > hs.sequence)
  and not exists (
    select 1 from remote_backup_schedules s where s.cursor_snapshot_id = hs.id and s.deleted_at is null)
  and not exists (
    select 1 from remote_backup_tasks t where t.target_snapshot_id = hs.id and t.finished_at is null)
  and not exists (
    select 1 from disk_snapshots held where held.host_snapshot_id = hs.id and lock_holding(held.id) is not null)`;

interface CandidateRow {
  readonly id: number;
  readonly host: string;
  readonly point: string;
  readonly is_old: boolean;
  readonly bytes: number;
}

/** Those that nobody needs and whose time is over, by the host's own clock; and, the oldest first, what is too much. */
async function candidates(
  db: Database,
  { keepMs, maxBytes }: { keepMs: number | null; maxBytes: number | null },
): Promise<readonly CandidateRow[]> {
  const { rows } = await db.raw<{ rows: CandidateRow[] }>(
    `select hs.id, h.ident as host, hs.uuid as point, sum(j.record_bytes)::bigint as bytes,
            coalesce(exists (
              select 1 from host_snapshots later where later.host_id = hs.host_id and later.state = 'complete'
                and later.sequence > hs.sequence
                and later.taken_at + coalesce(later.clock_offset_ms, 0) * interval '1 millisecond'
                  <= clock_timestamp() - ?::float8 * interval '1 millisecond'), false) as is_old
     ${JOURNALS} where hs.state = 'complete' and ${HAS_STATES} and ${UNUSED}
     group by hs.id, h.ident, hs.uuid, e.newest_checkpoint_at order by e.newest_checkpoint_at, hs.id`,
    [keepMs],
  );
  const { rows: totals } = await db.raw<{ rows: { bytes: number | null }[] }>(
    `select sum(j.record_bytes)::bigint as bytes ${JOURNALS} where ${HAS_STATES}`,
  );
  let excess = maxBytes === null ? 0 : (totals[0]?.bytes ?? 0) - maxBytes;
  return rows.filter(({ is_old: isOld, bytes }) => {
    if (!isOld && excess <= 0) return false;
    excess -= bytes;
    return true;
  });
}
