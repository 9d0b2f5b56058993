/** What is to be synchronised: the decision table of the architecture, as a pure function over catalog rows. */
import type { DiskPlan, LayerProof, Position, SyncAnswer, SyncQuery, SyncTarget } from '../contract/sync.ts';
import { type DecisionInput, doubtOf, find, imagesOf } from './decision-input.ts';
import {
  appendDisk,
  CANNOT_COMPARE,
  chooseDisk,
  type DiskChoice,
  type Ground,
  NEW_DISK,
  parentsOf,
} from './disk-choice.ts';
import { OffsiteError } from './errors.ts';
import type { SnapshotView } from './host-view.ts';

export interface TargetChoice {
  readonly hostSnapshot: string;
  readonly originSite: string;
  readonly sourceSequence: number;
  readonly takenAtMs: number;
  readonly position: Position | null;
  readonly base?: string;
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

/**
 * Decides what to sync. Total over valid input: it never throws, and the same input gives the same decision.
 * The first row that matches wins. A CDP host snapshot follows only on its base or on itself; whoever has neither
 * gets the base first (docs/decisions/0048).
 */
export function decide(input: DecisionInput): Decision {
  const { query } = input;
  const complete = replicable(input);
  const newest = complete.at(-1);
  const prev = query.prev === null ? null : (find(complete, query.prev.hostSnapshot) ?? null);
  const from = { complete, prev };

  const unfinished = unfinishedTarget(query, complete, prev);
  if (unfinished !== null) return toTarget(input, from, 1, unfinished);
  if (newest === undefined) return waiting(input);
  if (query.prev === null) return toTarget(input, from, 3, newest);
  if (prev === null) return toTarget(input, from, 4, newest);

  const isDoubted = prev.disks.some(({ disk }) => doubtOf(input, disk) !== null);
  if (!isDoubted && growsFurther(query, prev) && (query.type === 'continuous' || newest === prev)) {
    return toTarget(input, from, 5, prev);
  }
  const next = nextTarget(query, complete, prev);
  if (next !== null && !(isDoubted && next.epoch !== undefined)) return toTarget(input, from, 6, next);
  return isDoubted ? toTarget(input, from, 4, imagesOf(complete, prev) ?? newest) : upToDate(input, prev);
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

/** The host snapshots that can be sent, in rising sequence: of CDP those with a base and something to say. */
function replicable({ query, view }: DecisionInput): readonly SnapshotView[] {
  const all = view?.snapshots ?? [];
  return all
    .filter(snapshot => snapshot.disks.length > 0)
    .filter(
      ({ kind, epoch }) =>
        kind === 'qcow2' ||
        (query.canAppend === true &&
          epoch !== undefined &&
          epoch.newestCheckpoint > 0 &&
          find(all, epoch.baseSnapshot) !== undefined),
    )
    .sort((left, right) => left.sequence - right.sequence);
}

/** True when prev is a CDP host snapshot that has a common checkpoint beyond the cursor. */
const growsFurther = ({ prev: cursor }: SyncQuery, prev: SnapshotView): boolean =>
  prev.epoch !== undefined && prev.epoch.newestCheckpoint > (cursor?.position?.checkpoint ?? 0);

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

function waiting(input: DecisionInput): Decision {
  const { query, view } = input;
  const what =
    view === null
      ? `the source does not know the host ${query.host}`
      : `the host ${query.host} has no complete snapshot yet`;
  const warnings = cdpWarnings(input);
  if (query.prev !== null) {
    warnings.push(`the published replica ${query.prev.hostSnapshot} stays, but its source is gone: ${what}`);
  }
  return { ...nothing(2, what, warnings), waiting: true };
}

function upToDate(input: DecisionInput, prev: SnapshotView): Decision {
  const warnings = [...cdpWarnings(input), ...lockWarnings(input, prev, true)];
  const what =
    prev.epoch === undefined ? prev.uuid : `checkpoint ${prev.epoch.newestCheckpoint} of ${prev.uuid}`;
  return nothing(7, `nothing is newer than ${what}`, warnings);
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

interface From {
  readonly complete: readonly SnapshotView[];
  readonly prev: SnapshotView | null;
}

/** Row 6 becomes row 4 where a disk that prev has cannot go on from it. */
function toTarget(input: DecisionInput, from: From, row: 1 | 3 | 4 | 5 | 6, wanted: SnapshotView): Decision {
  const { query } = input;
  const { complete, prev } = from;
  const images = prev === null ? null : imagesOf(complete, prev);
  const base = wanted.epoch === undefined ? null : imagesOf(complete, wanted);
  const isAppend = base !== null && images === base;
  const target = isAppend ? wanted : (base ?? wanted);
  const ground: Ground = { prev, images, parents: parentsOf(input.view) };
  const choices = target.disks.map(disk =>
    isAppend ? appendDisk(target, base, disk) : chooseDisk(input, ground, disk),
  );
  const goesOn = ({ method }: DiskChoice) => method === 'incremental' || method === 'append';
  const proven = prev?.disks.every(({ disk }) => doubtOf(input, disk) === null) ?? false;
  const warnings = [...cdpWarnings(input), ...lockWarnings(input, prev, proven)];
  if (query.prev !== null) {
    warnings.push(...choices.filter(choice => !goesOn(choice)).map(wholeDiskWarning));
  } else if (query.replicaHoldsHost && query.comparable === undefined) {
    warnings.push(`the replica site holds a replica of ${query.host} already, but ${CANNOT_COMPARE}`);
  }
  const broken = prev !== null && choices.some(choice => !goesOn(choice) && has(prev, choice.disk));
  const skipped = skippedBetween(query, complete, prev, target);
  return {
    result: row === 5 ? 'update' : 'create',
    target: {
      hostSnapshot: target.uuid,
      originSite: target.originSite,
      sourceSequence: target.sequence,
      takenAtMs: target.epoch?.newestCheckpointAtMs ?? target.takenAtMs,
      position: positionOf(target),
      ...(isAppend && { base: base.uuid }),
      disks: choices,
    },
    row: row === 6 && broken ? 4 : row,
    reason: reasonOf(query, row, broken, prev, target),
    skipped: skipped.slice(0, MAX_SKIPPED_NAMES).map(({ uuid }) => uuid),
    skippedCount: skipped.length,
    warnings,
    waiting: false,
    ...(target !== wanted && { continues: true }),
  };
}

const positionOf = ({ epoch }: SnapshotView): Position | null =>
  epoch === undefined ? null : { epoch: epoch.epoch, checkpoint: epoch.newestCheckpoint };

function reasonOf(
  query: SyncQuery,
  row: 1 | 3 | 4 | 5 | 6,
  broken: boolean,
  prev: SnapshotView | null,
  target: SnapshotView,
): string {
  const { uuid, epoch } = target;
  switch (row) {
    case 1:
      return `an earlier task began ${uuid} and did not finish it`;
    case 3:
      return `nothing is published yet; ${uuid} is the newest complete host snapshot`;
    case 4:
      return prev === null
        ? `the published ${query.prev?.hostSnapshot} is unknown at the source; ${uuid} is the newest`
        : `the published ${prev.uuid} is in doubt and nothing is newer, so it is sent again`;
    case 5:
      return `${uuid} has checkpoint ${epoch?.newestCheckpoint}, ${query.prev?.position?.checkpoint ?? 0} is published`;
    case 6: {
      const what = query.type === 'continuous' ? 'next' : 'newest';
      const ended = prev?.epoch?.endedReason;
      const found =
        epoch === undefined
          ? `${uuid} is the ${what} host snapshot after ${prev?.uuid}`
          : `epoch ${epoch.epoch} of continuous data protection goes on from its base`;
      const gap = ended == null ? found : `${found}, whose epoch ended: ${ended}`;
      return broken ? `${gap}, but not every disk can go on from there` : gap;
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

function lockWarnings({ prevLocked }: DecisionInput, prev: SnapshotView | null, proven: boolean): string[] {
  if (prev === null || prevLocked) return [];
  return [
    proven
      ? `the lock of ${prev.uuid} was missing; its files are unchanged, so it is locked again`
      : `the lock of ${prev.uuid} was missing`,
  ];
}

/** Says that CDP host snapshots are passed over, instead of passing over them silently. */
function cdpWarnings({ query, view }: DecisionInput): string[] {
  const epochs = (view?.snapshots ?? []).filter(({ kind }) => kind === 'cdp');
  if (epochs.length === 0) return [];
  if (query.canAppend !== true) {
    return [
      `${epochs.length} CDP host snapshots are passed over: the version of the replica site cannot append`,
    ];
  }
  return epochs
    .filter(
      ({ epoch }) => epoch === undefined || find(view?.snapshots ?? [], epoch.baseSnapshot) === undefined,
    )
    .map(({ uuid }) => `the CDP host snapshot ${uuid} is passed over: its base is unknown`);
}
