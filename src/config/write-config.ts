import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { stringify } from 'yaml';
import { type SiteConfigFile, siteConfigSchema } from './site-config.ts';

/**
 * Writes a configuration file that only its owner may read, whole or not at all.
 * @throws {ZodError} when the configuration is not valid
 */
export async function writeConfig(path: string, config: SiteConfigFile): Promise<void> {
  siteConfigSchema.parse(config);
  const partial = join(dirname(path), `.${randomUUID()}.partial`);
  try {
    const file = await open(partial, 'wx', 0o600);
    try {
      await file.writeFile(stringify(config));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}
