/** One schedule, for as long as it lives. */
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  setHandler,
  uuid4,
} from '@temporalio/workflow';
import {
  type DeleteScheduleRequest,
  type PauseScheduleRequest,
  QUERIES,
  type ScheduleRequest,
  type ScheduleSpec,
  type ScheduleState,
  type ScheduleStatus,
  SIGNALS,
  type SnapshotAvailable,
  type UpdateScheduleRequest,
} from '../contract/schedule.ts';
import * as requests from '../domain/schedule-requests.ts';
import * as life from '../domain/schedule-state.ts';
import { Schedule } from './schedule.ts';
import { deleteSchedule, giveUpUnfinished } from './schedule-endings.ts';
import { findBlackout, planNextRun, register, settleRow } from './schedule-row.ts';
import { runTask } from './schedule-task.ts';

export const pauseSignal = defineSignal<[PauseScheduleRequest]>(SIGNALS.pause);
export const resumeSignal = defineSignal<[ScheduleRequest]>(SIGNALS.resume);
export const runNowSignal = defineSignal<[ScheduleRequest]>(SIGNALS.runNow);
export const updateSettingsSignal = defineSignal<[UpdateScheduleRequest]>(SIGNALS.updateSettings);
export const snapshotAvailableSignal = defineSignal<[SnapshotAvailable]>(SIGNALS.snapshotAvailable);
export const deleteSignal = defineSignal<[DeleteScheduleRequest]>(SIGNALS.delete);
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

/** Each handler only changes the state, at once: whoever waits looks at it again. */
function handleSignals(schedule: Schedule): void {
  setHandler(pauseSignal, input =>
    schedule.change(now => requests.paused(now, idOf(input), input?.mode ?? 'now')),
  );
  setHandler(resumeSignal, input => schedule.change(now => requests.resumed(now, idOf(input))));
  setHandler(runNowSignal, input => schedule.change(now => requests.runRequested(now, idOf(input))));
  setHandler(updateSettingsSignal, input =>
    schedule.change(now => requests.settingsChanged(now, idOf(input), input?.settings ?? {})),
  );
  setHandler(deleteSignal, input =>
    schedule.change(now => requests.deleteRequested(now, idOf(input), input ?? { purge: false })),
  );
  setHandler(snapshotAvailableSignal, input =>
    schedule.change(now => requests.snapshotHinted(now, schedule.spec.host, input?.host, Date.now())),
  );
}

/** A signal sent by hand, from the Web UI, may lack its argument. */
const idOf = (input: ScheduleRequest | undefined): string => input?.requestId ?? uuid4();

/** Until a task is due or a request asks for something else. */
async function untilWanted(schedule: Schedule): Promise<void> {
  const isWanted = () => schedule.isDue() || life.needsAction(schedule.state) || schedule.mustRollOver();
  const waitMs = life.waitMs(schedule.state, Date.now());
  if (waitMs === null) await condition(isWanted);
  else if (waitMs > 0) await condition(isWanted, waitMs);
}
