/** At the source: what the replica gave up, and what it wants of a task that runs. */
import type { GivenUp } from '../contract/replica-activities.ts';
import { type Database, inTransaction } from './database.ts';
import { assertLockType, checkFence, isTombstoned } from './fence-rows.ts';

const GIVEN_UP = JSON.stringify({ result: 'none', target: null, reason: 'the replica gave it up' });

export interface TaskRate {
  readonly scheduleUuid: string;
  readonly taskUuid: string;
  readonly revision: number;
  readonly bandwidthBytesPerSecond: number | null;
}

export function createGivenUpRows(db: Database) {
  return {
    /**
     * Releases the locks of the tasks that were given up. The fence lies above them all, so that none of their
     * late steps locks anything again. @returns how many
     */
    releaseGivenUp: ({ fence, lockType, keepGeneration, keepTaskUuids }: GivenUp): Promise<number> =>
      inTransaction(db, 'source.commit.releaseGivenUp', async trx => {
        assertLockType(fence.scheduleUuid, lockType);
        await checkFence(trx, fence);
        // The answers are the record of what each task holds.
        await trx('sync_answers')
          .where({ schedule_uuid: fence.scheduleUuid })
          .where('generation', '>', keepGeneration)
          .update({ answer: trx.raw('answer || ?::jsonb', [GIVEN_UP]) });
        return trx('host_snapshot_locks')
          .where({ lock_type: lockType })
          .where('generation', '>', keepGeneration)
          .whereNotIn('task_uuid', [...keepTaskUuids])
          .delete();
      }),

    /** Notes a new rate for a task's senders; the highest revision counts. Rates of other tasks are forgotten. */
    setTaskRate: (rate: TaskRate): Promise<void> =>
      inTransaction(db, 'source.commit.setTaskRate', async trx => {
        const { scheduleUuid, taskUuid, revision, bandwidthBytesPerSecond } = rate;
        if (await isTombstoned(trx, scheduleUuid)) return;
        await trx('task_rates')
          .where({ schedule_uuid: scheduleUuid })
          .whereNot({ task_uuid: taskUuid })
          .delete();
        await trx.raw(
          `insert into task_rates as r (task_uuid, schedule_uuid, revision, bytes_per_second) values (?, ?, ?, ?)
           on conflict (task_uuid) do update
             set revision = excluded.revision, bytes_per_second = excluded.bytes_per_second
             where r.revision < excluded.revision`,
          [taskUuid, scheduleUuid, revision, bandwidthBytesPerSecond],
        );
      }),

    /** @returns the task's newest rate; null when it never changed */
    async taskRate(taskUuid: string): Promise<{ bandwidthBytesPerSecond: number | null } | null> {
      const row = await db('task_rates')
        .where({ task_uuid: taskUuid })
        .first<{ rate: number | null } | undefined>('bytes_per_second as rate');
      return row === undefined ? null : { bandwidthBytesPerSecond: row.rate };
    },
  };
}
