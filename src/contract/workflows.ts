/** What the workflows hand to each other. */
import type { Fence } from './fence.ts';
import type { ScheduleSpec, TaskSummary } from './schedule.ts';
import type { DiskPlan, ScheduleType } from './sync.ts';
import type { JournalWindow } from './transfer.ts';

/** The input of `remoteBackupTask`. */
export interface TaskInput {
  readonly spec: ScheduleSpec;
  readonly type: ScheduleType;
  readonly bandwidthBytesPerSecond: number | null;
  readonly taskUuid: string;
  /** The namespace has our search attributes, so the disks' workflows are given them. Absent in histories of version 0.1.0. */
  readonly searchAttributes?: boolean;
}

/** What `remoteBackupTask` gives. It fails only by a bug or when an operator terminates it. */
export interface TaskResult {
  readonly summary: TaskSummary;
  /** The time of the host snapshot that the task was about, at its origin; null when there was none. */
  readonly targetTakenAtMs: number | null;
  /**
   * The place, in A's order, up to which the task's answer knew of snapshots that matter: its target, or without one
   * A's newest; null without an answer. Absent in histories of version 0.1.0.
   */
  readonly answeredSequence?: number | null;
  /** The replica site's clock minus Temporal's when the task ended; absent as above. */
  readonly siteOffsetMs?: number;
  /** What was published is the base of something newer: the next task is to begin at once. */
  readonly continues?: boolean;
}

/** The input of `remoteBackupDiskTask`: one disk of one plan. */
export interface DiskTaskInput {
  readonly fence: Fence;
  readonly sourceSite: string;
  readonly replicaSite: string;
  readonly host: string;
  readonly taskUuid: string;
  readonly diskTaskUuid: string;
  readonly hostSnapshot: string;
  readonly plan: DiskPlan;
  /** The node of the replica site that holds the file. */
  readonly replicaNode: string;
  readonly bandwidthBytesPerSecond: number | null;
  /** With the method `append` only. */
  readonly journal?: JournalWindow;
}

export interface DiskTaskResult {
  /** `stopped` when the schedule no longer wants this disk: paused, deleted or superseded. */
  readonly outcome: 'sealed' | 'stopped';
  readonly reason: string | null;
  /** The length of the disk's data stream; zero when stopped. */
  readonly totalBytes: number;
}

/** The input of `remoteBackupRelease`: what a schedule that was deleted by force left at its source. */
export interface ReleaseInput {
  readonly spec: ScheduleSpec;
}
