/** The folder of a replica's journal, `<host snapshot UUID>.<8 hexadecimal digits>.cdp`, beside the disk's layers. */
import { readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { effect } from '../../lib/fault-points.ts';
import { allocatedBytes, errorCode, statOrNull } from './durable-files.ts';

const JOURNAL_NAME = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{8}\.cdp$/;

export const isJournalName = (name: string): boolean => JOURNAL_NAME.test(name);

/** @returns null unless a journal's folder lies there, and no link to one */
export async function journalFolderBytes(path: string): Promise<number | null> {
  if (!isJournalName(basename(path)) || (await statOrNull(path))?.isDirectory() !== true) return null;
  try {
    const sizes = await Promise.all((await readdir(path)).map(name => allocatedBytes(join(path, name))));
    return sizes.reduce((sum, bytes) => sum + bytes, 0);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** Links are removed and never followed. @returns false when nothing was there; the directory is the caller's to sync */
export async function removeJournalFolder(path: string): Promise<boolean> {
  if (!isJournalName(basename(path)) || (await statOrNull(path)) === null) return false;
  // A writer that was held up may still add a segment.
  await effect('replica.journal.remove', () => rm(path, { recursive: true, force: true, maxRetries: 5 }));
  return true;
}
