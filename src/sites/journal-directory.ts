import { join } from 'node:path';
import type { SiteConfig } from '../config/site-config.ts';

/** Where the journals of a source's node lie: the configured folder, else one below its data folder. */
export const journalDirectoryOf = (config: SiteConfig): string =>
  config.source?.journals?.directory ?? join(config.dataDir, 'journals');
