/** Which state of a host is meant: a recovery point, or a checkpoint of a CDP host snapshot. */
import type { EpochMarker, ReplicaEpoch } from '../catalog/replica-epochs.ts';
import type { RecoveryPoint } from '../catalog/replica-inventory.ts';
import {
  MarkerUnknownError,
  PointUnknownError,
  StatesRemovedError,
  StateUnknownError,
} from './recovery-errors.ts';

/** A state that can be restored. Times are A's. */
export interface HostState {
  readonly point: RecoveryPoint;
  /** Null for an ordinary point. */
  readonly cdp: {
    readonly epoch: ReplicaEpoch;
    readonly checkpoint: number;
    /** The marker that was asked for, or that stands there; null for none. */
    readonly marker: string | null;
  } | null;
  readonly atMs: number;
}

/** All that there is of a host. */
export interface HostStates {
  readonly host: string;
  /** By sequence. */
  readonly points: readonly RecoveryPoint[];
  readonly epochs: readonly ReplicaEpoch[];
  readonly markers: readonly EpochMarker[];
}

/** Looks into the epoch's journal for its newest checkpoint at or before a time; null when there is none. */
export type FindCheckpoint = (
  epoch: ReplicaEpoch,
  atMs: number,
) => Promise<{ readonly sequence: number; readonly atMs: number; readonly marker: string } | null>;

/** The newest state of the host's newest point that has one. @throws {PointUnknownError} */
export function newestState(states: HostStates): HostState {
  for (const point of [...states.points].reverse()) {
    const state = newestOf(states, point);
    if (state !== null) return state;
  }
  throw new PointUnknownError(states.host, null);
}

/** The newest state of one point. @throws {PointUnknownError} @throws {StatesRemovedError} */
export function stateOfPoint(states: HostStates, uuid: string): HostState {
  const point = states.points.find(({ point: found }) => found === uuid);
  if (point === undefined) throw new PointUnknownError(states.host, uuid);
  const state = newestOf(states, point);
  if (state !== null) return state;
  const isRemoved = (epochOf(states, point)?.newestCheckpoint ?? 0) > 0;
  throw isRemoved ? new StatesRemovedError(states.host, uuid) : new PointUnknownError(states.host, uuid);
}

/** The newest marker of this name, and how many others have it. @throws {MarkerUnknownError} */
export function stateOfMarker(states: HostStates, name: string): { state: HostState; others: number } {
  const named = states.markers.filter(marker => marker.name === name);
  const marker = named.at(-1);
  const point = states.points.find(({ point: uuid }) => uuid === marker?.point);
  const epoch = point && epochOf(states, point);
  if (marker === undefined || point === undefined || epoch === undefined) {
    throw new MarkerUnknownError(states.host, name);
  }
  const cdp = { epoch, checkpoint: marker.checkpoint, marker: name };
  return { state: { point, cdp, atMs: marker.markedAtMs }, others: named.length - 1 };
}

/**
 * The newest state at or before a time, over points and checkpoints; of two of one time that of the later point. A
 * journal is looked into only when it may have the answer.
 * @throws {StateUnknownError} @throws what `find` throws
 */
export async function stateAt(states: HostStates, atMs: number, find: FindCheckpoint): Promise<HostState> {
  const reaching = states.points
    .flatMap(point => reachOf(states, point, atMs))
    .sort((left, right) => right.reachMs - left.reachMs || right.point.sequence - left.point.sequence);
  let best: HostState | null = null;
  for (const { point, epoch, reachMs } of reaching) {
    // What comes now reaches less far; of one time the later point came first.
    if (
      best !== null &&
      (reachMs < best.atMs || (reachMs === best.atMs && point.sequence < best.point.sequence))
    ) {
      continue;
    }
    const state = epoch === null ? { point, cdp: null, atMs: point.takenAtMs } : await within(point, epoch);
    if (state !== null && (best === null || isLater(state, best))) best = state;
  }
  if (best !== null) return best;
  const oldest = states.points
    .filter(point => newestOf(states, point) !== null)
    .map(({ takenAtMs }) => takenAtMs);
  throw new StateUnknownError(states.host, atMs, oldest.length === 0 ? null : Math.min(...oldest));

  async function within(point: RecoveryPoint, epoch: ReplicaEpoch): Promise<HostState | null> {
    const found = await find(epoch, atMs);
    if (found === null) return null;
    const marker = found.marker === '' ? null : found.marker;
    return { point, cdp: { epoch, checkpoint: found.sequence, marker }, atMs: found.atMs };
  }
}

const isLater = (one: HostState, other: HostState): boolean =>
  one.atMs > other.atMs || (one.atMs === other.atMs && one.point.sequence > other.point.sequence);

interface Reach {
  readonly point: RecoveryPoint;
  /** Null for an ordinary point. */
  readonly epoch: ReplicaEpoch | null;
  readonly reachMs: number;
}

/** The latest that a point's state at or before the time may be of. */
function reachOf(states: HostStates, point: RecoveryPoint, atMs: number): readonly Reach[] {
  if (point.kind === 'qcow2') {
    return point.takenAtMs <= atMs ? [{ point, epoch: null, reachMs: point.takenAtMs }] : [];
  }
  const epoch = epochOf(states, point);
  if (epoch === undefined || !hasStates(epoch) || epoch.startedAtMs > atMs) return [];
  return [{ point, epoch, reachMs: Math.min(atMs, epoch.newestCheckpointAtMs ?? epoch.startedAtMs) }];
}

/** Whether a state of the epoch itself can be restored. */
export const hasStates = ({ newestCheckpoint, oldestCheckpoint }: ReplicaEpoch): boolean =>
  newestCheckpoint > 0 && oldestCheckpoint <= newestCheckpoint;

function newestOf(states: HostStates, point: RecoveryPoint): HostState | null {
  if (point.kind === 'qcow2') return { point, cdp: null, atMs: point.takenAtMs };
  const epoch = epochOf(states, point);
  if (epoch === undefined || !hasStates(epoch)) return null;
  const checkpoint = epoch.newestCheckpoint;
  const marker = states.markers.find(found => found.point === point.point && found.checkpoint === checkpoint);
  const cdp = { epoch, checkpoint, marker: marker?.name ?? null };
  return { point, cdp, atMs: epoch.newestCheckpointAtMs ?? epoch.startedAtMs };
}

const epochOf = ({ epochs }: HostStates, { point }: RecoveryPoint): ReplicaEpoch | undefined =>
  epochs.find(epoch => epoch.point === point);
