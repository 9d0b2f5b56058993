/** How a source's image folders stand, and which schedules keep snapshots from being deleted, for the operator. */
import { createSourceGuardRows } from '../catalog/source-guard.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { openCatalog } from './open-catalog.ts';
import { guardLimitsOf, lookAtFolders } from './source-guard.ts';

/** Opens catalog A. @throws {DatabaseUnreachableError} */
export async function openSourceSpaceService(config: SiteConfig) {
  const db = await openCatalog(config, 'source');
  const limits = guardLimitsOf(config);
  return {
    async space() {
      const folders = await lookAtFolders(config.source?.imageRoots ?? [], limits);
      const schedules = await createSourceGuardRows(db).lockingSchedules();
      return {
        folders,
        releaseIdleAfterMs: limits?.releaseIdleAfterMs ?? null,
        schedules: schedules.map(({ oldestLockedAtMs, silentMs, ...schedule }) => ({
          ...schedule,
          oldestLockedAt: new Date(oldestLockedAtMs).toISOString(),
          silentMs: Math.round(silentMs),
        })),
      };
    },
    close: () => db.destroy(),
  };
}
