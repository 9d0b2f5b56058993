/** What is to be synchronised: the decision table of the architecture, as a pure function over catalog rows. */
import type {
  ComparableDisk,
  DiskPlan,
  LayerProof,
  Position,
  SyncAnswer,
  SyncMethod,
  SyncQuery,
  SyncTarget,
} from '../contract/sync.ts';
import { OffsiteError } from './errors.ts';
import type { DiskView, HostView, SnapshotView } from './host-view.ts';

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

/** A disk of the target as the decision wants it sent; the activity proves `path` and adds the proof. */
export interface DiskChoice {
  readonly disk: string;
  readonly method: SyncMethod;
  readonly baseSnapshot: string | null;
  readonly reason: string;
  readonly virtualSizeBytes: number;
  readonly node: string;
  /** The top layer's file. */
  readonly path: string;
}

export interface TargetChoice {
  readonly hostSnapshot: string;
  readonly originSite: string;
  readonly sourceSequence: number;
  readonly takenAtMs: number;
  readonly position: Position | null;
  readonly disks: readonly DiskChoice[];
}

/** An answer that still lacks proofs and fingerprints; {@link answerOf} adds them. */
export interface Decision extends Omit<SyncAnswer, 'target'> {
  readonly target: TargetChoice | null;
}

/** Thrown while a node that holds a disk has no certificate in the catalog. Heals when its worker starts. */
export class NodeUnknownError extends OffsiteError {
  constructor(node: string) {
    super(
      'NodeUnknown',
      `no worker of node ${node} has registered at this site`,
      `Start a worker on node ${node}.`,
    );
  }
}

/** At most this many passed-over host snapshots are named; `skippedCount` has them all. */
export const MAX_SKIPPED_NAMES = 100;

const CANNOT_COMPARE = 'the version of the replica site cannot compare';

/**
 * Decides what to sync. Total over valid input: it never throws, and the same input gives the same decision.
 * The first row that matches wins; rows 5 and 6 for CDP host snapshots come with CDP itself.
 */
export function decide(input: DecisionInput): Decision {
  const { query } = input;
  const complete = replicable(input.view);
  const newest = complete.at(-1);
  const prev = query.prev === null ? null : (find(complete, query.prev.hostSnapshot) ?? null);

  const unfinished = unfinishedTarget(query, complete, prev);
  if (unfinished !== null) return toTarget(input, complete, 1, prev, unfinished);
  if (newest === undefined) return waiting(input);
  if (query.prev === null) return toTarget(input, complete, 3, null, newest);
  if (prev === null) return toTarget(input, complete, 4, null, newest);

  const next = nextTarget(query, complete, prev);
  if (next !== null) return toTarget(input, complete, 6, prev, next);
  const isDoubted = prev.disks.some(({ disk }) => doubtOf(input, disk) !== null);
  return isDoubted ? toTarget(input, complete, 4, prev, prev) : upToDate(input, prev);
}

/** Makes the answer of a decision. @throws {NodeUnknownError} when a disk's node has no fingerprint yet */
export function answerOf(
  decision: Decision,
  fingerprints: ReadonlyMap<string, string>,
  /** The target's proofs by disk, the top layer first. */
  proofs: ReadonlyMap<string, readonly LayerProof[]>,
): SyncAnswer {
  if (decision.target === null) return { ...decision, target: null };
  const disks = decision.target.disks.map(({ node, path: _, ...choice }): DiskPlan => {
    const senderFingerprint = fingerprints.get(node);
    if (senderFingerprint === undefined) throw new NodeUnknownError(node);
    return { ...choice, sourceNode: node, senderFingerprint, proof: proofs.get(choice.disk) ?? [] };
  });
  const target: SyncTarget = { ...decision.target, disks };
  return { ...decision, target };
}

/** Compares what a disk's layers were when they were sent with what they are now. @returns null when the same */
export function proofDoubt(sent: readonly LayerProof[], now: readonly LayerProof[]): string | null {
  if (sent.length === 0) return 'nothing is known of the files that were sent';
  if (sent.length !== now.length) return `the chain had ${sent.length} layers and now has ${now.length}`;
  for (const [index, before] of sent.entries()) {
    const after = now[index];
    const changed = PROOF_FIELDS.find(field => before[field] !== after?.[field]);
    if (changed !== undefined) return `layer ${index} from the top has another ${PROOF_WORDS[changed]}`;
  }
  return null;
}

/**
 * The device is not among them: its number changes with a restart, and a file with the same inode, size, times and
 * header on another device is the same file system under another number. docs/decisions/0024.
 */
