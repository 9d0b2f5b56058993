/** The highest (generation, plan) of each schedule: compared and raised in the transaction of the effect. */
import type { Fence } from '../contract/fence.ts';
import { lockTypeOf } from '../contract/names.ts';
import { ScheduleDeletedError, SupersededError } from '../domain/errors.ts';
import type { Transaction } from './database.ts';
import { CatalogInputError } from './errors.ts';

interface FenceRow {
  generation: number;
  plan: number;
  tombstoned_at: Date | null;
}

/**
 * Raises the schedule's fence to this pair and holds its row until the transaction ends.
 * @throws {SupersededError} when a higher pair was seen
 * @throws {ScheduleDeletedError} when the schedule left its tombstone
 */
export async function checkFence(trx: Transaction, fence: Fence): Promise<void> {
  const { scheduleUuid, generation, plan } = fence;
  const raised = await trx.raw<{ rowCount: number }>(
    `insert into schedule_fences as f (schedule_uuid, lock_type, generation, plan) values (?, ?, ?, ?)
     on conflict (schedule_uuid) do update set generation = excluded.generation, plan = excluded.plan
       where (f.generation, f.plan) <= (excluded.generation, excluded.plan) and f.tombstoned_at is null`,
    [scheduleUuid, lockTypeOf(scheduleUuid), generation, plan],
  );
  if (raised.rowCount === 1) return;
  const row = await trx<FenceRow>('schedule_fences')
    .where({ schedule_uuid: scheduleUuid } as object)
    .first();
  if (row?.tombstoned_at != null) throw new ScheduleDeletedError(`schedule ${scheduleUuid} was deleted`);
  throw new SupersededError(
    `task ${generation}, plan ${plan} of schedule ${scheduleUuid} is older than ${row?.generation}, ${row?.plan}`,
    row === undefined ? null : { generation: row.generation, plan: row.plan },
  );
}

/** Nothing of the schedule may act any more. Idempotent: the first time stays. */
export async function leaveTombstone(trx: Transaction, scheduleUuid: string): Promise<void> {
  await trx.raw(
    `insert into schedule_fences as f (schedule_uuid, lock_type, generation, plan, tombstoned_at)
     values (?, ?, 0, 0, now())
     on conflict (schedule_uuid) do update set tombstoned_at = coalesce(f.tombstoned_at, excluded.tombstoned_at)`,
    [scheduleUuid, lockTypeOf(scheduleUuid)],
  );
}

/** True when the schedule left its tombstone here. */
export async function isTombstoned(trx: Transaction, scheduleUuid: string): Promise<boolean> {
  const row = await trx('schedule_fences')
    .where({ schedule_uuid: scheduleUuid })
    .whereNotNull('tombstoned_at')
    .first('schedule_uuid');
  return row !== undefined;
}

/** The lock type is the schedule's own; another one would let it release what others hold. */
export function assertLockType(scheduleUuid: string, lockType: string): void {
  if (lockType !== lockTypeOf(scheduleUuid)) {
    throw new CatalogInputError(`lock type ${lockType} is not that of schedule ${scheduleUuid}`);
  }
}
