/** The senders of a source site: noted before their first byte, asked to stop, and seen to have ended. */

import type { Fence } from '../contract/fence.ts';
import { effect } from '../lib/fault-points.ts';
import { ADVISORY, type Database, inTransaction, type Transaction } from './database.ts';
import { assertLockType, checkFence, leaveTombstone } from './fence-rows.ts';
import { CHANNELS } from './host-rows.ts';

interface StoppingRow {
  disk_task_uuid: string;
  node: string;
  instance: number;
}

/**
 * How long a worker's lock must have been free before its senders count as gone. A worker that lost its
 * connection takes the lock again well within this time.
 */
export const SENDER_GRACE_MS = 2_000;

/** @param instance the number that this process holds, {@link holdInstance} */
export function createSenderRows(db: Database, instance: number, graceMs: number) {
  return {
    /** Raises the fence so that older senders may not start, and asks those that run to stop. */
    requestStop: (fence: Fence): Promise<void> =>
      inTransaction(db, 'source.commit.requestStop', async trx => {
        await checkFence(trx, fence);
        await askToStop(trx, 'schedule_uuid = ? and (generation, plan) < (?, ?)', [
          fence.scheduleUuid,
          fence.generation,
          fence.plan,
        ]);
      }),

    /** Asks the sender of one disk task to stop. */
    requestStopOf: (fence: Fence, diskTaskUuid: string): Promise<void> =>
      inTransaction(db, 'source.commit.requestStopOf', async trx => {
        await checkFence(trx, fence);
        await askToStop(trx, 'schedule_uuid = ? and disk_task_uuid = ?', [fence.scheduleUuid, diskTaskUuid]);
      }),

    /** Leaves the tombstone and asks every sender to stop. */
    entomb: ({ scheduleUuid, lockType }: { scheduleUuid: string; lockType: string }): Promise<void> =>
      inTransaction(db, 'source.commit.entombSchedule', async trx => {
        assertLockType(scheduleUuid, lockType);
        await leaveTombstone(trx, scheduleUuid);
        await askToStop(trx, 'schedule_uuid = ?', [scheduleUuid]);
      }),

    /** Notes a sender of this process before its first byte. @returns what tells it from others of the disk task */
    beginSender: (input: { fence: Fence; diskTaskUuid: string; node: string }): Promise<string> =>
      inTransaction(db, 'source.commit.beginSender', async trx => {
        const { scheduleUuid, generation, plan } = input.fence;
        await checkFence(trx, input.fence);
        // What ended tasks ago is of no use to anybody.
        await trx('disk_senders')
          .where({ schedule_uuid: scheduleUuid })
          .where('generation', '<', generation)
          .whereNotNull('ended_at')
          .delete();
        const started_at = trx.raw('clock_timestamp()');
        const [row] = await trx('disk_senders')
          .insert({
            disk_task_uuid: input.diskTaskUuid,
            instance,
            schedule_uuid: scheduleUuid,
            generation,
            plan,
            node: input.node,
            started_at,
          })
          .onConflict(['disk_task_uuid', 'instance'])
          .merge({ started_at, stop_requested_at: null, lost_since: null, ended_at: null })
          .returning<{ begun: string }[]>(trx.raw('started_at::text as begun'));
        return (row as { begun: string }).begun;
      }),

    /**
     * Notes that this process's sender of the disk task has ended, unless another began since: an attempt that
     * Temporal gave up may end after the next one has begun.
     * @param begun what {@link beginSender} gave
     */
    async endSender(diskTaskUuid: string, begun: string): Promise<void> {
      await effect('source.commit.endSender', () =>
        db('disk_senders')
          .where({ disk_task_uuid: diskTaskUuid, instance })
          .whereRaw('started_at = ?::timestamptz', [begun])
          .whereNull('ended_at')
          .update({ ended_at: db.fn.now() }),
      );
    },

    /** After a request to stop a sender that this process does not have: its end could not be noted when it came. */
    async endGoneSender(diskTaskUuid: string): Promise<void> {
      await effect('source.commit.endGoneSender', () =>
        db('disk_senders')
          .where({ disk_task_uuid: diskTaskUuid, instance })
          .whereNotNull('stop_requested_at')
          .whereNull('ended_at')
          .update({ ended_at: db.fn.now() }),
      );
    },

    /** Senders asked to stop whose process still lives. Those of processes that are gone are marked as ended. */
    stoppingSenders: (scheduleUuid: string): Promise<{ diskTaskUuid: string; node: string }[]> =>
      inTransaction(db, 'source.commit.noteGoneSenders', async trx => {
        await endLostSenders(trx, scheduleUuid, graceMs);
        const rows = await trx<StoppingRow>('disk_senders')
          .where({ schedule_uuid: scheduleUuid } as object)
          .whereNotNull('stop_requested_at')
          .whereNull('ended_at')
          .orderBy('disk_task_uuid')
          .select('disk_task_uuid', 'node');
        return rows.map(row => ({ diskTaskUuid: row.disk_task_uuid, node: row.node }));
      }),
  };
}

async function askToStop(trx: Transaction, where: string, bindings: (string | number)[]): Promise<void> {
  await trx.raw(
    `with asked as (
       update disk_senders set stop_requested_at = coalesce(stop_requested_at, now())
       where ended_at is null and ${where} returning disk_task_uuid
     )
     select pg_notify(?, disk_task_uuid::text) from asked`,
    [...bindings, CHANNELS.stopRequested],
  );
}

async function endLostSenders(trx: Transaction, scheduleUuid: string, graceMs: number): Promise<void> {
  await trx.raw(
    `with held as (
       select objid::bigint as instance from pg_locks
       where locktype = 'advisory' and granted and classid::bigint = ? and objsubid = 2
         and database = (select oid from pg_database where datname = current_database())
     ), seen as (
       select s.disk_task_uuid, s.instance, s.instance in (select instance from held) as alive
       from disk_senders s
       where s.schedule_uuid = ? and s.stop_requested_at is not null and s.ended_at is null
       for update of s
     )
     update disk_senders s
     set lost_since = case when alive then null else coalesce(s.lost_since, clock_timestamp()) end,
         ended_at = case
           when not alive and coalesce(s.lost_since, clock_timestamp()) <= clock_timestamp() - ? * interval '1 ms'
           then clock_timestamp() end
     from seen where seen.disk_task_uuid = s.disk_task_uuid and seen.instance = s.instance`,
    [ADVISORY.instances, scheduleUuid, graceMs],
  );
}
