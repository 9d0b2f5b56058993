/** A schedule's running task: started, watched, stopped when the operator or the clock wants it. */
import {
  CancellationScope,
  condition,
  executeChild,
  ParentClosePolicy,
  patched,
  TemporalFailure,
  uuid4,
} from '@temporalio/workflow';
import { replicaQueue, taskWorkflowId } from '../contract/names.ts';
import type { Blackout } from '../contract/schedule.ts';
import type { TaskResult } from '../contract/workflows.ts';
import * as life from '../domain/schedule-state.ts';
import { sourceCatalog } from './activity-proxies.ts';
import { failureReason } from './failure-codes.ts';
import { remoteBackupTask } from './remote-backup-task.ts';
import type { Schedule } from './schedule.ts';
import { settleRow } from './schedule-row.ts';
import { searchAttributesOf } from './schedule-search.ts';

/** Runs one task to its end. A pause or delete stops it; new settings reach it while it runs. */
export async function runTask(schedule: Schedule): Promise<void> {
  const running = { taskUuid: uuid4() };
  const blackout = blackoutAhead(schedule);
  schedule.show({ running });
  schedule.change(now => life.taskBegun(now, Date.now()));
  const scope = new CancellationScope();
  let isEnded = false;
  const ended = startTask(schedule, scope, running.taskUuid).finally(() => {
    isEnded = true;
  });
  const rate = new RateTeller(schedule, running.taskUuid);
  const isWanted = () => !isEnded && !life.mustStopTask(schedule.state) && !isOver(blackout);
  while (isWanted()) {
    const isStale = () => life.isRowStale(schedule.state, true);
    const waitMs = blackout === null ? undefined : Math.max(1, blackout.startsAtMs - Date.now());
    await until(() => !isWanted() || isStale(), waitMs);
    if (!isWanted()) break;
    await settleRow(schedule);
    rate.tell();
  }
  if (!isEnded) await stop(schedule, scope, running);
  const result = ofKnownRelease(await ended);
  rate.end();
  schedule.show({ running: null });
  schedule.change(now => life.afterTask(now, result, Date.now()));
}

/** A history of version 0.1.0 goes on as it began: there the word of a newer snapshot ended with any task. */
function ofKnownRelease({ answeredSequence, ...result }: TaskResult): TaskResult {
  if (answeredSequence === undefined || !patched('0.2.0-news-outlives-task')) return result;
  return { ...result, answeredSequence };
}

/** The blackout that has not begun yet. One that lasts already was overridden by whoever asked for this run. */
function blackoutAhead({ state: { blackout } }: Schedule): Blackout | null {
  return blackout !== null && blackout.startsAtMs > Date.now() ? blackout : null;
}

const isOver = (blackout: Blackout | null): boolean => blackout !== null && blackout.startsAtMs <= Date.now();

const until = (isSo: () => boolean, waitMs: number | undefined): Promise<unknown> =>
  waitMs === undefined ? condition(isSo) : condition(isSo, waitMs);

/** B closes the sessions first, so nothing flows any more even if A is silent; then the task may take its time. */
async function stop(
  schedule: Schedule,
  scope: CancellationScope,
  running: { readonly taskUuid: string },
): Promise<void> {
  const { uuid: scheduleUuid } = schedule.spec;
  const { deleting } = schedule.state;
  schedule.show({ running, isStopping: true });
  if (deleting !== null) {
    await schedule.catalog('close the sessions').beginDelete({ scheduleUuid, request: deleting });
  } else if (life.mustStopTask(schedule.state)) {
    await settleRow(schedule);
  } else {
    await schedule.catalog('blackout: close the sessions').closeSessions({ scheduleUuid });
  }
  scope.cancel();
}

/** A task whose workflow failed, or was ended by other means, is one that stopped; the next supersedes it. */
async function startTask(
  schedule: Schedule,
  scope: CancellationScope,
  taskUuid: string,
): Promise<TaskResult> {
  const { spec } = schedule;
  const { settings, searchAttributes } = schedule.state;
  const { type, bandwidthBytesPerSecond } = settings;
  const startedAtMs = Date.now();
  try {
    return await scope.run(() =>
      executeChild(remoteBackupTask, {
        workflowId: taskWorkflowId(taskUuid),
        taskQueue: replicaQueue(spec.replicaSite),
        parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
        staticSummary: `schedule ${spec.name}: host ${spec.host} from ${spec.sourceSite} to ${spec.replicaSite}`,
        ...searchAttributesOf({ spec, searchAttributes }),
        args: [{ spec, type, bandwidthBytesPerSecond, taskUuid, searchAttributes }],
      }),
    );
  } catch (error) {
    if (!(error instanceof TemporalFailure)) throw error;
    return life.failedTask({ taskUuid, startedAtMs, reason: failureReason(error) }, Date.now());
  }
}

/** Tells A of a new rate for the running task, beside everything else: A may be silent. */
class RateTeller {
  readonly #schedule: Schedule;
  readonly #taskUuid: string;
  #told: number | null;
  #revision = 0;
  #scope: CancellationScope | null = null;

  constructor(schedule: Schedule, taskUuid: string) {
    this.#schedule = schedule;
    this.#taskUuid = taskUuid;
    this.#told = schedule.state.settings.bandwidthBytesPerSecond;
  }

  tell(): void {
    const { spec, state } = this.#schedule;
    const { bandwidthBytesPerSecond } = state.settings;
    if (bandwidthBytesPerSecond === this.#told) return;
    this.#told = bandwidthBytesPerSecond;
    this.#revision += 1;
    const input = {
      scheduleUuid: spec.uuid,
      taskUuid: this.#taskUuid,
      revision: this.#revision,
      bandwidthBytesPerSecond,
    };
    this.end();
    this.#scope = new CancellationScope();
    const told = this.#scope.run(() => sourceCatalog(spec.sourceSite, 'a new rate').setRate(input));
    // It is tried again until A took it; what ends it is a newer rate or the end of the task.
    told.catch(() => undefined);
  }

  end(): void {
    this.#scope?.cancel();
    this.#scope = null;
  }
}
