/** What a source site does for the workflows. Every activity is idempotent. */
import type { Fence } from './fence.ts';
import type { GivenUp } from './replica-activities.ts';
import type { SyncAnswer, SyncQuery } from './sync.ts';
import type { SendDiskInput, TransferProgress } from './transfer.ts';

export interface SourceActivities {
  /** Stops every sender of earlier tasks and plans of this schedule, and waits until they have ended. */
  stopPreviousDiskTasks(input: { fence: Fence }): Promise<{ stopped: number }>;
  /** Decides what to sync and locks it; the same (task uuid, plan) gives the same answer. */
  querySyncInfo(query: SyncQuery): Promise<SyncAnswer>;
  /** Releases every lock of the type of smaller generations but those of the kept tasks. */
  releaseOtherLocks(input: {
    fence: Fence;
    lockType: string;
    keepTaskUuids: readonly string[];
  }): Promise<{ released: number }>;
  /** Stops the senders of what the replica gave up, waits until they have ended, and releases its locks. */
  releaseUnfinished(input: GivenUp): Promise<{ released: number }>;
  /** The rate of all running and later senders of this task; the highest revision counts. */
  setRate(input: {
    scheduleUuid: string;
    taskUuid: string;
    /** Counts the changes within the task, from 1. */
    revision: number;
    bandwidthBytesPerSecond: number | null;
  }): Promise<void>;
  /** Deleting: stops all senders, releases all locks and the subscription, leaves the tombstone. */
  retireSchedule(input: { scheduleUuid: string; lockType: string }): Promise<{ released: number }>;
}

/** On the transfer queue of the node that holds the file. */
export interface SourceTransferActivities {
  /** Sends until B said that it has all; heartbeats {@link TransferProgress}. */
  sendDisk(input: SendDiskInput): Promise<TransferProgress>;
}

/** On the control queue of the node that holds the file. */
export interface SourceControlActivities {
  /** Stops the sender of one disk task and waits until it has ended. */
  stopSender(input: { fence: Fence; diskTaskUuid: string }): Promise<{ stopped: number }>;
}
