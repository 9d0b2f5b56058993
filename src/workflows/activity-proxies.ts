/** Every time-out and retry policy of the workflows, and the queue of every activity. */
import { ActivityCancellationType, type ActivityOptions, proxyActivities } from '@temporalio/workflow';
import { NON_RETRYABLE } from '../contract/failures.ts';
import { controlQueue, followQueue, replicaQueue, sourceQueue, transferQueue } from '../contract/names.ts';
import type { ReplicaActivities, ReplicaControlActivities } from '../contract/replica-activities.ts';
import type {
  SourceActivities,
  SourceControlActivities,
  SourceTransferActivities,
} from '../contract/source-activities.ts';

/** Retries go on without limit: the operator sees the reason and mends it, the activity heals. */
const retry: NonNullable<ActivityOptions['retry']> = {
  initialInterval: '1s',
  backoffCoefficient: 2,
  maximumInterval: '1 minute',
  nonRetryableErrorTypes: [...NON_RETRYABLE],
};

/** Longer than any of them takes; a dead worker shows by its missing heartbeat. */
const UNLIMITED = '30 days';
/** A catalog activity whose worker died is tried again after this. */
const CATALOG = '30s';
/** A node that no worker serves shows after this; the workflow asks again. */
const SCHEDULE_TO_START = '60s';
const HEARTBEAT = '30s';

/** Rows of site B. Their effects are wanted even when the task is cancelled: each is waited for. */
export const replicaCatalog = (site: string, summary: string): ReplicaActivities =>
  proxyActivities<ReplicaActivities>({
    taskQueue: replicaQueue(site),
    startToCloseTimeout: CATALOG,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry,
    summary,
  });

/** Removes files as well as rows, so it may take long. */
export const replicaCleanUp = (
  site: string,
  summary: string,
): Pick<ReplicaActivities, 'finishDelete' | 'giveUpUnfinished'> =>
  proxyActivities<Pick<ReplicaActivities, 'finishDelete' | 'giveUpUnfinished'>>({
    taskQueue: replicaQueue(site),
    startToCloseTimeout: '10 minutes',
    retry,
    summary,
  });

/** Rows of site A. A silent A must not hold up a pause: cancellation does not wait for it. */
export const sourceCatalog = (
  site: string,
  summary: string,
): Pick<SourceActivities, 'querySyncInfo' | 'releaseOtherLocks' | 'setRate'> =>
  proxyActivities<Pick<SourceActivities, 'querySyncInfo' | 'releaseOtherLocks' | 'setRate'>>({
    taskQueue: sourceQueue(site),
    startToCloseTimeout: '2 minutes',
    cancellationType: ActivityCancellationType.TRY_CANCEL,
    retry,
    summary,
  });

/** Waits at site A until senders have ended, without limit. */
export const sourceStops = (
  site: string,
  summary: string,
): Pick<SourceActivities, 'stopPreviousDiskTasks' | 'releaseUnfinished' | 'retireSchedule'> =>
  proxyActivities<Pick<SourceActivities, 'stopPreviousDiskTasks' | 'releaseUnfinished' | 'retireSchedule'>>({
    taskQueue: sourceQueue(site),
    startToCloseTimeout: UNLIMITED,
    heartbeatTimeout: HEARTBEAT,
    cancellationType: ActivityCancellationType.TRY_CANCEL,
    retry,
    summary,
  });

const control = (site: string, node: string, summary: string): ActivityOptions => ({
  taskQueue: controlQueue(site, node),
  scheduleToStartTimeout: SCHEDULE_TO_START,
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry,
  summary,
});

export const receiverOpening = (
  site: string,
  node: string,
  summary: string,
): Pick<ReplicaControlActivities, 'openReceiver'> =>
  proxyActivities<Pick<ReplicaControlActivities, 'openReceiver'>>({
    ...control(site, node, summary),
    startToCloseTimeout: CATALOG,
  });

export const receiverWatch = (
  site: string,
  node: string,
  summary: string,
): Pick<ReplicaControlActivities, 'awaitReceived'> =>
  proxyActivities<Pick<ReplicaControlActivities, 'awaitReceived'>>({
    ...control(site, node, summary),
    startToCloseTimeout: UNLIMITED,
    heartbeatTimeout: HEARTBEAT,
  });

/** Most files are sealed at once; one that starts a new chain is copied first. */
export const sealing = (
  site: string,
  node: string,
  summary: string,
): Pick<ReplicaControlActivities, 'finishDiskTask'> =>
  proxyActivities<Pick<ReplicaControlActivities, 'finishDiskTask'>>({
    ...control(site, node, summary),
    startToCloseTimeout: UNLIMITED,
    heartbeatTimeout: HEARTBEAT,
  });

/** Waits for a slot as long as it takes: that is no fault. */
export const sending = (site: string, node: string, summary: string): SourceTransferActivities =>
  sendingOn(transferQueue(site, node), summary);

/** Of an open journal, for a whole window. */
export const following = (site: string, node: string, summary: string): SourceTransferActivities =>
  sendingOn(followQueue(site, node), summary);

const sendingOn = (taskQueue: string, summary: string): SourceTransferActivities =>
  proxyActivities<SourceTransferActivities>({
    taskQueue,
    startToCloseTimeout: UNLIMITED,
    heartbeatTimeout: HEARTBEAT,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry,
    summary,
  });

/** Best effort, 60 s at most: what it leaves undone is step 2 of the next task. */
export const senderStop = (site: string, node: string, summary: string): SourceControlActivities =>
  proxyActivities<SourceControlActivities>({
    taskQueue: controlQueue(site, node),
    scheduleToCloseTimeout: '60s',
    heartbeatTimeout: HEARTBEAT,
    cancellationType: ActivityCancellationType.TRY_CANCEL,
    retry,
    summary,
  });
