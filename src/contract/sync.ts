/** The question "what is to be synchronised?" and its answer. */
import type { Fence } from './fence.ts';

export type ScheduleType = 'interval' | 'continuous';
export type SyncMethod = 'full' | 'incremental' | 'compare' | 'append';

/** Where in a CDP host snapshot a cursor stands; null for qcow2, where the snapshot itself says all. */
export interface Position {
  readonly epoch: number;
  readonly checkpoint: number;
}

/** Evidence that one layer's file is the same as when it was sent. Times are nanoseconds, as decimal text. */
export interface LayerProof {
  readonly device: string;
  readonly inode: string;
  readonly sizeBytes: number;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
  /** xxh3-128 of the image's first cluster of header (at most 64 KiB), hexadecimal. */
  readonly headerDigest: string;
}

/** The layers of one disk, the top first. */
export interface DiskProof {
  readonly disk: string;
  readonly layers: readonly LayerProof[];
}

/** Where a schedule's newest published replica stands. */
export interface Cursor {
  readonly hostSnapshot: string;
  /** The task that published it; its lock at A keeps the base of the next increment. */
  readonly taskUuid: string;
  readonly position: Position | null;
  readonly proofs: readonly DiskProof[];
}

/** A disk of which the replica site has something to compare with. */
export interface ComparableDisk {
  readonly disk: string;
  /** A published replica of whatever schedule, or an image that an operator brought. */
  readonly what: 'replica' | 'seed';
}

export interface SyncQuery {
  readonly fence: Fence;
  readonly replicaSite: string;
  /** With the replica site it names the schedule's workflow, for the notifier's signal. */
  readonly scheduleName: string;
  readonly host: string;
  readonly type: ScheduleType;
  readonly taskUuid: string;
  readonly lockType: string;
  readonly prev: Cursor | null;
  /** A host snapshot that an earlier task began and did not publish. */
  readonly unfinished: { readonly hostSnapshot: string } | null;
  /** True when B holds any published replica of this host, of whatever schedule. */
  readonly replicaHoldsHost: boolean;
  /** Disks of prev whose replica B could not prove, with the doubt in words. */
  readonly replicaDoubts: readonly { readonly disk: string; readonly doubt: string }[];
  /** Where B can compare; left out by versions that cannot, which are therefore answered *full*. */
  readonly comparable?: readonly ComparableDisk[];
  /** Left out by versions that cannot take journals: they are not offered any. */
  readonly canAppend?: boolean;
}

/** How one disk of the target is to travel. */
export interface DiskPlan {
  readonly disk: string;
  readonly method: SyncMethod;
  /** The host snapshot whose replica of this disk is the base; null for a stand-alone image. */
  readonly baseSnapshot: string | null;
  /** Why this method, in words for the operator. */
  readonly reason: string;
  readonly virtualSizeBytes: number;
  readonly sourceNode: string;
  /** SHA-256 of the sending node's certificate, lower-case hexadecimal. */
  readonly senderFingerprint: string;
  readonly proof: readonly LayerProof[];
}

export interface SyncTarget {
  readonly hostSnapshot: string;
  readonly originSite: string;
  /** The sequence in the answering site's catalog. */
  readonly sourceSequence: number;
  readonly takenAtMs: number;
  /** Of a CDP host snapshot: the newest common checkpoint at the answer. The task brings at least that. */
  readonly position: Position | null;
  /** Of a CDP host snapshot: its frozen base, which the replica has published. */
  readonly base?: string;
  readonly disks: readonly DiskPlan[];
}

/** A decision of the source, as recorded on the task. `none` has no target. */
export interface SyncAnswer {
  readonly result: 'create' | 'update' | 'none';
  readonly target: SyncTarget | null;
  /** Which row of the decision table answered, 1 to 7, and why, in words. */
  readonly row: number;
  readonly reason: string;
  /** Host snapshots that an interval schedule passes over, oldest first; at most 100 are named. */
  readonly skipped: readonly string[];
  readonly skippedCount: number;
  /** What the operator must see: an unexpected full or compare, a lock that was missing. */
  readonly warnings: readonly string[];
  /** True for a `none` because A has nothing complete yet; false for "up to date". */
  readonly waiting: boolean;
  /** The place of A's newest complete snapshot when it answered, 0 for none. Absent from version 0.1.0. */
  readonly newestSequence?: number;
  /** The target is the base of something newer: the next task is to begin at once. */
  readonly continues?: boolean;
}
