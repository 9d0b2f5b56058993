/** A replica's tasks: made once a task uuid, planned anew, ended. */
import type { Fence, SeenFence } from '../contract/fence.ts';
import { lockTypeOf } from '../contract/names.ts';
import type { EmptyTask } from '../contract/replica-activities.ts';
import type { TaskOutcome, TaskSummary } from '../contract/schedule.ts';
import { SupersededError } from '../domain/errors.ts';
import { type Database, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError } from './errors.ts';
import { checkFence } from './fence-rows.ts';
import { dropOldTasks } from './old-tasks.ts';
import {
  type CurrentInfo,
  closeSessionsOf,
  finishTaskRow,
  lockSchedule,
  lockTask,
  readOutcome,
  type ScheduleRow,
  type TaskRow,
} from './replica-rows.ts';
import { lockLiveSchedule } from './replica-schedules.ts';

/** A new task as far as rows tell: whether the files are still there is not for the catalog to say. */
export type CatalogTask = Omit<EmptyTask, 'replicaDoubts' | 'comparable' | 'canAppend'>;

export function createTaskRows(db: Database) {
  return {
    /**
     * Returns the task of this uuid, or makes it with the schedule's next generation; an older unfinished task
     * ends as superseded. Two callers at once get the same task: the schedule's row is locked.
     */
    createEmptyTask: (input: { scheduleUuid: string; taskUuid: string }): Promise<CatalogTask> =>
      inTransaction(db, 'replica.commit.createEmptyTask', async trx => {
        const schedule = await lockLiveSchedule(trx, input.scheduleUuid);
        const known = await trx<TaskRow>('remote_backup_tasks').where({ uuid: input.taskUuid }).first();
        if (known === undefined) return toEmptyTask(await insertTask(trx, schedule, input.taskUuid));
        if (known.schedule_uuid !== schedule.uuid) {
          throw new CatalogInputError(`task ${input.taskUuid} is one of another schedule`);
        }
        return toEmptyTask(known);
      }),

    /** The plan after `fence.plan`; asked again from the same plan it gives the same. */
    raisePlan: (input: { fence: Fence; taskUuid: string; reason: string }): Promise<number> =>
      inTransaction(db, 'replica.commit.raisePlan', async trx => {
        const plan = input.fence.plan + 1;
        const task = await lockTask(trx, input.fence, input.taskUuid);
        // A repeated call meets its own, already raised pair, which is not smaller.
        await checkFence(trx, { ...input.fence, plan });
        if (task.outcome !== null)
          throw new SupersededError(`task ${task.uuid} has ended as ${task.outcome}`);
        if (task.plan >= plan) return task.plan;
        await trx('remote_backup_tasks')
          .where({ id: task.id })
          .update({ plan, plan_reasons: JSON.stringify([...task.plan_reasons, input.reason]) });
        await closeSessionsOf(trx, 'dt.plan < t.plan and t.id = ?', task.id);
        return plan;
      }),

    /**
     * Ends a task that publishes nothing. A finished task keeps its outcome: the retry finds it done. Only its
     * generation is compared: a task that was cancelled while it planned anew may not know its newest plan.
     */
    endTask: (input: {
      fence: Fence;
      taskUuid: string;
      outcome: Exclude<TaskOutcome, 'published'>;
      reason: string | null;
      /** What superseded it, as the source told. */
      seen?: SeenFence;
    }): Promise<TaskSummary> =>
      inTransaction(db, 'replica.commit.endTask', async trx => {
        const schedule = await lockSchedule(trx, input.fence.scheduleUuid);
        const task = await lockTask(trx, input.fence, input.taskUuid);
        if (task.outcome !== null) return readOutcome(trx, task);
        await checkFence(trx, { ...input.fence, plan: Math.max(input.fence.plan, task.plan) });
        const outcome = strongerOutcome(input.outcome, schedule);
        if (input.seen !== undefined && schedule !== null) await catchUp(trx, schedule, task, input.seen);
        return readOutcome(trx, await finishTaskRow(trx, task, outcome, input.reason));
      }),

    /** Whether the task may go on, and if not why. Throws only when the catalog fails. */
    async taskValidity(input: { fence: Fence; taskUuid: string }): Promise<{
      valid: boolean;
      reason: string | null;
    }> {
      const { scheduleUuid, generation, plan } = input.fence;
      const row = await db('remote_backup_schedules as s')
        .leftJoin('remote_backup_tasks as t', join =>
          join.on('t.schedule_uuid', 's.uuid').andOnVal('t.uuid', input.taskUuid),
        )
        .leftJoin('schedule_fences as f', 'f.schedule_uuid', 's.uuid')
        .where('s.uuid', scheduleUuid)
        .first<ValidityRow | undefined>(
          's.paused',
          's.deleting',
          't.outcome',
          't.uuid as task_uuid',
          db.raw('coalesce((f.generation, f.plan) > (?::bigint, ?::bigint), false) as superseded', [
            generation,
            plan,
          ]),
        );
      const reason = invalidBecause(row);
      return { valid: reason === null, reason };
    },
  };
}

