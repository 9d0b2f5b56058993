/** Verifies a node's replicas for its operator. Needs neither A nor Temporal. */
import { createReplicaCatalog } from '../catalog/replica-catalog.ts';
import { createReplicaInventory, type RecoveryPoint } from '../catalog/replica-inventory.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { openCatalog } from './open-catalog.ts';
import { replicaDirectoryOf } from './replica-directory.ts';
import { createReplicaRoot } from './replica-root.ts';
import { type ScrubProgress, scrubReplicas } from './replica-scrub.ts';

/** Opens catalog B. @throws {DatabaseUnreachableError} */
export async function openReplicaVerifier(config: SiteConfig) {
  const db = await openCatalog(config, 'replica');
  const { site, node } = config;
  const replicaRoot = replicaDirectoryOf(config);
  const catalog = createReplicaCatalog(db, { site, replicaRoot });
  const inventory = createReplicaInventory(db);
  return {
    async verify(request: {
      host: string | null;
      rateBytesPerSecond: number | null;
      signal: AbortSignal;
      onProgress: (progress: ScrubProgress) => void;
    }) {
      const scrubbed = await scrubReplicas({
        ...{ ...request, catalog, node, replicaRoot, olderThanMs: null },
        root: createReplicaRoot({ catalog, node, directory: replicaRoot }),
      });
      const points = await inventory.listPoints({ host: request.host });
      const schedules = await inventory.listSchedules();
      return {
        node,
        ...scrubbed,
        damaged: scrubbed.damaged.map(layer => ({ ...layer, points: pointsOver(points, layer.path) })),
        schedules: schedules
          .filter(({ damage }) => damage.newest)
          .filter(({ host }) => request.host === null || host === request.host)
          .map(({ name, host, paused, state }) => ({ name, host, paused, state })),
      };
    },
    close: () => db.destroy(),
  };
}

/** The recovery points that need a file: all above it. */
function pointsOver(points: readonly RecoveryPoint[], path: string) {
  return points
    .filter(({ disks }) => disks.some(({ layers }) => layers.some(layer => layer.path === path)))
    .map(({ point, sequence }) => ({ point, sequence }));
}
