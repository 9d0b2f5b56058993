/** The replica's recovery points for its operator: needs neither A nor Temporal. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createReplicaInventory,
  type ListedSchedule,
  type PointDisk,
  type PointLayer,
  type RecoveryPoint,
} from '../catalog/replica-inventory.ts';
import type { SiteConfig } from '../config/site-config.ts';
import type { TaskSummary } from '../contract/schedule.ts';
import { OffsiteError } from '../domain/errors.ts';
import type { Layer } from '../images/chain-layer.ts';
import { openLayerSource } from '../images/layer-source.ts';
import { createOverlay, writeImage } from '../images/overlay.ts';
import { proveChain } from '../images/proof.ts';
import { statOrNull } from '../images/replica/durable-files.ts';
import { digestsPathOf, verifiedLayer } from '../images/replica/verified-layer.ts';
import { effect } from '../lib/fault-points.ts';
import { ScheduleUnknownError } from '../orchestration/errors.ts';
import { openCatalog } from './open-catalog.ts';
import { replicaDirectoryOf } from './replica-directory.ts';

const OVERLAY_CLUSTER_BYTES = 64 * 1024;

export class PointUnknownError extends OffsiteError {
  constructor(host: string, point: string | null) {
    super(
      'PointUnknown',
      point === null
        ? `host ${host} has no recovery point here`
        : `host ${host} has no recovery point ${point}`,
      `'offsite replica list ${host}' shows what there is.`,
    );
  }
}

interface RecoverRequest {
  readonly host: string;
  readonly point: string | null;
  readonly directory: string;
  readonly format: 'overlay' | 'qcow2' | 'raw';
}

/** Opens catalog B. @throws {DatabaseUnreachableError} */
export async function openReplicaInventory(config: SiteConfig) {
  const db = await openCatalog(config, 'replica');
  const inventory = createReplicaInventory(db);
  const replicaRoot = replicaDirectoryOf(config);
  return {
    listPoints: async (filter: { host: string | null }) => (await inventory.listPoints(filter)).map(toListed),
    async recover({ host, point, directory, format }: RecoverRequest) {
      const found = point === null ? await inventory.newestPoint(host) : await inventory.findPoint(point);
      if (found === null || found.host !== host) throw new PointUnknownError(host, point);
      await effect('restore.mkdir', () => mkdir(directory, { recursive: true }));
      const disks = [];
      for (const disk of found.disks) {
        const path = join(directory, `${disk.disk}.${format === 'raw' ? 'raw' : 'qcow2'}`);
        await (format === 'overlay' ? overlayOf(disk, path) : copyOf(disk, path, format, replicaRoot));
        disks.push({
          disk: disk.disk,
          path,
          format: format === 'raw' ? ('raw' as const) : ('qcow2' as const),
          backing: format === 'overlay' ? disk.path : null,
        });
      }
      return { host, point: found.point, takenAt: new Date(found.takenAtMs).toISOString(), disks };
    },
    listSchedules: async () => (await inventory.listSchedules()).map(toListedSchedule),
    async scheduleHistory({ name, limit }: { name: string; limit: number }) {
      const schedule = await inventory.showSchedule(name, limit);
      if (schedule === null) throw new ScheduleUnknownError(config.site, name);
      return schedule.tasks.map(toListedTask);
    },
    close: () => db.destroy(),
  };
}

const overlayOf = (disk: PointDisk, path: string): Promise<void> =>
  createOverlay({
    path,
    backingPath: disk.path,
    backingFormat: 'qcow2',
    virtualSizeBytes: disk.virtualSizeBytes,
    clusterSizeBytes: OVERLAY_CLUSTER_BYTES,
  });

/** A full copy is made of what was sealed, or not at all; a layer without digests is copied as it is. */
const verifiedWhereDigested = async (layer: Layer): Promise<Layer> =>
  (await statOrNull(digestsPathOf(layer.path))) === null ? layer : verifiedLayer(layer);

async function copyOf(disk: PointDisk, path: string, format: 'qcow2' | 'raw', root: string): Promise<void> {
  const imageRoots = [root];
  const proof = await proveChain(disk.path, { imageRoots });
  const source = await openLayerSource({
    ...{ topPath: disk.path, basePath: null, imageRoots, proof },
    wrapLayer: verifiedWhereDigested,
  });
  try {
    await writeImage({
      path,
      format,
      map: source.map,
      readStream: (target, position) => source.readStream(target, position),
    });
    await source.assertUnchanged();
  } finally {
    await source.close();
  }
}

const toListed = ({ host, point, sequence, takenAtMs, publishedAtMs, disks }: RecoveryPoint) => ({
  host,
  point,
  sequence,
  takenAt: new Date(takenAtMs).toISOString(),
  publishedAt: new Date(publishedAtMs).toISOString(),
  damaged: disks.some(({ layers }) => layers.some(({ damage }) => damage !== null)),
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
