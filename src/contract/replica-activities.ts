/** What a replica site does for its workflows. Every activity is idempotent. */
import type { Fence, SeenFence } from './fence.ts';
import type {
  Blackout,
  DeleteRequest,
  PlannedRun,
  RecordedPause,
  ScheduleSettings,
  ScheduleSpec,
  TaskOutcome,
  TaskSummary,
} from './schedule.ts';
import type { Cursor, SyncAnswer, SyncQuery } from './sync.ts';
import type { OpenReceiverInput, ReceivedDisk, ReceiverOffer } from './transfer.ts';

/** B's row of a schedule, as far as its workflow needs it. */
export interface ScheduleRecord {
  readonly uuid: string;
  readonly settings: ScheduleSettings;
  readonly paused: boolean;
  readonly draining: boolean;
  readonly releasing: boolean;
  /** The number of the newest write to the row. */
  readonly revision: number;
  readonly nextRunAtMs: number | null;
}

/** What the source is to give up of tasks that ended without publishing. */
export interface GivenUp {
  /** Above every task so far, and below the next. */
  readonly fence: Fence;
  readonly lockType: string;
  /** The generation that published last; locks up to it stay. */
  readonly keepGeneration: number;
  readonly keepTaskUuids: readonly string[];
}

/** What `createEmptyTask` gives: the sketch's prev_info and current_info. */
export interface EmptyTask {
  readonly taskUuid: string;
  readonly taskId: number;
  readonly generation: number;
  readonly plan: number;
  readonly lockType: string;
  readonly startedAtMs: number;
  readonly prev: Cursor | null;
  readonly unfinished: SyncQuery['unfinished'];
  readonly replicaHoldsHost: boolean;
  readonly replicaDoubts: SyncQuery['replicaDoubts'];
  /** Left out by versions that cannot compare. */
  readonly comparable?: SyncQuery['comparable'];
  /** Left out by versions that cannot take journals. */
  readonly canAppend?: boolean;
}

/** One disk task as B recorded it. */
export interface DiskTask {
  readonly diskTaskUuid: string;
  readonly disk: string;
  /** The node of B that holds the file. */
  readonly node: string;
}

export interface ReplicaActivities {
  /** Writes the schedule's row, or finds it. @throws ScheduleConflict */
  registerSchedule(input: {
    spec: ScheduleSpec;
    settings: ScheduleSettings;
    paused: boolean;
  }): Promise<ScheduleRecord>;
  /** Computes the next due time from the last and stores it; asked again with the same input it agrees. */
  planNextRun(input: {
    scheduleUuid: string;
    /** That of the newest write to the row; a late attempt for older settings stores nothing. */
    revision?: number;
    settings: ScheduleSettings;
    /** The due time of the run that just ended, null for the first. */
    afterMs: number | null;
    /** When the run that just ended began and ended; tells why due times were skipped. */
    lastRun?: { readonly startedAtMs: number; readonly finishedAtMs: number } | null;
    /** The workflow's clock, by which it waits; versions before did not tell. */
    nowMs?: number;
  }): Promise<PlannedRun>;
  /** The blackout that lasts, else the next; null when the settings have none. */
  findBlackout(input: { settings: ScheduleSettings; nowMs?: number }): Promise<Blackout | null>;
  /**
   * Writes paused or resumed. Pausing closes the running sessions: nothing flows any more when it returns.
   * A write of a smaller revision than the row's changes nothing.
   */
  recordPaused(input: { scheduleUuid: string; revision: number } & RecordedPause): Promise<void>;
  /** Writes the settings. With `replan` the next run is forgotten, to be planned from the new settings. */
  recordSettings(input: {
    scheduleUuid: string;
    revision: number;
    settings: ScheduleSettings;
    replan: boolean;
  }): Promise<void>;
  /** Closes the running sessions without a pause: nothing flows any more when it returns. */
  closeSessions(input: { scheduleUuid: string }): Promise<void>;
  /**
   * Drops files and rows of what was begun and not published, while paused under this revision.
   * @returns what the source is to give up; null when it holds nothing of the kind
   * @throws Superseded when the schedule was resumed
   */
  giveUpUnfinished(input: { scheduleUuid: string; revision: number }): Promise<GivenUp | null>;
  createEmptyTask(input: { scheduleUuid: string; taskUuid: string }): Promise<EmptyTask>;
  /** The next plan of a task; asked again from the same plan it gives the same. */
  raisePlan(input: { fence: Fence; taskUuid: string; reason: string }): Promise<{
    plan: number;
    /** As in {@link EmptyTask}, looked for again; versions before did not tell. */
    replicaDoubts?: SyncQuery['replicaDoubts'];
  }>;
  recordSyncInfo(input: {
    fence: Fence;
    taskUuid: string;
    answer: SyncAnswer;
  }): Promise<{ disks: readonly DiskTask[] }>;
  /** Publishes the recovery point and moves the cursor, in one transaction. */
  finishTask(input: { fence: Fence; taskUuid: string }): Promise<TaskSummary>;
  /** Ends a task that publishes nothing. Its outcome is what the schedule's row says where that is stronger. */
  endTask(input: {
    fence: Fence;
    taskUuid: string;
    outcome: Exclude<TaskOutcome, 'published'>;
    reason: string | null;
    /**
     * Of a task that was superseded: what stood above it. When it lies beyond every task of this catalog, which was
     * then restored from an older state, the next task begins beyond it. Versions before did not tell.
     */
    seen?: SeenFence;
  }): Promise<TaskSummary>;
  /** Deleting, first half: the fence at B and the closed sessions. */
  beginDelete(input: { scheduleUuid: string; request: DeleteRequest }): Promise<void>;
  /** Deleting, second half: drops what was never published, with `purge` the published replicas too. */
  finishDelete(input: {
    scheduleUuid: string;
    request: DeleteRequest;
    /** False while the source still holds something for the schedule. Absent in histories of version 0.1.0. */
    released?: boolean;
  }): Promise<{ droppedFiles: number }>;
  checkScheduleValid(input: { fence: Fence; taskUuid: string }): Promise<{
    valid: boolean;
    reason: string | null;
  }>;
}

/** On the control queue of the node that holds the file. */
export interface ReplicaControlActivities {
  openReceiver(input: OpenReceiverInput): Promise<ReceiverOffer>;
  /** Watches until the disk is whole; heartbeats progress. @throws ReopenNeeded, PlanBroken */
  awaitReceived(input: OpenReceiverInput): Promise<ReceivedDisk>;
  /** Seals the file. A retry finds what is done and goes on from there. */
  finishDiskTask(input: { fence: Fence; diskTaskUuid: string }): Promise<{ path: string }>;
}
