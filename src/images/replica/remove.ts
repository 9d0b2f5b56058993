/** Takes away what is no longer wanted of a layer. Whether it may go is the catalog's to say. */
import { basename, dirname } from 'node:path';
import { assertOwnFolders, removeFile, statOrNull, syncDirectory } from './durable-files.ts';
import { isJournalName, removeJournalFolder } from './journal-folder.ts';
import { incrementName, type LayerPaths, layerPaths } from './names.ts';

/**
 * Removes every file of a layer, sealed or partial, or the folder of a journal. Links are removed and never followed.
 * @throws {ReplicaFileError} when the folder leads elsewhere
 * @returns how many files there were
 */
export async function removeReplicaFiles(finalPath: string): Promise<number> {
  const directory = dirname(finalPath);
  const finalName = basename(finalPath);
  await assertOwnFolders(directory);
  const removed = isJournalName(finalName)
    ? Number(await removeJournalFolder(finalPath))
    : (await removeLayer(layerPaths(directory, finalName))) +
      (await removeLayer(layerPaths(directory, incrementName(finalName))));
  // Also when nothing was found: who removed it may have died before this.
  if ((await statOrNull(directory)) !== null) await syncDirectory(directory, 'replica.remove.syncDirectory');
  return removed;
}

/** As {@link removeReplicaFiles}, of one name; the directory is the caller's to sync. */
export async function removeLayer(paths: LayerPaths): Promise<number> {
  let removed = 0;
  // The map goes last of the partial's files: while it stands, the layout is known.
  for (const path of [paths.final, paths.partial, paths.progress, paths.digests, paths.map]) {
    if (await removeFile(path, 'replica.remove.unlink')) removed += 1;
  }
  return removed;
}
