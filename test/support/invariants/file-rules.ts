/** Rules 2 and 5: each file under the replica roots has its row, each row its file. */
import { readdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { ROOT_MARKER } from '../../../src/images/replica/root-marker.ts';
import type { ReplicaRows, StorageRow } from './site-rows.ts';
import type { Violation } from './violation.ts';

/** Beside a layer that is whole. */
const SEALED_SUFFIXES = ['', '.digests'];
/** Beside one that is still received, or just being sealed or removed. */
const PARTIAL_SUFFIXES = ['', '.digests', '.partial', '.map', '.progress'];

/** @param reload reads the rows again: files that came or went between belong to either look */
export async function* checkFiles(
  before: ReplicaRows,
  replicaRoots: readonly string[],
  reload: () => Promise<ReplicaRows>,
): AsyncGenerator<Violation, undefined> {
  const present = new Set((await Promise.all(replicaRoots.map(listFiles))).flat());
  const folders = new Set([...present].map(dirname));
  const after = await reload();
  const known = new Set([before, after].flatMap(knownFiles));
  for (const path of present) {
    if (!known.has(path) && !known.has(dirname(path)))
      yield { rule: 2, code: 'strayFile', text: `no row knows ${path}` };
  }
  const stillThere = new Set(after.storages.filter(isWhole).map(row => row.id));
  for (const storage of before.storages.filter(isWhole)) {
    for (const path of filesOf(storage)) {
      if (present.has(path) || (storage.format === 'cdp' && folders.has(path)) || !stillThere.has(storage.id))
        continue;
      yield { rule: 2, code: 'fileLost', text: `${path} is gone, its row is ${storage.state}` };
    }
  }
}

const isWhole = ({ state }: StorageRow): boolean => state === 'sealed' || state === 'published';

/** A dropped row stays until its files are gone, which a delete that is under way is about to see to. */
function knownFiles({ storages, schedules }: ReplicaRows): string[] {
  const isDeleting = schedules.some(row => row.state === 'deleting');
  return storages.filter(row => row.state !== 'dropped' || isDeleting).flatMap(filesOf);
}

function filesOf(storage: StorageRow): string[] {
  const path = resolve(storage.path);
  // The folder of a journal; all files in it are its segments.
  if (storage.format === 'cdp') return [path];
  if (isWhole(storage)) return SEALED_SUFFIXES.map(suffix => path + suffix);
  // A layer that starts a new chain is received as an increment, beside its own name.
  const names = [path, path.replace(/\.qcow2$/, '.increment.qcow2')];
  return names.flatMap(name => PARTIAL_SUFFIXES.map(suffix => name + suffix));
}

async function listFiles(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => !entry.isDirectory() && entry.name !== ROOT_MARKER)
    .map(entry => resolve(join(entry.parentPath, entry.name)));
}
