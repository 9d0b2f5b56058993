/** The schedules whose workflows can be made anew from their rows, and the releases that are still owed. */
import { CONTRACT_VERSION } from '../contract/names.ts';
import type { DeleteRequest, ScheduleSettings, ScheduleSpec, TaskSummary } from '../contract/schedule.ts';
import { type Database, guarded, inTransaction } from './database.ts';
import { finishTaskRow, lockSchedule, readSummary, type ScheduleRow, type TaskRow } from './replica-rows.ts';
import { TAKEN_AT_HERE } from './source-clock.ts';

export interface LiveSchedule {
  readonly spec: ScheduleSpec;
  readonly settings: ScheduleSettings;
  readonly paused: boolean;
  /** Null unless it is being deleted. */
  readonly deleting: DeleteRequest | null;
  /** When the cursor's host snapshot was taken, at its origin; null before the first. */
  readonly newestPointAtMs: number | null;
  /** That of its newest task, 0 before the first. */
  readonly lastGeneration: number;
}

/** What a workflow that is made anew tells of its last task. */
export interface LastTask {
  readonly summary: TaskSummary;
  /** When its target was taken, at its origin; null without one, or when it is published. */
  readonly unpublishedTakenAtMs: number | null;
}

export function createLiveScheduleRows(db: Database) {
  const rows = () =>
    db('remote_backup_schedules as s')
      .leftJoin('host_snapshots as hs', 'hs.id', 's.cursor_snapshot_id')
      .whereNull('s.deleted_at')
      .orderBy('s.name')
      .select<LiveRow[]>('s.*', db.raw(`(${TAKEN_AT_HERE}) as taken_at`));
  return guarded({
    liveSchedules: async (): Promise<readonly LiveSchedule[]> => (await rows()).map(toLive),

    /** The schedule as it is now, null once it is deleted. */
    async liveSchedule(uuid: string): Promise<LiveSchedule | null> {
      const [row] = await rows().where('s.uuid', uuid);
      return row === undefined ? null : toLive(row);
    },

    /**
     * Ends the task that nobody runs any more, as the next one would: one that the schedule's workflow began
     * before it was lost. A younger one belongs to a workflow that somebody else has made anew.
     * @returns the newest task of the schedule; null when it had none
     */
    endLostTask: (input: { scheduleUuid: string; lastGeneration: number }): Promise<LastTask | null> =>
      inTransaction(db, 'replica.commit.endLostTask', async trx => {
        const schedule = await lockSchedule(trx, input.scheduleUuid);
        const lost = await trx<TaskRow>('remote_backup_tasks')
          .where({ schedule_uuid: input.scheduleUuid })
          .where('generation', '<=', input.lastGeneration)
          .whereNull('finished_at')
          .forUpdate()
          .first();
        if (lost !== undefined && schedule !== null) {
          const outcome = lostOutcome(schedule);
          await finishTaskRow(trx, lost as TaskRow, outcome, 'its workflow was lost');
        }
        const newest = await trx('remote_backup_tasks as t')
          .join('remote_backup_schedules as s', 's.uuid', 't.schedule_uuid')
          .leftJoin('host_snapshots as hs', 'hs.id', 't.target_snapshot_id')
          .where('t.schedule_uuid', input.scheduleUuid)
          .orderBy('t.generation', 'desc')
          .first<(TaskRow & { taken_at: Date | null; state: string | null }) | undefined>(
            't.*',
            trx.raw(`${TAKEN_AT_HERE} as taken_at`),
            'hs.state',
          );
        if (newest === undefined) return null;
        const isUnpublished = newest.state === 'partial';
        return {
          summary: await readSummary(trx, newest),
          unpublishedTakenAtMs: isUnpublished ? (newest.taken_at?.getTime() ?? null) : null,
        };
      }),

    /** Deleted schedules whose source has not confirmed yet that it holds nothing for them. */
    async pendingReleases(): Promise<readonly ScheduleSpec[]> {
      const pending = await db('remote_backup_schedules')
        .where({ release_pending: true })
        .orderBy('created_at')
        .select<ScheduleRow[]>();
      return pending.map(specOf);
    },

    /** The source holds nothing any more for the deleted schedule. */
    async noteReleased(uuid: string): Promise<void> {
      await inTransaction(db, 'replica.commit.noteReleased', trx =>
        trx('remote_backup_schedules').where({ uuid }).update({ release_pending: false }),
      );
    },
  });
}

type LiveRow = ScheduleRow & { readonly taken_at: Date | null };

const specOf = (row: ScheduleRow): ScheduleSpec => ({
  contractVersion: CONTRACT_VERSION,
  uuid: row.uuid,
  name: row.name,
  replicaSite: row.replica_site,
  sourceSite: row.source_site,
  host: row.host,
});

const toLive = (row: LiveRow): LiveSchedule => ({
  spec: specOf(row),
  settings: row.settings,
  paused: row.paused,
  deleting: row.deleting ? { purge: row.purge, force: row.forced } : null,
  newestPointAtMs: row.taken_at?.getTime() ?? null,
  lastGeneration: row.last_generation,
});

/** A drain whose task was lost is a pause: nothing is left that could be let finish. */
function lostOutcome({ deleting, paused, draining }: ScheduleRow): 'stopped' | 'paused' | 'superseded' {
  if (deleting) return 'stopped';
  return paused || draining ? 'paused' : 'superseded';
}
