/** A folder of new files that appears whole or not at all, and never in place of another. */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { effect } from '../lib/fault-points.ts';
import { errorCode, statOrNull, syncDirectory } from './replica/durable-files.ts';
import { FileExistsError } from './replica/errors.ts';

/**
 * Gives `fill` a hidden folder beside `path`, and renames it when `fill` is done. What fails leaves nothing; what a
 * process left that died goes at the next call. An empty folder counts as none.
 * @param path absolute. The caller sees to it that only one call at a time runs for it
 * @throws {FileExistsError} when there is something at `path`, before `fill` or after
 */
export async function makeFolder<T>(path: string, fill: (folder: string) => Promise<T>): Promise<T> {
  await assertFree(path);
  const parent = dirname(path);
  await effect('restore.mkdir', () => mkdir(parent, { recursive: true }));
  for (const name of await leftBehind(parent, path)) {
    await effect('restore.removeLeft', () => rm(join(parent, name), { recursive: true, force: true }));
  }
  const hidden = join(parent, `${prefixOf(path)}${randomUUID()}`);
  try {
    await effect('restore.mkdirHidden', () => mkdir(hidden));
    const filled = await fill(hidden);
    await nameFolder(hidden, path);
    await syncDirectory(parent, 'restore.syncParent');
    return filled;
  } catch (error) {
    // What cannot be removed goes at the next call.
    await effect('restore.removeHidden', () => rm(hidden, { recursive: true, force: true })).catch(
      () => undefined,
    );
    throw error;
  }
}

const prefixOf = (path: string): string => `.${basename(path).slice(0, 100)}.recovering-`;

async function leftBehind(parent: string, path: string): Promise<readonly string[]> {
  const prefix = prefixOf(path);
  return (await readdir(parent)).filter(
    name => name.startsWith(prefix) && name.length === prefix.length + 36,
  );
}

async function assertFree(path: string): Promise<void> {
  const stats = await statOrNull(path);
  if (stats === null) return;
  if (stats.isDirectory() && (await readdir(path)).length === 0) return;
  throw new FileExistsError(path);
}

/** Renaming a folder replaces an empty one only. */
async function nameFolder(hidden: string, path: string): Promise<void> {
  try {
    await effect('restore.nameFolder', () => rename(hidden, path));
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR' || code === 'EBUSY') {
      throw new FileExistsError(path, { cause: error });
    }
    throw error;
  }
}
