/** One schedule, for as long as it lives. */
import { allHandlersFinished, condition, continueAsNew, defineQuery, setHandler } from '@temporalio/workflow';
import { QUERIES, type ScheduleSpec, type ScheduleState, type ScheduleStatus } from '../contract/schedule.ts';
import * as life from '../domain/schedule-state.ts';
import { Schedule } from './schedule.ts';
import { deleteSchedule, giveUpUnfinished } from './schedule-endings.ts';
import { findBlackout, planNextRun, register, settleRow } from './schedule-row.ts';
import { handleSignals } from './schedule-signals.ts';
import { runTask } from './schedule-task.ts';

export const statusQuery = defineQuery<ScheduleStatus>(QUERIES.status);

/**
 * Keeps one host replicated: runs a task when one is due, never two at once, until deleted.
 * `state` is everything that one run hands to the next; signals replace it at any await, so it is read after each.
 */
export async function remoteBackupSchedule(spec: ScheduleSpec, state: ScheduleState): Promise<void> {
  const schedule = new Schedule(spec, state);
  handleSignals(schedule);
  setHandler(statusQuery, () => schedule.status());

  await register(schedule);
  while (!schedule.mustRollOver()) {
    if (schedule.state.deleting !== null) return deleteSchedule(schedule);
    await settleRow(schedule);
    await giveUpUnfinished(schedule);
    await planNextRun(schedule);
    await untilWanted(schedule);
    if (schedule.isDue()) await findBlackout(schedule);
    if (schedule.isDue()) await runTask(schedule);
  }
  await condition(allHandlersFinished);
  return continueAsNew<typeof remoteBackupSchedule>(spec, schedule.state);
}

/** Until a task is due or a request asks for something else. */
async function untilWanted(schedule: Schedule): Promise<void> {
  const isWanted = () => schedule.isDue() || life.needsAction(schedule.state) || schedule.mustRollOver();
  const waitMs = life.waitMs(schedule.state, Date.now());
  if (waitMs === null) await condition(isWanted);
  else if (waitMs > 0) await condition(isWanted, waitMs);
}
