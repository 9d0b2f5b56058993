/** The folder of a node's replicas: is it the one that the catalog knows, or is something not mounted? */
import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import { OffsiteError } from '../domain/errors.ts';
import type { NodeFile } from '../domain/sealed-file.ts';
import { statOrNull } from '../images/replica/durable-files.ts';
import {
  ROOT_MARKER,
  readRootMarker,
  settleRootMarker,
  writeRootMarker,
} from '../images/replica/root-marker.ts';
import { effect } from '../lib/fault-points.ts';

/** The folder of replicas is not there, or another one lies in its place. Heals when the right one is mounted. */
export class ReplicaRootError extends OffsiteError {
  constructor(root: string, found: string | null, known: string) {
    const marker = join(root, ROOT_MARKER);
    super(
      'ReplicaRootMissing',
      found === null
        ? `the replica folder ${root} has not its marker ${ROOT_MARKER}: it is not mounted, or was emptied`
        : `the replica folder ${root} is another one: its marker says ${found} and not ${known}`,
      `Mount the right folder there; everything goes on by itself. If its content is lost for good and this empty folder is to take its place: echo ${known} > '${marker}'`,
    );
  }
}

export interface ReplicaRoot {
  /**
   * To be called before the folder is read or written.
   * @throws {ReplicaRootError} unless it is the one that the catalog knows; at its first use it is made and marked
   */
  assertThere(): Promise<void>;
}

type RootRows = Pick<ReplicaCatalog, 'rootIdOf' | 'noteRoot' | 'someFilesBelow'>;

/**
 * For commands that only read the folder: nothing is made, marked or noted.
 * @throws {ReplicaRootError} when the catalog knows the folder, and this is another one or is not mounted
 */
export async function assertRootUnchanged(parts: {
  catalog: Pick<RootRows, 'rootIdOf' | 'someFilesBelow'>;
  node: string;
  directory: string;
}): Promise<void> {
  const { catalog, node, directory } = parts;
  const known = await catalog.rootIdOf({ node, path: directory });
  if (known === null) return;
  const found = await readRootMarker(directory);
  if (found === known) return;
  if (found === null && (await knownFiles(catalog, { node, path: directory })) === 'there') return;
  throw new ReplicaRootError(directory, found, known);
}

/** Whether files that the catalog has in this folder are there. */
async function knownFiles(
  catalog: Pick<RootRows, 'someFilesBelow'>,
  folder: NodeFile,
): Promise<'there' | 'missing' | 'none'> {
  const paths = await catalog.someFilesBelow(folder);
  for (const path of paths) if ((await statOrNull(path)) !== null) return 'there';
  return paths.length > 0 ? 'missing' : 'none';
}

export function createReplicaRoot(parts: {
  catalog: RootRows;
  node: string;
  directory: string;
}): ReplicaRoot {
  const { catalog, node, directory } = parts;
  const key = { node, path: directory };
  let known: string | null = null;
  let first: Promise<string> | null = null;

  /** The marker comes before its row: a marker without a row is adopted, a row without its marker is refused. */
  async function firstUse(): Promise<string> {
    const noted = await catalog.rootIdOf(key);
    if (noted !== null) return noted;
    const found = await readRootMarker(directory);
    if (found !== null) {
      // A row without its marker is refused: a power cut must not take back the name that it was noted for.
      await settleRootMarker(directory);
      return catalog.noteRoot(key, found);
    }
    const id = randomUUID();
    // Files from before there were markers: such a folder is known by them, and not by its first use.
    if ((await knownFiles(catalog, key)) !== 'none') return catalog.noteRoot(key, id);
    await effect('replica.root.mkdir', () => mkdir(directory, { recursive: true, mode: 0o750 }));
    return catalog.noteRoot(key, (await writeRootMarker(directory, id)) ?? id);
  }

  return {
    async assertThere() {
      if (known === null) {
        first ??= firstUse().finally(() => {
          first = null;
        });
        known = await first;
      }
      let found = await readRootMarker(directory);
      // The right folder, whose marker was removed or never written.
      if (found === null && (await knownFiles(catalog, key)) === 'there')
        found = await writeRootMarker(directory, known);
      if (found !== known) throw new ReplicaRootError(directory, found, known);
    },
  };
}
