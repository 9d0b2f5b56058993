/** What the rules read of the two catalogs. catalog-loader.ts fills it. */

/** A file that a catalog knows. */
export interface StorageRow {
  readonly id: number;
  readonly path: string;
  readonly state: 'partial' | 'sealed' | 'published' | 'dropped';
  readonly baseId: number | null;
  readonly format: 'qcow2' | 'cdp';
}

export interface DiskRow {
  readonly disk: string;
  readonly virtualSizeBytes: number;
  /** The storage in use, null until one is published. */
  readonly storage: StorageRow | null;
}

/** A host snapshot; at the replica a complete one is a recovery point. */
export interface SnapshotRow {
  readonly uuid: string;
  readonly host: string;
  readonly state: 'partial' | 'complete';
  readonly disks: readonly DiskRow[];
  /** Of a CDP host snapshot: the sequence of its newest checkpoint. */
  readonly checkpoint: number | null;
}

/** A host snapshot and the task that stands behind it: what a cursor and a lock both name. */
export interface LockPlace {
  readonly hostSnapshot: string;
  readonly taskUuid: string;
}

export interface LockRow extends LockPlace {
  readonly lockType: string;
  readonly generation: number;
}

export interface FenceRow {
  readonly scheduleUuid: string;
  readonly generation: number;
  readonly plan: number;
  readonly isTombstone: boolean;
  /** At the source: whose schedule it is, null before it has asked. */
  readonly replicaSite: string | null;
}

/** The newest answer that A gave a task. */
export interface AnswerRow {
  readonly taskUuid: string;
  /** Null when the answer was `none`. */
  readonly hostSnapshot: string | null;
}

export interface SenderRow {
  readonly diskTaskUuid: string;
  readonly scheduleUuid: string;
  readonly generation: number;
}

export interface ScheduleRow {
  readonly uuid: string;
  readonly name: string;
  readonly sourceSite: string;
  readonly host: string;
  readonly state: 'live' | 'deleting' | 'deleted';
  /** Deleted, and the source has not confirmed yet that it holds nothing for it. */
  readonly isReleasePending: boolean;
  readonly lastGeneration: number;
  readonly cursor: LockPlace | null;
}

export interface TaskRow {
  readonly taskUuid: string;
  readonly scheduleUuid: string;
  readonly generation: number;
  readonly plan: number;
  /** Null while the task is not finished. */
  readonly outcome: string | null;
  readonly prev: LockPlace | null;
  /** True once A's answer was recorded here, which follows after A has released the older locks. */
  readonly hasAnswer: boolean;
  /** The target, null before the answer and for `none`. */
  readonly hostSnapshot: string | null;
}

export interface SourceRows {
  readonly snapshots: readonly SnapshotRow[];
  readonly locks: readonly LockRow[];
  readonly fences: readonly FenceRow[];
  readonly answers: readonly AnswerRow[];
  /** Senders that have not ended. */
  readonly senders: readonly SenderRow[];
  /** Locks that the guard took back, and whose schedules have not been told yet. */
  readonly guardReleases: readonly { readonly hostSnapshot: string; readonly lockType: string }[];
}

export interface ReplicaRows {
  readonly snapshots: readonly SnapshotRow[];
  readonly fences: readonly FenceRow[];
  readonly storages: readonly StorageRow[];
  readonly schedules: readonly ScheduleRow[];
  readonly tasks: readonly TaskRow[];
}

export interface Catalogs {
  readonly source: SourceRows;
  readonly replica: ReplicaRows;
}

/** A schedule's tasks, the oldest first. */
export const tasksOf = (rows: ReplicaRows, scheduleUuid: string): TaskRow[] =>
  rows.tasks
    .filter(task => task.scheduleUuid === scheduleUuid)
    .toSorted((left, right) => left.generation - right.generation);

export const isPoint = (row: SnapshotRow): boolean => row.state === 'complete';