const PROOF_WORDS = {
  inode: 'inode',
  sizeBytes: 'size',
  mtimeNs: 'time of modification',
  ctimeNs: 'time of change',
  headerDigest: 'header',
} as const satisfies Record<Exclude<keyof LayerProof, 'device'>, string>;
const PROOF_FIELDS = Object.keys(PROOF_WORDS) as (keyof typeof PROOF_WORDS)[];

/** The host snapshots that this version can send, in rising sequence. */
function replicable(view: HostView | null): readonly SnapshotView[] {
  return (view?.snapshots ?? [])
    .filter(({ kind, disks }) => kind === 'qcow2' && disks.length > 0)
    .sort((left, right) => left.sequence - right.sequence);
}

const find = (snapshots: readonly SnapshotView[], uuid: string): SnapshotView | undefined =>
  snapshots.find(snapshot => snapshot.uuid === uuid);

/** Row 1's target: complete here, and not older than what is published already. */
function unfinishedTarget(
  { unfinished, prev: cursor }: SyncQuery,
  complete: readonly SnapshotView[],
  prev: SnapshotView | null,
): SnapshotView | null {
  if (unfinished === null || unfinished.hostSnapshot === cursor?.hostSnapshot) return null;
  const target = find(complete, unfinished.hostSnapshot);
  if (target === undefined) return null;
  return prev !== null && target.sequence <= prev.sequence ? null : target;
}

function nextTarget(
  { type }: SyncQuery,
  complete: readonly SnapshotView[],
  prev: SnapshotView,
): SnapshotView | null {
  const newer = complete.filter(({ sequence }) => sequence > prev.sequence);
  return (type === 'continuous' ? newer[0] : newer.at(-1)) ?? null;
}

function waiting({ query, view }: DecisionInput): Decision {
  const what =
    view === null
      ? `the source does not know the host ${query.host}`
      : `the host ${query.host} has no complete snapshot yet`;
  const warnings = cdpWarnings(view);
  if (query.prev !== null) {
    warnings.push(`the published replica ${query.prev.hostSnapshot} stays, but its source is gone: ${what}`);
  }
  return { ...nothing(2, what, warnings), waiting: true };
}

function upToDate(input: DecisionInput, prev: SnapshotView): Decision {
  const warnings = [...cdpWarnings(input.view), ...lockWarnings(input, prev, true)];
  return nothing(7, `nothing is newer than ${prev.uuid}`, warnings);
}

const nothing = (row: number, reason: string, warnings: readonly string[]): Decision => ({
  result: 'none',
  target: null,
  row,
  reason,
  skipped: [],
  skippedCount: 0,
  warnings,
  waiting: false,
});

/** Rows 1, 3, 4 and 6: row 6 becomes row 4 where a disk that prev has cannot go on from it. */
function toTarget(
  input: DecisionInput,
  complete: readonly SnapshotView[],
  row: 1 | 3 | 4 | 6,
  prev: SnapshotView | null,
  target: SnapshotView,
): Decision {
  const parents = parentsOf(input.view);
  const choices = target.disks.map(disk => chooseDisk(input, parents, prev, disk));
  const proven = prev?.disks.every(({ disk }) => doubtOf(input, disk) === null) ?? false;
  const warnings = [...cdpWarnings(input.view), ...lockWarnings(input, prev, proven)];
  if (input.query.prev !== null) {
    warnings.push(...choices.filter(({ method }) => method !== 'incremental').map(wholeDiskWarning));
  } else if (input.query.replicaHoldsHost && input.query.comparable === undefined) {
    warnings.push(`the replica site holds a replica of ${input.query.host} already, but ${CANNOT_COMPARE}`);
  }
  const broken =
    prev !== null && choices.some(({ disk, method }) => method !== 'incremental' && has(prev, disk));
  const skipped = skippedBetween(input.query, complete, prev, target);
  return {
    result: 'create',
    target: {
      hostSnapshot: target.uuid,
      originSite: target.originSite,
      sourceSequence: target.sequence,
      takenAtMs: target.takenAtMs,
      position: null,
      disks: choices,
    },
    row: row === 6 && broken ? 4 : row,
    reason: reasonOf(input.query, row, broken, prev, target),
    skipped: skipped.slice(0, MAX_SKIPPED_NAMES).map(({ uuid }) => uuid),
    skippedCount: skipped.length,
    warnings,
    waiting: false,
  };
}

