import { realpath } from 'node:fs/promises';
import { join, sep } from 'node:path';
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError, PlanBrokenError } from '../domain/errors.ts';

class JournalOutsideFolderError extends OffsiteError {
  constructor(directory: string, journalRoot: string) {
    super(
      'JournalOutsideFolder',
      `${directory} does not lie in the folder of this site's journals, ${journalRoot}`,
      'Move the folder back where the configuration has it, or have the configuration name where it is now.',
    );
  }
}

/** Where the journals of a source's node lie: the configured folder, else one below its data folder. */
export const journalDirectoryOf = (config: SiteConfig): string =>
  config.source?.journals?.directory ?? join(config.dataDir, 'journals');

/**
 * The catalog says where a journal lies; the site's configuration says where one may.
 * @returns its real path @throws {JournalOutsideFolderError} @throws {PlanBrokenError} when it is gone
 */
export async function journalFolder(directory: string, journalRoot: string): Promise<string> {
  const [folder, root] = await Promise.all([directory, journalRoot].map(path => realpath(path))).catch(
    error => {
      throw error.code === 'ENOENT' ? new PlanBrokenError(`${directory} is gone`, { cause: error }) : error;
    },
  );
  if (folder?.startsWith(`${root}${sep}`)) return folder;
  throw new JournalOutsideFolderError(directory, journalRoot);
}
