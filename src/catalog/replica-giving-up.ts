/** Giving up what paused tasks began: rows leave the view, then the files go, then the rows. */
import { lockTypeOf } from '../contract/names.ts';
import type { GivenUp } from '../contract/replica-activities.ts';
import { SupersededError } from '../domain/errors.ts';
import type { NodeFile } from '../domain/sealed-file.ts';
import { type Database, inTransaction, type Transaction } from './database.ts';
import { checkFence } from './fence-rows.ts';
import { lockHost } from './host-rows.ts';
import { dropEmptySnapshots, droppedStorages, dropStorages, dropUnpublished } from './replica-deletion.ts';
import { finishTaskRow, type ScheduleRow, type TaskRow } from './replica-rows.ts';
import { lockLiveSchedule } from './replica-schedules.ts';

/** After these A holds no lock but the cursor's. */
const NOTHING_BEGUN: ReadonlySet<string | null> = new Set(['published', 'upToDate', 'waiting']);

export function createGivingUpRows(db: Database) {
  return {
    /**
     * Takes what was begun and not published out of everybody's view, and names its files. Asked again it names
     * them again. `givenUp` is null when the last task left nothing at A.
     * @throws {SupersededError} unless the schedule is paused under this revision
     */
    beginGivingUp: (input: {
      scheduleUuid: string;
      revision: number;
    }): Promise<{ files: readonly NodeFile[]; givenUp: GivenUp | null }> =>
      inTransaction(db, 'replica.commit.beginGivingUp', async trx => {
        const schedule = await lockPaused(trx, input);
        const givenUp = await endTasks(trx, schedule);
        return { files: await dropUnpublished(trx, schedule.uuid), givenUp };
      }),

    /**
     * After the files are gone: drops the rows; the next task is told of no unfinished target.
     * @throws {SupersededError} unless the schedule is paused under this revision: a later task's rows stay
     */
    finishGivingUp: (input: { scheduleUuid: string; revision: number }): Promise<void> =>
      inTransaction(db, 'replica.commit.finishGivingUp', async trx => {
        const { scheduleUuid } = input;
        const schedule = await lockPaused(trx, input);
        await lockHost(trx, schedule.host);
        await dropStorages(trx, await droppedStorages(trx, scheduleUuid));
        await dropEmptySnapshots(trx, scheduleUuid);
        // What another schedule has begun as well stays, but it is no longer this one's to finish.
        await trx('remote_backup_tasks')
          .where({ schedule_uuid: scheduleUuid })
          .where('generation', '>', schedule.cursor_generation ?? 0)
          .update({ target_snapshot_id: null });
      }),
  };
}

async function lockPaused(
  trx: Transaction,
  { scheduleUuid, revision }: { scheduleUuid: string; revision: number },
): Promise<ScheduleRow> {
  const schedule = await lockLiveSchedule(trx, scheduleUuid);
  if (schedule.paused && schedule.revision === revision) return schedule;
  throw new SupersededError(`schedule ${schedule.name} is no longer paused as it was`);
}

/** Fences the ended tasks off, forgets their targets, and says what A may still hold of them. */
async function endTasks(trx: Transaction, schedule: ScheduleRow): Promise<GivenUp | null> {
  const tasks = trx<TaskRow>('remote_backup_tasks').where({ schedule_uuid: schedule.uuid });
  // A task whose workflow was ended by other means has nobody who would end it.
  const running = await tasks.clone().whereNull('finished_at').first();
  if (running !== undefined) await finishTaskRow(trx, running, 'paused', 'what it began was given up');
  const fence = { scheduleUuid: schedule.uuid, generation: schedule.last_generation + 1, plan: 0 };
  await checkFence(trx, fence);
  const keepGeneration = schedule.cursor_generation ?? 0;
  const last = await tasks.clone().orderBy('generation', 'desc').first();
  if (last === undefined || NOTHING_BEGUN.has(last.outcome)) return null;
  return {
    fence,
    lockType: lockTypeOf(schedule.uuid),
    keepGeneration,
    keepTaskUuids: schedule.cursor === null ? [] : [schedule.cursor.taskUuid],
  };
}
