/** A site's catalog for one command: opened, brought up to date, closed again. */
import { type Database, migrate, openDatabase } from '../catalog/database.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError } from '../domain/errors.ts';

const COMMAND_CONNECTIONS = 2;

/**
 * Opens the catalog of a site that must play `role`. The caller destroys it.
 * @throws {OffsiteError} RoleMissing @throws {DatabaseUnreachableError}
 */
export async function openCatalog(config: SiteConfig, role: 'source' | 'replica'): Promise<Database> {
  if (config[role] === undefined) {
    throw new OffsiteError(
      'RoleMissing',
      `site ${config.site} is no ${role}: its configuration has no '${role}' section`,
      `Name the configuration of the ${role} site with --config.`,
    );
  }
  const db = openDatabase({ url: config.database.url, poolMax: COMMAND_CONNECTIONS });
  try {
    await migrate(db);
    return db;
  } catch (error) {
    await db.destroy();
    throw error;
  }
}
