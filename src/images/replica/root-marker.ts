/** The marker of a folder of replicas: a file with the folder's id, so that another folder in its place is told. */
import { randomUUID } from 'node:crypto';
import { link, open, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { UUID } from '../../contract/names.ts';
import { effect } from '../../lib/fault-points.ts';
import { errorCode, readOrNull, removeFile, statOrNull, syncDirectory } from './durable-files.ts';

/** Its content is the id and a line end: a person can write it by hand. */
export const ROOT_MARKER = '.offsite-replicas';
/** Half a marker, under a name of its own. */
const TEMPORARY = /^\.offsite-replicas\.[0-9a-f-]{36}\.tmp$/;

/** @returns the folder's id; null where the folder or its marker is missing, or the marker has no id */
export async function readRootMarker(root: string): Promise<string | null> {
  const bytes = await readOrNull(join(root, ROOT_MARKER));
  const id = bytes?.toString('latin1', 0, 64).trim().toLowerCase() ?? '';
  return UUID.test(id) ? id : null;
}

/**
 * Gives an existing folder a marker, whole or not at all; who comes second leaves the first one's.
 * @returns the id that the folder has now
 */
export async function writeRootMarker(root: string, id: string): Promise<string | null> {
  const path = join(root, ROOT_MARKER);
  const temporary = `${path}.${randomUUID()}.tmp`;
  const file = await effect('replica.marker.create', () => open(temporary, 'wx', 0o644));
  try {
    await effect('replica.marker.write', () => file.writeFile(`${id}\n`));
    await effect('replica.marker.fsync', () => file.sync());
  } finally {
    await file.close();
  }
  await giveName(temporary, path);
  await settleRootMarker(root);
  return readRootMarker(root);
}

/**
 * After there is a marker: what crashed attempts left beside it goes, and its name becomes durable, which somebody may
 * have given just before a crash.
 */
export async function settleRootMarker(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    if (!TEMPORARY.test(name)) continue;
    await removeFile(join(root, name), 'replica.marker.unlink');
  }
  await syncDirectory(root, 'replica.marker.syncDirectory');
}

/** A hard link never replaces a file. Some file systems know none. */
async function giveName(temporary: string, path: string): Promise<void> {
  try {
    await effect('replica.marker.link', () => link(temporary, path));
  } catch (error) {
    const code = errorCode(error);
    // Another process has given the name; it may have removed ours already.
    if (code === 'EEXIST' || (code === 'ENOENT' && (await statOrNull(path)) !== null)) return;
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS') throw error;
    await effect('replica.marker.rename', () => rename(temporary, path));
  }
}
