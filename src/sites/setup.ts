/** Prepares what a site needs before its first worker: the database's tables, and Temporal's namespace. */
import { migrate, openDatabase } from '../catalog/database.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { checkNamespace } from '../orchestration/namespace.ts';
import { ensureSearchAttributes } from '../orchestration/search-attributes.ts';

export interface SetupReport {
  readonly steps: readonly { readonly step: string; readonly result: 'made' | 'present' | 'refused' }[];
  close(): Promise<void>;
}

/** May be run again. @throws {DatabaseUnreachableError} {@link TemporalUnreachableError} {@link TemporalRefusedError} */
export async function setup(config: SiteConfig): Promise<SetupReport> {
  const db = openDatabase({ url: config.database.url, poolMax: 2 });
  try {
    const applied = await migrate(db);
    const namespace = await checkNamespace(config.temporal);
    const searchAttributes = await ensureSearchAttributes(config.temporal);
    return {
      steps: [
        { step: "the catalog's tables", result: applied.length > 0 ? 'made' : 'present' },
        { step: `Temporal's namespace ${namespace}`, result: 'present' },
        { step: "Temporal's search attributes", result: searchAttributes },
      ],
      close: async () => {},
    };
  } finally {
    await db.destroy();
  }
}