/** Far beyond what any schedule reaches, and so far below what a number holds that there is always a next one. */
const MOST_GENERATION = 2 ** 48;

/**
 * This catalog was restored from an older state, and the source has seen later tasks: without this each of them would
 * be gone through by a task that ends as superseded.
 */
async function catchUp(
  trx: Transaction,
  schedule: ScheduleRow,
  task: TaskRow,
  seen: SeenFence,
): Promise<void> {
  const { generation } = seen;
  if (!Number.isSafeInteger(generation) || generation <= schedule.last_generation) return;
  const isCredible = generation <= MOST_GENERATION;
  const next = isCredible ? `the next task is number ${generation + 1}` : 'no task can have that number';
  const warning =
    `site ${schedule.source_site} has seen task ${generation} of this schedule, and this catalog knows only ` +
    `${schedule.last_generation}: it was probably restored from an older backup; ${next}`;
  await trx('remote_backup_tasks')
    .where({ id: task.id })
    .update({ warnings: JSON.stringify([...task.warnings, warning]) });
  if (!isCredible) return;
  await trx('remote_backup_schedules').where({ uuid: schedule.uuid }).update({ last_generation: generation });
}

interface ValidityRow {
  readonly paused: boolean;
  readonly deleting: boolean;
  readonly outcome: TaskOutcome | null;
  readonly task_uuid: string | null;
  readonly superseded: boolean;
}

function invalidBecause(row: ValidityRow | undefined): string | null {
  if (row === undefined) return 'the schedule is not registered';
  if (row.deleting) return 'the schedule was deleted';
  if (row.task_uuid === null) return 'the task is unknown';
  if (row.outcome !== null) return `the task has ended as ${row.outcome}`;
  if (row.superseded) return 'a newer task or plan has begun';
  return row.paused ? 'the schedule is paused' : null;
}

async function insertTask(trx: Transaction, schedule: ScheduleRow, taskUuid: string): Promise<TaskRow> {
  const running = await trx<TaskRow>('remote_backup_tasks')
    .where({ schedule_uuid: schedule.uuid })
    .whereNull('finished_at')
    .first();
  if (running !== undefined) await finishTaskRow(trx, running, 'superseded', 'a newer task began');

  const generation = schedule.last_generation + 1;
  await checkFence(trx, { scheduleUuid: schedule.uuid, generation, plan: 1 });
  await trx('remote_backup_schedules').where({ uuid: schedule.uuid }).update({ last_generation: generation });
  await dropOldTasks(trx, schedule.uuid, generation);
  const current: CurrentInfo = {
    taskUuid,
    lockType: lockTypeOf(schedule.uuid),
    generation,
    unfinished: await findUnfinished(trx, schedule),
    replicaHoldsHost: await holdsHost(trx, schedule.host),
  };
  const [task] = await trx<TaskRow>('remote_backup_tasks')
    .insert({
      uuid: taskUuid,
      schedule_uuid: schedule.uuid,
      generation,
      prev_info: schedule.cursor === null ? null : JSON.stringify(schedule.cursor),
      current_info: JSON.stringify(current),
    } as object)
    .returning('*');
  return task as TaskRow;
}

/** The newest target since the cursor, while it is still partial here. */
async function findUnfinished(trx: Transaction, schedule: ScheduleRow): Promise<EmptyTask['unfinished']> {
  const newest = await trx('remote_backup_tasks as t')
    .join('host_snapshots as hs', 'hs.id', 't.target_snapshot_id')
    .where('t.schedule_uuid', schedule.uuid)
    .where('t.generation', '>', schedule.cursor_generation ?? 0)
    .orderBy('t.generation', 'desc')
    .first<{ uuid: string; state: string } | undefined>('hs.uuid', 'hs.state');
  return newest?.state === 'partial' ? { hostSnapshot: newest.uuid } : null;
}

async function holdsHost(trx: Transaction, host: string): Promise<boolean> {
  const row = await trx('host_snapshots as hs')
    .join('hosts as h', 'h.id', 'hs.host_id')
    .where({ 'h.ident': host, 'hs.state': 'complete' })
    .first('hs.id');
  return row !== undefined;
}

const toEmptyTask = (task: TaskRow): CatalogTask => ({
  ...task.current_info,
  taskId: task.id,
  plan: task.plan,
  startedAtMs: task.started_at.getTime(),
  prev: task.prev_info,
});

/** A task that was cut short ends as what the operator wanted of its schedule. */
function strongerOutcome(
  outcome: Exclude<TaskOutcome, 'published'>,
  schedule: ScheduleRow | null,
): Exclude<TaskOutcome, 'published'> {
  if (outcome !== 'paused' && outcome !== 'stopped') return outcome;
  if (schedule?.deleting) return 'stopped';
  return schedule?.paused ? 'paused' : outcome;
}
