/** Takes away what is no longer wanted of a layer. Whether it may go is the catalog's to say. */
import { basename, dirname } from 'node:path';
import { removeFile, statOrNull, syncDirectory } from './durable-files.ts';
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

/**
 * Gives up what was received of a layer, so that it starts from its first byte: for a stream that came whole
 * but whose digest is not the sender's. A sealed file stays. @returns how many files there were
 */
export async function discardPartial(directory: string, finalName: string): Promise<number> {
  const paths = layerPaths(directory, finalName);
  const isSealed = (await statOrNull(paths.final)) !== null;
  let removed = 0;
  for (const path of [paths.progress, paths.partial, paths.map, ...(isSealed ? [] : [paths.digests])]) {
    if (await removeFile(path)) removed += 1;
  }
  if (removed > 0) await syncDirectory(directory);
  return removed;
}
