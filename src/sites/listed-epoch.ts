/** What a list says of an epoch: from when to when there are states, and where there are none. */
import type { ReplicaEpoch } from '../catalog/replica-epochs.ts';
import { hasStates } from './recovery-state.ts';

/** @returns null for an ordinary point */
export function listedEpoch(point: string, epochs: readonly ReplicaEpoch[]) {
  const index = epochs.findIndex(epoch => epoch.point === point);
  const epoch = epochs[index];
  if (epoch === undefined) return null;
  const isThere = hasStates(epoch);
  return {
    epoch: epoch.epoch,
    base: epoch.base,
    from: isThere ? isoOf(epoch.startedAtMs) : null,
    to: isThere ? isoOf(epoch.newestCheckpointAtMs) : null,
    newestCheckpoint: isThere ? epoch.newestCheckpoint : null,
    markers: epoch.markers,
    journalBytes: epoch.journalBytes,
    endedAt: isoOf(epoch.endedAtMs),
    endedReason: epoch.endedReason,
    gaps: [...gapBefore(epoch, epochs[index - 1]), ...removedOf(epoch)],
  };
}

/** Between two epochs of a host nothing was recorded. */
function gapBefore(epoch: ReplicaEpoch, before: ReplicaEpoch | undefined) {
  if (before === undefined || before.host !== epoch.host) return [];
  const fromMs = before.newestCheckpointAtMs;
  if (fromMs === null || fromMs >= epoch.startedAtMs) return [];
  const reason = before.endedReason ?? 'another epoch began';
  return [{ from: new Date(fromMs).toISOString(), to: new Date(epoch.startedAtMs).toISOString(), reason }];
}

function removedOf(epoch: ReplicaEpoch) {
  const { startedAtMs, newestCheckpoint, newestCheckpointAtMs } = epoch;
  if (hasStates(epoch) || newestCheckpoint === 0 || newestCheckpointAtMs === null) return [];
  const reason = 'the journal was out of the window that is kept';
  const [from, to] = [startedAtMs, newestCheckpointAtMs].map(ms => new Date(ms).toISOString()) as [
    string,
    string,
  ];
  return [{ from, to, reason }];
}

const isoOf = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
