/** What a catalog knows of one host, as the decision reads it. */

export interface DiskView {
  readonly disk: string;
  readonly diskSnapshotId: number;
  /** The disk snapshot beneath, of any host snapshot; null for the bottom of a chain. */
  readonly parentId: number | null;
  readonly node: string;
  readonly path: string;
  readonly format: 'qcow2' | 'cdp';
  readonly virtualSizeBytes: number;
}

/** Of a CDP host snapshot: the writes since its frozen base. docs/decisions/0048. */
export interface EpochView {
  /** The host snapshot of its frozen base. */
  readonly baseSnapshot: string;
  /** Counts the host's epochs at their origin. */
  readonly epoch: number;
  /** The sequence of the newest checkpoint that all disks have; 0 while there is none. */
  readonly newestCheckpoint: number;
  readonly newestCheckpointAtMs: number;
  /** Why nothing is added any more; null while it is open. */
  readonly endedReason: string | null;
}

/** A complete (registered or published) host snapshot. */
export interface SnapshotView {
  readonly uuid: string;
  readonly sequence: number;
  readonly originSite: string;
  readonly takenAtMs: number;
  readonly kind: 'qcow2' | 'cdp';
  readonly disks: readonly DiskView[];
  /** With the kind `cdp` only. */
  readonly epoch?: EpochView;
}

/** Complete host snapshots in rising sequence. */
export interface HostView {
  readonly host: string;
  readonly snapshots: readonly SnapshotView[];
}
