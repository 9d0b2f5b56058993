/** How a schedule gives things up: what an unfinished task began, or everything. */
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import {
  CancellationScope,
  condition,
  isCancellation,
  ParentClosePolicy,
  startChild,
} from '@temporalio/workflow';
import { lockTypeOf, releaseSummary, releaseWorkflowId, replicaQueue } from '../contract/names.ts';
import type { GivenUp } from '../contract/replica-activities.ts';
import * as life from '../domain/schedule-state.ts';
import { replicaCleanUp, sourceStops } from './activity-proxies.ts';
import { failureCode } from './failure-codes.ts';
import { remoteBackupRelease } from './remote-backup-release.ts';
import type { Schedule } from './schedule.ts';

/**
 * `pause --release`: B drops what was begun, then A releases its locks, for which it may have to be waited long.
 * Whatever else is wanted meanwhile comes first; it is asked again afterwards.
 */
export async function giveUpUnfinished(schedule: Schedule): Promise<void> {
  const { spec, state } = schedule;
  if (!state.releasing || state.deleting !== null) return;
  const isElse = () =>
    !schedule.state.releasing || life.isRowStale(schedule.state, false) || schedule.mustRollOver();
  try {
    const { uuid: scheduleUuid, replicaSite, sourceSite } = spec;
    const cleanUp = replicaCleanUp(replicaSite, 'drop what was begun');
    const givenUp = await cleanUp.giveUpUnfinished({ scheduleUuid, revision: state.revision });
    const release = (at: GivenUp) => sourceStops(sourceSite, 'release what was begun').releaseUnfinished(at);
    if (givenUp !== null && !(await unlessWanted(() => release(givenUp), isElse))) return;
  } catch (error) {
    // A site that has seen a newer task has nothing of the older ones to give up.
    if (failureCode(error) !== 'Superseded') throw error;
  }
  schedule.change(life.unfinishedGivenUp);
}

/** Fence at B, release at A, drop at B. With `force` the middle is left to a workflow of its own. */
export async function deleteSchedule(schedule: Schedule): Promise<void> {
  const { uuid: scheduleUuid, sourceSite, replicaSite } = schedule.spec;
  const request = () => schedule.state.deleting ?? { purge: false };
  await schedule.catalog('fence the schedule off').beginDelete({ scheduleUuid, request: request() });
  const isRetired = await unlessWanted(
    () =>
      sourceStops(sourceSite, 'release everything at the source').retireSchedule({
        scheduleUuid,
        lockType: lockTypeOf(scheduleUuid),
      }),
    () => request().force ?? false,
  );
  if (!isRetired) await leaveRelease(schedule);
  schedule.change(life.deleteSettled);
  const cleanUp = replicaCleanUp(replicaSite, 'drop what was never published');
  await cleanUp.finishDelete({ scheduleUuid, request: request(), released: isRetired });
  schedule.show({ running: null, isDeleted: true });
}

/** Starts what goes on releasing at A after this workflow has ended, unless it is there. */
async function leaveRelease({ spec }: Schedule): Promise<void> {
  try {
    await startChild(remoteBackupRelease, {
      workflowId: releaseWorkflowId(spec.uuid),
      taskQueue: replicaQueue(spec.replicaSite),
      parentClosePolicy: ParentClosePolicy.ABANDON,
      staticSummary: releaseSummary(spec),
      args: [{ spec }],
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}

/** @returns false when `isOtherwise` came true first; the work was told to stop then */
async function unlessWanted(work: () => Promise<unknown>, isOtherwise: () => boolean): Promise<boolean> {
  if (isOtherwise()) return false;
  const scope = new CancellationScope();
  let isDone = false;
  const done = scope.run(work).then(() => {
    isDone = true;
  });
  await Promise.race([done, condition(isOtherwise)]);
  if (isDone) return true;
  scope.cancel();
  await done.catch(error => {
    if (!isCancellation(error)) throw error;
  });
  return isDone;
}
