/**
 * Tells Temporal at once that a worker is dead. Otherwise it finds out when a time-out is over: 30 s for each activity
 * that the worker had, and 10 s for each workflow that it held. What follows is the same: a failed attempt, and a retry.
 */
import type { Client } from '@temporalio/client';

/** PENDING_ACTIVITY_STATE_STARTED and _CANCEL_REQUESTED. @see temporal/api/enums/v1/workflow.proto */
const UNDER_WAY = new Set([2, 3]);

/**
 * @param identity of the dead worker, as it named itself to Temporal
 * @param roots the workflows to look at, and all below them
 */
export async function announceDeath(
  client: Client,
  identity: string,
  roots: readonly string[],
): Promise<void> {
  await Promise.all(roots.map(workflowId => visit(client, identity, workflowId)));
}

async function visit(client: Client, identity: string, workflowId: string): Promise<void> {
  const { namespace } = client.options;
  const description = await client.workflow
    .getHandle(workflowId)
    .describe()
    .catch(() => null);
  if (description === null || description.status.name !== 'RUNNING') return;
  const execution = { workflowId, runId: description.runId };
  const { workflowService } = client.connection;
  await workflowService.resetStickyTaskQueue({ namespace, execution }).catch(ignore);
  const { pendingActivities, pendingChildren } = description.raw;
  const lost = (pendingActivities ?? []).filter(
    ({ state, lastWorkerIdentity }) => UNDER_WAY.has(state ?? 0) && lastWorkerIdentity === identity,
  );
  for (const { activityId } of lost) {
    await workflowService
      .respondActivityTaskFailedById({
        ...{
          namespace,
          workflowId,
          runId: description.runId,
          activityId: activityId ?? '',
          identity: 'test',
        },
        failure: {
          message: `the worker ${identity} was killed`,
          applicationFailureInfo: { type: 'WorkerKilled' },
        },
      })
      // It may have been answered just before the death.
      .catch(ignore);
    await workflowService
      .resetActivity({ namespace, execution, id: activityId ?? '', identity: 'test' })
      .catch(ignore);
  }
  await Promise.all((pendingChildren ?? []).map(child => visit(client, identity, child.workflowId ?? '')));
}

const ignore = (): void => {};
