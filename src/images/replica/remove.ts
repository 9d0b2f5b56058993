/** Takes away what is no longer wanted of a layer. Whether it may go is the catalog's to say. */
import { basename, dirname } from 'node:path';
import { removeFile, syncDirectory } from './durable-files.ts';
import { layerPaths } from './names.ts';

/**
 * Removes every file of a layer, sealed or partial.
 * @returns how many files there were
 */
export async function removeReplicaFiles(finalPath: string): Promise<number> {
  const paths = layerPaths(dirname(finalPath), basename(finalPath));
  let removed = 0;
  // The map goes last of the partial's files: while it stands, the layout is known.
  for (const path of [paths.final, paths.partial, paths.progress, paths.digests, paths.map]) {
    if (await removeFile(path)) removed += 1;
  }
  if (removed > 0) await syncDirectory(paths.directory);
  return removed;
}
