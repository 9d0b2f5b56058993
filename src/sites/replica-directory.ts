import { join } from 'node:path';
import type { SiteConfig } from '../config/site-config.ts';

/** Where the replicas of a node lie: the configured folder, else one below its data folder. */
export const replicaDirectoryOf = (config: SiteConfig): string =>
  config.replica?.directory ?? join(config.dataDir, 'replicas');
