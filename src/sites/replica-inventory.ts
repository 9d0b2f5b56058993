/** The replica's recovery points for its operator: needs neither A nor Temporal. */

import { createEpochRows, type ReplicaEpoch } from '../catalog/replica-epochs.ts';
import {
  createReplicaInventory,
  type ListedSchedule,
  type PointLayer,
  type RecoveryPoint,
} from '../catalog/replica-inventory.ts';
import type { SiteConfig } from '../config/site-config.ts';
import type { TaskSummary } from '../contract/schedule.ts';
import { ScheduleUnknownError } from '../orchestration/errors.ts';
import { listedEpoch } from './listed-epoch.ts';
import { openCatalog } from './open-catalog.ts';
import { type RecoverRequest, recoverHost } from './replica-recovery.ts';

/** Opens catalog B. @throws {DatabaseUnreachableError} */
export async function openReplicaInventory(config: SiteConfig) {
  const db = await openCatalog(config, 'replica');
  const inventory = createReplicaInventory(db);
  const epochs = createEpochRows(db);
  return {
    async listPoints(filter: { host: string | null }) {
      const found = await epochs.listEpochs(filter.host);
      return (await inventory.listPoints(filter)).map(point => toListed(point, found));
    },
    listMarkers: async (filter: { host: string | null }) =>
      (await epochs.listMarkers(filter.host)).map(({ markedAtMs, ...marker }) => ({
        ...marker,
        markedAt: new Date(markedAtMs).toISOString(),
      })),
    recover: (request: RecoverRequest) => recoverHost(config, db, request),
    listSchedules: async () => (await inventory.listSchedules()).map(toListedSchedule),
    async scheduleHistory({ name, limit }: { name: string; limit: number }) {
      const schedule = await inventory.showSchedule(name, limit);
      if (schedule === null) throw new ScheduleUnknownError(config.site, name);
      return schedule.tasks.map(toListedTask);
    },
    close: () => db.destroy(),
  };
}

const toListed = (
  { host, point, sequence, kind, takenAtMs, publishedAtMs, disks }: RecoveryPoint,
  epochs: readonly ReplicaEpoch[],
) => ({
  host,
  point,
  sequence,
  takenAt: new Date(takenAtMs).toISOString(),
  publishedAt: new Date(publishedAtMs).toISOString(),
  damaged: disks.some(({ layers }) => layers.some(({ damage }) => damage !== null)),
  kind,
  cdp: listedEpoch(point, epochs),
  disks: disks.map(({ disk, path, virtualSizeBytes, layers }) => ({
    ...{ disk, path, virtualSizeBytes },
    damage: damageOf(layers),
    verifiedAt: verifiedAtOf(layers),
  })),
});

/** Of the layer nearest to the top that has any. */
function damageOf(layers: readonly PointLayer[]) {
  for (const { path, damage } of layers) {
    if (damage === null) continue;
    const { kind, reason, foundAtMs } = damage;
    return { path, kind, reason, foundAt: new Date(foundAtMs).toISOString() };
  }
  return null;
}

/** Since when all of it has been verified at least once: of its layers the one that was verified longest ago. */
function verifiedAtOf(layers: readonly PointLayer[]): string | null {
  const times = layers.map(({ verifiedAtMs }) => verifiedAtMs);
  return times.includes(null) ? null : iso(Math.min(...times.map(Number)));
}

const toListedSchedule = (schedule: ListedSchedule) => ({
  name: schedule.name,
  uuid: schedule.uuid,
  host: schedule.host,
  sourceSite: schedule.sourceSite,
  state: schedule.state,
  paused: schedule.paused,
  rpoMs: schedule.settings.rpoMs,
  nextRunAt: iso(schedule.nextRunAtMs),
  newestPointAt: iso(schedule.newestPointAtMs),
  newestPointAgeMs: schedule.newestPointAgeMs,
  damage: schedule.damage,
  lastTask: schedule.lastTask === null ? null : toListedTask(schedule.lastTask),
});

const toListedTask = ({ startedAtMs, finishedAtMs, ...task }: TaskSummary) => ({
  taskUuid: task.taskUuid,
  generation: task.generation,
  outcome: task.outcome,
  reason: task.reason,
  hostSnapshot: task.hostSnapshot,
  startedAt: new Date(startedAtMs).toISOString(),
  finishedAt: iso(finishedAtMs),
  tookMs: finishedAtMs === null ? null : Math.max(0, finishedAtMs - startedAtMs),
  bytesSent: task.disks.reduce((sum, { bytesSent }) => sum + bytesSent, 0),
  bytesTotal: task.disks.reduce((sum, { bytesTotal }) => sum + bytesTotal, 0),
  warnings: task.warnings,
  disks: task.disks.map(({ disk, method, reason, bytesSent, bytesTotal }) => ({
    disk,
    method,
    reason,
    bytesSent,
    bytesTotal,
  })),
});

const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
