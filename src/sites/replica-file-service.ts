/** What the files of this node's replicas take, and the strays among them, for the operator. Needs no Temporal. */
import { createReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { freeSpaceAt, makeDirectories } from '../images/replica/durable-files.ts';
import { createLog } from '../lib/log.ts';
import { sizeOf } from '../lib/sizes.ts';
import { openCatalog } from './open-catalog.ts';
import { replicaDirectoryOf } from './replica-directory.ts';
import { createUsageCounter, spaceLimitsOf } from './replica-space.ts';
import { removeLeftFiles, SWEEP_GRACE_MS, sweepReplicas } from './replica-sweeper.ts';

/** Opens catalog B. @throws {DatabaseUnreachableError} */
export async function openReplicaFileService(config: SiteConfig) {
  const db = await openCatalog(config, 'replica');
  const { site, node } = config;
  const replicaRoot = replicaDirectoryOf(config);
  const catalog = createReplicaCatalog(db, { site, replicaRoot });
  const log = createLog(config.logLevel, { site, node });
  return {
    async space() {
      const { reserve, quotas } = spaceLimitsOf(config);
      await makeDirectories(replicaRoot);
      const { freeBytes, sizeBytes } = await freeSpaceAt(replicaRoot);
      const usage = await createUsageCounter({ files: () => catalog.storageFiles(), node })();
      const hosts = new Set([...usage.hostBytes.keys(), ...quotas.hostBytes.keys()]);
      return {
        directory: replicaRoot,
        freeBytes,
        sizeBytes,
        reserveBytes: sizeOf(reserve, sizeBytes),
        usedBytes: usage.totalBytes,
        quotaBytes: quotas.nodeBytes,
        hosts: [...hosts].sort().map(host => ({
          host,
          usedBytes: usage.hostBytes.get(host) ?? 0,
          quotaBytes: quotas.hostBytes.get(host) ?? null,
        })),
      };
    },

    async sweep({ dryRun, graceMs }: { dryRun: boolean; graceMs: number | null }) {
      const input = { catalog, node, replicaRoot, log };
      if (!dryRun) await removeLeftFiles(input);
      const report = await sweepReplicas({
        ...{ ...input, dryRun, nowMs: Date.now() },
        graceMs: graceMs ?? SWEEP_GRACE_MS,
      });
      const freedBytes = report.removed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      return { dryRun, ...report, freedBytes };
    },

    close: () => db.destroy(),
  };
}
