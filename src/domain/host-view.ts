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

/** A complete (registered or published) host snapshot. */
export interface SnapshotView {
  readonly uuid: string;
  readonly sequence: number;
  readonly originSite: string;
  readonly takenAtMs: number;
  readonly kind: 'qcow2' | 'cdp';
  readonly disks: readonly DiskView[];
}

/** Complete host snapshots in rising sequence. */
export interface HostView {
  readonly host: string;
  readonly snapshots: readonly SnapshotView[];
}
