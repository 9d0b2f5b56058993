/** One schedule, for as long as it lives. */
import {
  ApplicationFailure,
  allHandlersFinished,
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  executeChild,
  ParentClosePolicy,
  setCurrentDetails,
  setHandler,
  TemporalFailure,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow';
import { lockTypeOf, replicaQueue, taskWorkflowId } from '../contract/names.ts';
import {
  type DeleteScheduleRequest,
  QUERIES,
  type ScheduleRequest,
  type ScheduleSpec,
  type ScheduleState,
  type ScheduleStatus,
  SIGNALS,
} from '../contract/schedule.ts';
import type { TaskResult } from '../contract/workflows.ts';
import * as life from '../domain/schedule-state.ts';
import { settingsFaults, specFaults } from '../domain/settings.ts';
import { replicaCatalog, replicaCleanUp, sourceStops } from './activity-proxies.ts';
import { failureCode, failureReason } from './failure-codes.ts';
import { remoteBackupTask } from './remote-backup-task.ts';
import { scheduleDetails } from './schedule-details.ts';

export const pauseSignal = defineSignal<[ScheduleRequest]>(SIGNALS.pause);
export const resumeSignal = defineSignal<[ScheduleRequest]>(SIGNALS.resume);
export const runNowSignal = defineSignal<[ScheduleRequest]>(SIGNALS.runNow);
export const deleteSignal = defineSignal<[DeleteScheduleRequest]>(SIGNALS.delete);
export const statusQuery = defineQuery<ScheduleStatus>(QUERIES.status);

/**
 * Keeps one host replicated: runs a task when one is due, never two at once, until deleted.
 * `state` is everything that one run hands to the next; signals replace it at any await, so it is read after each.
 */
export async function remoteBackupSchedule(spec: ScheduleSpec, state: ScheduleState): Promise<void> {
  const schedule = new Schedule(spec, state);
  setHandler(pauseSignal, ({ requestId }) => schedule.change(now => life.paused(now, requestId)));
  setHandler(resumeSignal, ({ requestId }) => schedule.change(now => life.resumed(now, requestId)));
  setHandler(runNowSignal, ({ requestId }) => schedule.change(now => life.runRequested(now, requestId)));
  setHandler(deleteSignal, ({ requestId, purge }) =>
    schedule.change(now => life.deleteRequested(now, requestId, { purge })),
  );
  setHandler(statusQuery, () => schedule.status());

  await schedule.register();
  while (!schedule.mustRollOver()) {
    if (schedule.state.deleting !== null) return schedule.delete();
    await schedule.recordPaused();
    await schedule.planNextRun();
    await schedule.wait();
    if (life.isDue(schedule.state, Date.now())) await schedule.runTask();
  }
  await condition(allHandlersFinished);
  return continueAsNew<typeof remoteBackupSchedule>(spec, schedule.state);
}

class Schedule {
  readonly #spec: ScheduleSpec;
  #state: ScheduleState;
  #running: { readonly taskUuid: string } | null = null;
  #deleted = false;
  #tasks = 0;

  constructor(spec: ScheduleSpec, state: ScheduleState) {
    this.#spec = spec;
    this.#state = state;
    this.#tell();
  }

  get state(): ScheduleState {
    return this.#state;
  }

  status(): ScheduleStatus {
    return life.statusOf(this.#spec, this.#state, this.#running, this.#deleted);
  }

  /** The one way in which the state changes: from what it is now, never from what it was before an await. */
  change(transition: (now: ScheduleState) => ScheduleState): void {
    this.#state = transition(this.#state);
    this.#tell();
  }

  /** Only between tasks. Everything is in the state, so any moment is as good as another. */
  mustRollOver(): boolean {
    return this.#tasks >= this.#state.rollOverAfterTasks || workflowInfo().continueAsNewSuggested;
  }

  /** The schedule makes its own row, so that starting the workflow is all there is to creating it. */
  async register(): Promise<void> {
    if (this.#state.registered) return;
    const { settings, paused } = this.#state;
    const faults = [...specFaults(this.#spec), ...settingsFaults(settings)];
    if (faults.length > 0) throw ApplicationFailure.nonRetryable(faults.join('; '), 'InvalidInput');
    try {
      const record = await this.#catalog('register the schedule').registerSchedule({
        spec: this.#spec,
        settings,
        paused,
      });
      this.change(now => life.registered(now, record));
    } catch (error) {
      const code = failureCode(error);
      if (code === null) throw error;
      throw ApplicationFailure.nonRetryable(failureReason(error), code);
    }
  }

  /** B's row is the truth: it is written before the schedule acts on it. */
  async recordPaused(): Promise<void> {
    const { paused, recordedPaused, deleting } = this.#state;
    if (paused === recordedPaused || deleting !== null) return;
    await this.#recordPaused(paused);
  }

  async planNextRun(): Promise<void> {
    if (!life.mustPlan(this.#state)) return;
    const { settings, lastDueAtMs } = this.#state;
    const next = await this.#catalog('plan the next run').planNextRun({
      scheduleUuid: this.#spec.uuid,
      settings,
      afterMs: lastDueAtMs,
    });
    this.change(now => life.nextRunPlanned(now, next));
  }

  /** Until a task is due or a request asks for something else. */
  async wait(): Promise<void> {
    const isWanted = () =>
      life.isDue(this.#state, Date.now()) || life.needsAction(this.#state) || this.mustRollOver();
    const waitMs = life.waitMs(this.#state, Date.now());
    if (waitMs === null) await condition(isWanted);
    else if (waitMs > 0) await condition(isWanted, waitMs);
  }

  async runTask(): Promise<void> {
    this.#tasks += 1;
    this.#running = { taskUuid: uuid4() };
    this.change(now => life.taskBegun(now, Date.now()));
    const scope = new CancellationScope();
    const task = this.#startTask(scope, this.#running.taskUuid);
    let isEnded = false;
    const ended = task.finally(() => {
      isEnded = true;
    });
    await condition(() => isEnded || life.mustStopTask(this.#state));
    if (!isEnded) {
      await this.#closeSessions();
      scope.cancel();
    }
    const result = await ended;
    this.#running = null;
    this.change(now => life.afterTask(now, result, Date.now()));
  }

  /** B closes the sessions first, so nothing flows any more even if A is silent. */
  async #closeSessions(): Promise<void> {
    const { deleting } = this.#state;
    if (deleting === null) return this.#recordPaused(true);
    await this.#catalog('close the sessions').beginDelete({
      scheduleUuid: this.#spec.uuid,
      request: deleting,
    });
  }

  async delete(): Promise<void> {
    const { uuid: scheduleUuid, sourceSite, replicaSite } = this.#spec;
    const request = () => this.#state.deleting ?? { purge: false };
    await this.#catalog('fence the schedule off').beginDelete({ scheduleUuid, request: request() });
    await sourceStops(sourceSite, 'release everything at the source').retireSchedule({
      scheduleUuid,
      lockType: lockTypeOf(scheduleUuid),
    });
    const cleanUp = replicaCleanUp(replicaSite, 'drop what was never published');
    await cleanUp.finishDelete({ scheduleUuid, request: request() });
    this.#deleted = true;
    this.#tell();
  }

  /** A task whose workflow failed, or was ended by other means, is one that stopped; the next supersedes it. */
  async #startTask(scope: CancellationScope, taskUuid: string): Promise<TaskResult> {
    const spec = this.#spec;
    const { type, bandwidthBytesPerSecond } = this.#state.settings;
    const startedAtMs = Date.now();
    try {
      return await scope.run(() =>
        executeChild(remoteBackupTask, {
          workflowId: taskWorkflowId(taskUuid),
          taskQueue: replicaQueue(spec.replicaSite),
          parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
          staticSummary: `${spec.name}: ${spec.host} from ${spec.sourceSite} to ${spec.replicaSite}`,
          args: [{ spec, type, bandwidthBytesPerSecond, taskUuid }],
        }),
      );
    } catch (error) {
      if (!(error instanceof TemporalFailure)) throw error;
      return life.failedTask({ taskUuid, startedAtMs, reason: failureReason(error) }, Date.now());
    }
  }

  async #recordPaused(paused: boolean): Promise<void> {
    const summary = paused ? 'pause: close the sessions' : 'resume';
    await this.#catalog(summary).recordPaused({ scheduleUuid: this.#spec.uuid, paused });
    this.change(now => life.pauseRecorded(now, paused));
  }

  #catalog(summary: string) {
    return replicaCatalog(this.#spec.replicaSite, summary);
  }

  #tell(): void {
    setCurrentDetails(scheduleDetails(this.status()));
  }
}
