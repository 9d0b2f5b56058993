import { join } from 'node:path';
import type { SiteConfig } from '../config/site-config.ts';

/** Where the journals that this node records lie. */
export const journalDirectoryOf = (config: SiteConfig): string => join(config.dataDir, 'journals');
