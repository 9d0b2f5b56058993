/** Prepares what a site needs before its first worker: the database's tables, and Temporal's namespace. */
import { migrate, openDatabase } from '../catalog/database.ts';
import { grantRuntimeRole } from '../catalog/runtime-role.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { ensureNamespace } from '../orchestration/namespace.ts';
import { ensureSearchAttributes } from '../orchestration/search-attributes.ts';

export interface SetupReport {
  readonly steps: readonly { readonly step: string; readonly result: 'made' | 'present' | 'refused' }[];
  close(): Promise<void>;
}

/**
 * May be run again, also when Temporal has lost everything.
 * @throws {DatabaseUnreachableError} {@link TemporalUnreachableError} {@link TemporalRefusedError}
 *   {@link TemporalNamespaceMissingError}
 */
export async function setup(config: SiteConfig): Promise<SetupReport> {
  const { url, ownerUrl } = config.database;
  const db = openDatabase({ url: ownerUrl ?? url, poolMax: 2 });
  try {
    const applied = await migrate(db);
    const role = ownerUrl === undefined ? null : await grantRuntimeRole(db, url);
    const { namespace, result: namespaceResult } = await ensureNamespace(config.temporal);
    const searchAttributes = await ensureSearchAttributes(config.temporal);
    return {
      steps: [
        { step: "the catalog's tables", result: applied.length > 0 ? 'made' : 'present' },
        ...(role === null ? [] : [{ step: `the rights of the role ${role}`, result: 'made' as const }]),
        { step: `Temporal's namespace ${namespace}`, result: namespaceResult },
        { step: "Temporal's search attributes", result: searchAttributes },
      ],
      close: async () => {},
    };
  } finally {
    await db.destroy();
  }
}
