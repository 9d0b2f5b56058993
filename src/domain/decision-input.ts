/** What the decision about a host is told. */
import type { SyncQuery } from '../contract/sync.ts';
import type { HostView, SnapshotView } from './host-view.ts';

export interface DecisionInput {
  readonly query: SyncQuery;
  /** Null when the source's catalog does not know the host. */
  readonly view: HostView | null;
  /**
   * For each disk of prev: null when its files are proven to be those that were sent, else the doubt in words
   * ({@link proofDoubt}). A disk of prev that is not in here counts as not proven.
   */
  readonly prevDoubts: ReadonlyMap<string, string | null>;
  /** True when prev's lock is there. Without prev it does not matter. */
  readonly prevLocked: boolean;
}

/** Why prev's disk is no proven base, at the source or at the replica. */
export function doubtOf({ query, prevDoubts }: DecisionInput, disk: string): string | null {
  const atReplica = query.replicaDoubts.find(doubt => doubt.disk === disk);
  if (atReplica !== undefined) return `the replica is in doubt (${atReplica.doubt})`;
  const atSource = prevDoubts.get(disk);
  if (atSource === undefined) return 'the source is in doubt (its files were not proven)';
  return atSource === null ? null : `the source is in doubt (${atSource})`;
}

export const find = (snapshots: readonly SnapshotView[], uuid: string): SnapshotView | undefined =>
  snapshots.find(snapshot => snapshot.uuid === uuid);

/**
 * The host snapshot whose files a snapshot's images are: a CDP host snapshot's frozen base, any other itself.
 * @returns null when the base is not there any more
 */
export function imagesOf(snapshots: readonly SnapshotView[], snapshot: SnapshotView): SnapshotView | null {
  return snapshot.epoch === undefined ? snapshot : (find(snapshots, snapshot.epoch.baseSnapshot) ?? null);
}
