/** The metrics of space: what is free, what replicas occupy, and where a source runs low. */
import type { Gauge } from 'prom-client';
import type { FolderSpace } from './source-guard.ts';

/** How the replicas of this node stand. */
export interface ReplicaSpaceReading {
  readonly freeBytes: number;
  readonly usedByHost: ReadonlyMap<string, number>;
  /** Null without a quota. */
  readonly quotaBytes: number | null;
}

/** What a scrape finds; absent parts belong to another role. */
export interface SpaceFindings {
  readonly folders?: readonly FolderSpace[];
  readonly replicaSpace?: ReplicaSpaceReading | null;
}

type MakeGauge = <L extends string>(name: string, help: string, labelNames?: readonly L[]) => Gauge<L>;

export function spaceMetrics(gauge: MakeGauge): (findings: SpaceFindings) => void {
  const free = gauge('source_free_bytes', 'Free bytes of the file system of an image folder.', ['folder']);
  const low = gauge('source_space_low', "Whether it is below the guard's limit; absent without a guard.", [
    'folder',
  ]);
  const replicaFree = gauge('replica_free_bytes', 'Free bytes of the file system of the replicas.', [
    'folder',
  ]);
  const used = gauge('replica_used_bytes', 'What the replicas of a host occupy on this node.', ['host']);
  const quota = gauge('replica_quota_bytes', 'What the replicas on this node may occupy.', ['folder']);
  return ({ folders = [], replicaSpace = null }) => {
    for (const metric of [free, low, replicaFree, used, quota]) metric.reset();
    for (const { folder, freeBytes, freeBelowBytes, isLow } of folders) {
      free.set({ folder }, freeBytes);
      if (freeBelowBytes !== null) low.set({ folder }, isLow ? 1 : 0);
    }
    if (replicaSpace === null) return;
    const { freeBytes, usedByHost, quotaBytes } = replicaSpace;
    replicaFree.set({ folder: 'replicas' }, freeBytes);
    for (const [host, bytes] of usedByHost) used.set({ host }, bytes);
    if (quotaBytes !== null) quota.set({ folder: 'replicas' }, quotaBytes);
  };
}
