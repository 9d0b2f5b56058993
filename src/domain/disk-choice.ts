/** How each disk of a target is to travel. */
import type { ComparableDisk, SyncMethod, SyncQuery } from '../contract/sync.ts';
import { type DecisionInput, doubtOf } from './decision-input.ts';
import type { DiskView, HostView, SnapshotView } from './host-view.ts';

/** A disk of the target as the decision wants it sent; the activity proves `path` and adds the proof. */
export interface DiskChoice {
  readonly disk: string;
  readonly method: SyncMethod;
  readonly baseSnapshot: string | null;
  readonly reason: string;
  readonly virtualSizeBytes: number;
  readonly node: string;
  /** The top layer's file; of a journal that of its base. */
  readonly path: string;
}

/** What the disks of a target go on from. */
export interface Ground {
  /** What is published; null when nothing is, or the source does not know it. */
  readonly prev: SnapshotView | null;
  /** Whose images prev stands on: a CDP host snapshot's frozen base. Null as prev is, or when the base is gone. */
  readonly images: SnapshotView | null;
  readonly parents: ReadonlyMap<number, number | null>;
}

export const CANNOT_COMPARE = 'the version of the replica site cannot compare';
export const NEW_DISK = 'new disk';

/** A disk of a CDP host snapshot whose base is published. */
export function appendDisk(target: SnapshotView, base: SnapshotView, disk: DiskView): DiskChoice {
  return {
    disk: disk.disk,
    method: 'append',
    baseSnapshot: base.uuid,
    reason: `the journal of epoch ${target.epoch?.epoch}`,
    virtualSizeBytes: disk.virtualSizeBytes,
    node: disk.node,
    path: base.disks.find(candidate => candidate.disk === disk.disk)?.path ?? disk.path,
  };
}

/** A disk of images. */
export function chooseDisk(input: DecisionInput, ground: Ground, disk: DiskView): DiskChoice {
  const base = ground.images?.disks.find(candidate => candidate.disk === disk.disk);
  const obstacle = obstacleTo(input, ground, base, disk);
  const isWhole = obstacle !== null || ground.images === null || base === undefined;
  const what = input.query.comparable?.find(candidate => candidate.disk === disk.disk)?.what ?? null;
  return {
    disk: disk.disk,
    method: !isWhole ? 'incremental' : what === null ? 'full' : 'compare',
    baseSnapshot: isWhole ? null : ground.images.uuid,
    reason: isWhole ? wholeDiskReason(input.query, obstacle, what) : incrementReason(base, disk),
    virtualSizeBytes: disk.virtualSizeBytes,
    node: disk.node,
    path: disk.path,
  };
}

/** @param obstacle why the disk cannot go on from what is published; null when nothing is */
function wholeDiskReason(
  { comparable, replicaHoldsHost }: SyncQuery,
  obstacle: string | null,
  what: ComparableDisk['what'] | null,
): string {
  const why = obstacle ?? 'first copy';
  if (what === 'seed') return `${why}; an image of it was brought to the replica site`;
  if (what === 'replica') return `${why}; the replica site has a replica of it`;
  if (obstacle === NEW_DISK) return why;
  if (comparable === undefined) {
    return obstacle === null && !replicaHoldsHost ? why : `${why}; ${CANNOT_COMPARE}`;
  }
  return obstacle === null ? why : `${why}; the replica site has nothing of it to compare with`;
}

/** Why a disk cannot go on from prev, null when it can or nothing is published. */
function obstacleTo(
  input: DecisionInput,
  { prev, images, parents }: Ground,
  base: DiskView | undefined,
  disk: DiskView,
): string | null {
  const { query } = input;
  if (query.prev === null) return null;
  if (prev === null) return `${query.prev.hostSnapshot} is unknown at the source`;
  if (images === null) return `the base of ${prev.uuid} is unknown at the source`;
  if (base === undefined) return NEW_DISK;
  const doubt = doubtOf(input, disk.disk);
  if (doubt !== null) return doubt;
  if (images.disks.includes(disk)) return 'sent again beside a disk in doubt';
  if (!isAncestorOrSame(parents, base.diskSnapshotId, disk.diskSnapshotId)) {
    return `not on the chain of ${images.uuid}`;
  }
  return null;
}

function incrementReason(base: DiskView | undefined, disk: DiskView): string {
  const before = base?.virtualSizeBytes ?? disk.virtualSizeBytes;
  if (disk.virtualSizeBytes > before)
    return `on the same chain; grew from ${before} to ${disk.virtualSizeBytes} bytes`;
  if (disk.virtualSizeBytes < before)
    return `on the same chain; shrank from ${before} to ${disk.virtualSizeBytes} bytes`;
  return 'on the same chain';
}

/** Parents over all host snapshots of the view, CDP's too: a chain may run through them. */
export function parentsOf(view: HostView | null): ReadonlyMap<number, number | null> {
  const disks = (view?.snapshots ?? []).flatMap(snapshot => snapshot.disks);
  return new Map(disks.map(({ diskSnapshotId, parentId }) => [diskSnapshotId, parentId]));
}

function isAncestorOrSame(
  parents: ReadonlyMap<number, number | null>,
  ancestor: number,
  descendant: number,
): boolean {
  const seen = new Set<number>();
  let at: number | null = descendant;
  while (at !== null && !seen.has(at)) {
    if (at === ancestor) return true;
    seen.add(at);
    at = parents.get(at) ?? null;
  }
  return false;
}
