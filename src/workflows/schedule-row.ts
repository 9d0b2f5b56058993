/** B's row of a schedule: it is the truth, and is written before the schedule acts on it. */
import { ApplicationFailure } from '@temporalio/workflow';
import * as life from '../domain/schedule-state.ts';
import { settingsFaults, specFaults } from '../domain/settings.ts';
import { failureCode, failureReason } from './failure-codes.ts';
import type { Schedule } from './schedule.ts';

/** The schedule makes its own row, so that starting the workflow is all there is to creating it. */
export async function register(schedule: Schedule): Promise<void> {
  if (schedule.state.registered) return;
  const { settings, paused } = schedule.state;
  const faults = [...specFaults(schedule.spec), ...settingsFaults(settings)];
  if (faults.length > 0) throw ApplicationFailure.nonRetryable(faults.join('; '), 'InvalidInput');
  try {
    const { spec } = schedule;
    const record = await schedule
      .catalog('register the schedule')
      .registerSchedule({ spec, settings, paused });
    schedule.change(now => life.registered(now, record));
  } catch (error) {
    const code = failureCode(error);
    if (code === null) throw error;
    throw ApplicationFailure.nonRetryable(failureReason(error), code);
  }
}

/** Writes what the operator wants and the row does not say yet. */
export async function settleRow(schedule: Schedule): Promise<void> {
  while (life.isRowStale(schedule.state, schedule.isRunning)) {
    if (life.isPauseStale(schedule.state, schedule.isRunning)) await recordPause(schedule);
    else await recordSettings(schedule);
  }
}

/** A pause closes the sessions: nothing flows any more when it is recorded, even if A is silent. */
async function recordPause(schedule: Schedule): Promise<void> {
  const wanted = life.wantedPause(schedule.state, schedule.isRunning);
  await schedule.catalog(pauseSummary(wanted)).recordPaused({
    scheduleUuid: schedule.spec.uuid,
    revision: schedule.nextRevision(),
    ...wanted,
  });
  schedule.change(now => life.pauseRecorded(now, wanted));
}

function pauseSummary({ paused, draining }: { paused: boolean; draining: boolean }): string {
  if (paused) return 'pause: close the sessions';
  return draining ? 'pause after the running task' : 'resume';
}

async function recordSettings(schedule: Schedule): Promise<void> {
  const { settings: before, newSettings } = schedule.state;
  if (newSettings === null) return;
  await schedule.catalog('new settings').recordSettings({
    scheduleUuid: schedule.spec.uuid,
    revision: schedule.nextRevision(),
    settings: newSettings,
    replan: life.changesRhythm(before, newSettings),
  });
  schedule.change(now => life.settingsRecorded(now, newSettings));
}

export async function planNextRun(schedule: Schedule): Promise<void> {
  if (!life.mustPlan(schedule.state)) return;
  const { settings, revision, lastDueAtMs, lastTask } = schedule.state;
  const lastRun =
    lastTask?.finishedAtMs == null
      ? null
      : { startedAtMs: lastTask.startedAtMs, finishedAtMs: lastTask.finishedAtMs };
  const next = await schedule.catalog('plan the next run').planNextRun({
    scheduleUuid: schedule.spec.uuid,
    revision,
    settings,
    afterMs: lastDueAtMs,
    lastRun,
    nowMs: Date.now(),
  });
  schedule.change(now => life.siteClockSeen(now, next.siteNowMs, Date.now()));
  schedule.change(now => (now.settings === settings ? life.nextRunPlanned(now, next) : now));
}

/** Looks where the blackout hours stand, if there are any: a plan may be older than the last of them. */
export async function findBlackout(schedule: Schedule): Promise<void> {
  const { settings } = schedule.state;
  if ((settings.notBetween ?? []).length === 0) return;
  const blackout = await schedule
    .catalog('look at the blackout hours')
    .findBlackout({ settings, nowMs: Date.now() });
  schedule.change(now => life.blackoutFound(now, blackout));
}