function reasonOf(
  query: SyncQuery,
  row: 1 | 3 | 4 | 6,
  broken: boolean,
  prev: SnapshotView | null,
  target: SnapshotView,
): string {
  switch (row) {
    case 1:
      return `an earlier task began ${target.uuid} and did not finish it`;
    case 3:
      return `nothing is published yet; ${target.uuid} is the newest complete host snapshot`;
    case 4:
      return prev === null
        ? `the published ${query.prev?.hostSnapshot} is unknown at the source; ${target.uuid} is the newest`
        : `the published ${prev.uuid} is in doubt and nothing is newer, so it is sent again`;
    case 6: {
      const what = query.type === 'continuous' ? 'next' : 'newest';
      const found = `${target.uuid} is the ${what} host snapshot after ${prev?.uuid}`;
      return broken ? `${found}, but not every disk can go on from there` : found;
    }
  }
}

const has = (snapshot: SnapshotView, disk: string): boolean =>
  snapshot.disks.some(candidate => candidate.disk === disk);

/** Once something is published, a disk that does not go on from it is a surprise, unless the disk is new. */
const wholeDiskWarning = ({ disk, method, reason }: DiskChoice): string =>
  reason === NEW_DISK
    ? `disk ${disk} is sent in full: ${reason}`
    : `unexpected ${method} of disk ${disk}: ${reason}`;

const NEW_DISK = 'new disk';

/** An interval schedule passes over what lies between; a continuous one takes each in turn. */
function skippedBetween(
  { type }: SyncQuery,
  complete: readonly SnapshotView[],
  prev: SnapshotView | null,
  target: SnapshotView,
): readonly SnapshotView[] {
  if (prev === null || type === 'continuous') return [];
  return complete.filter(({ sequence }) => sequence > prev.sequence && sequence < target.sequence);
}

function chooseDisk(
  input: DecisionInput,
  parents: ReadonlyMap<number, number | null>,
  prev: SnapshotView | null,
  disk: DiskView,
): DiskChoice {
  const base = prev?.disks.find(candidate => candidate.disk === disk.disk);
  const obstacle = obstacleTo(input, parents, prev, base, disk);
  const isWhole = obstacle !== null || prev === null || base === undefined;
  const what = input.query.comparable?.find(candidate => candidate.disk === disk.disk)?.what ?? null;
  return {
    disk: disk.disk,
    method: !isWhole ? 'incremental' : what === null ? 'full' : 'compare',
    baseSnapshot: isWhole ? null : prev.uuid,
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
  parents: ReadonlyMap<number, number | null>,
  prev: SnapshotView | null,
  base: DiskView | undefined,
  disk: DiskView,
): string | null {
  const { query } = input;
  if (query.prev === null) return null;
  if (prev === null) return `${query.prev.hostSnapshot} is unknown at the source`;
  if (base === undefined) return NEW_DISK;
  const doubt = doubtOf(input, disk.disk);
  if (doubt !== null) return doubt;
  if (prev.disks.includes(disk)) return 'sent again beside a disk in doubt';
  if (!isAncestorOrSame(parents, base.diskSnapshotId, disk.diskSnapshotId)) {
    return `not on the chain of ${prev.uuid}`;
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

/** Why prev's disk is no proven base, at the source or at the replica. */
function doubtOf({ query, prevDoubts }: DecisionInput, disk: string): string | null {
  const atReplica = query.replicaDoubts.find(doubt => doubt.disk === disk);
  if (atReplica !== undefined) return `the replica is in doubt (${atReplica.doubt})`;
  const atSource = prevDoubts.get(disk);
  if (atSource === undefined) return 'the source is in doubt (its files were not proven)';
  return atSource === null ? null : `the source is in doubt (${atSource})`;
}

/** Parents over all host snapshots of the view, CDP's too: a chain may run through them. */
function parentsOf(view: HostView | null): ReadonlyMap<number, number | null> {
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

function lockWarnings({ prevLocked }: DecisionInput, prev: SnapshotView | null, proven: boolean): string[] {
  if (prev === null || prevLocked) return [];
  return [
    proven
      ? `the lock of ${prev.uuid} was missing; its files are unchanged, so it is locked again`
      : `the lock of ${prev.uuid} was missing`,
  ];
}

/** Says that newer CDP host snapshots are passed over, instead of passing over them silently. */
function cdpWarnings(view: HostView | null): string[] {
  const count = (view?.snapshots ?? []).filter(({ kind }) => kind === 'cdp').length;
  return count === 0 ? [] : [`${count} CDP host snapshots are not replicated by this version`];
}
