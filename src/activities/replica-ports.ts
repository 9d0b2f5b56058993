/** What a replica site's activities need; sites/replica-site.ts brings it. */
import type { Epoch, Fence, SeenFence } from '../contract/fence.ts';
import type { DiskTask, EmptyTask, GivenUp, ScheduleRecord } from '../contract/replica-activities.ts';
import type {
  DeleteRequest,
  RecordedPause,
  ScheduleSettings,
  ScheduleSpec,
  TaskOutcome,
  TaskSummary,
} from '../contract/schedule.ts';
import type { ComparableDisk, SyncAnswer } from '../contract/sync.ts';
import type { ReceivedDisk, ReceiverOffer, TransferProgress } from '../contract/transfer.ts';
import type { NodeFile, ReplicaChain, SealedFile } from '../domain/sealed-file.ts';

export interface ReplicaCatalog {
  registerSchedule(input: {
    spec: ScheduleSpec;
    settings: ScheduleSettings;
    paused: boolean;
  }): Promise<ScheduleRecord>;
  /** Stores `nextRunAtMs` as the successor of `afterMs`; a second call for the same `afterMs` gives the stored one. */
  storeNextRun(input: {
    scheduleUuid: string;
    afterMs: number | null;
    nextRunAtMs: number;
    /** Of a smaller revision than the row's nothing is stored. */
    revision?: number | undefined;
  }): Promise<{ nextRunAtMs: number }>;
  /**
   * Writes of a smaller revision than the row's change nothing, here and in {@link recordSettings}.
   * @returns false for those
   */
  recordPaused(input: { scheduleUuid: string; revision: number } & RecordedPause): Promise<boolean>;
  recordSettings(input: {
    scheduleUuid: string;
    revision: number;
    settings: ScheduleSettings;
    replan: boolean;
  }): Promise<void>;
  /**
   * Takes what was begun and not published out of view, while paused under this revision.
   * @throws {SupersededError} when the row says something else by now
   */
  beginGivingUp(input: {
    scheduleUuid: string;
    revision: number;
  }): Promise<{ files: readonly NodeFile[]; givenUp: GivenUp | null }>;
  /**
   * After this node's files are gone: drops the rows, and leaves the files of other nodes to their workers.
   * @throws {SupersededError} as {@link beginGivingUp}
   */
  finishGivingUp(input: { scheduleUuid: string; revision: number }): Promise<void>;
  /** All that the rows tell; the doubts come from {@link ReplicaFiles}. */
  createEmptyTask(input: {
    scheduleUuid: string;
    taskUuid: string;
  }): Promise<Omit<EmptyTask, 'replicaDoubts' | 'comparable'>>;
  /** The disks of the schedule's host of which something is here to compare with. */
  comparableDisks(scheduleUuid: string): Promise<readonly ComparableDisk[]>;
  /** Of each disk of the schedule's newest published point the files in use. */
  cursorChains(scheduleUuid: string): Promise<readonly ReplicaChain[]>;
  raisePlan(input: { fence: Fence; taskUuid: string; reason: string }): Promise<number>;
  recordSyncInfo(input: {
    fence: Fence;
    taskUuid: string;
    answer: SyncAnswer;
    node: string;
  }): Promise<readonly DiskTask[]>;
  finishTask(input: { fence: Fence; taskUuid: string }): Promise<TaskSummary>;
  endTask(input: {
    fence: Fence;
    taskUuid: string;
    outcome: Exclude<TaskOutcome, 'published'>;
    reason: string | null;
    seen?: SeenFence;
  }): Promise<TaskSummary>;
  taskValidity(input: { fence: Fence; taskUuid: string }): Promise<{ valid: boolean; reason: string | null }>;
  /**
   * Opens or raises the disk task's session. @returns older disk tasks that may still write into the same file
   * @throws {SupersededError} below the highest epoch seen
   */
  openSession(input: {
    fence: Fence;
    diskTaskUuid: string;
    epoch: Epoch;
    senderFingerprint: string;
  }): Promise<readonly string[]>;
  /** Closes every session of the schedule: no hello is admitted any more. @returns their disk tasks */
  closeSessions(scheduleUuid: string): Promise<readonly string[]>;
  findSession(diskTaskUuid: string): Promise<{
    epoch: Epoch;
    state: 'open' | 'received' | 'closed';
    received: { totalBytes: number; contentDigest: string } | null;
  } | null>;
  /** After the file has its final name: the storage and the disk task are sealed. Idempotent. */
  /** The disk task of a journal is done. @returns its folder; null for a disk task of images */
  markAppended(input: { fence: Fence; diskTaskUuid: string }): Promise<{ path: string } | null>;
  markSealed(input: { fence: Fence; diskTaskUuid: string; path: string; file: SealedFile }): Promise<void>;
  /**
   * A received layer that the storage may have lost is given up: the next plan begins another file.
   * @returns what is to be removed; null while another task counts on it
   */
  rejectReceived(input: { fence: Fence; diskTaskUuid: string }): Promise<NodeFile | null>;
  /** Raises the fence above every task and closes the sessions. */
  beginDelete(input: { scheduleUuid: string; request: DeleteRequest }): Promise<void>;
  /** Rows of what is to be dropped, files first: the caller removes the files, then calls {@link finishDelete}. */
  filesToDrop(input: { scheduleUuid: string; request: DeleteRequest }): Promise<readonly NodeFile[]>;
  finishDelete(input: {
    scheduleUuid: string;
    request: DeleteRequest;
    released?: boolean | undefined;
  }): Promise<void>;
}

/** The running receiver of this node. */
export interface ReceiverPort {
  readonly offer: Omit<ReceiverOffer, 'epoch'>;
  /** Cuts every connection of the disk task with a smaller epoch, or all; returns when its writes have ended. */
  cut(diskTaskUuid: string, below: Epoch | null): Promise<void>;
  /** Null when no sender has been seen in this process. */
  progress(diskTaskUuid: string): (TransferProgress & { readonly lastSeenAtMs: number }) | null;
}

/** Seals replica files, proves them and removes dropped ones, on this node. */
export interface ReplicaFiles {
  /**
   * Section 7's order up to the rename; the catalog row follows. Finds what is done. A layer that stands alone
   * though it came as an increment is copied here, which may take long.
   * @returns the final path, and what the file is after its last change
   */
  seal(
    diskTaskUuid: string,
    received: Omit<ReceivedDisk, 'diskTaskUuid'>,
    options?: {
      /** Ends a copy with its reason. */
      readonly signal?: AbortSignal;
      readonly onProgress?: (copiedBytes: number, totalBytes: number) => void;
    },
  ): Promise<{ path: string; file: SealedFile }>;
  /** The disks whose files are not what they were when they were sealed, with the first doubt in words. */
  doubts(chains: readonly ReplicaChain[]): Promise<EmptyTask['replicaDoubts']>;
  /** Removes those of this node; the others are for their own nodes' workers. @returns how many files there were */
  remove(files: readonly NodeFile[]): Promise<number>;
}
