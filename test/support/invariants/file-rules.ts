/** Rules 2 and 5: each file under the replica roots has its row, each row its file. */
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { ReplicaRows, StorageRow } from './site-rows.ts';
import type { Violation } from './violation.ts';

/** Beside a layer that is whole. */
const SEALED_SUFFIXES = ['', '.digests'];
/** Beside one that is still received, or just being sealed. */
const PARTIAL_SUFFIXES = ['', '.digests', '.partial', '.map', '.progress'];

/** @param quiescent nothing is being received: then a file that no row knows is not one that is just being made */
export async function* checkFiles(
  { storages }: ReplicaRows,
  replicaRoots: readonly string[],
): AsyncGenerator<Violation, undefined> {
  const present = new Set((await Promise.all(replicaRoots.map(listFiles))).flat());
  const known = new Set(storages.flatMap(filesOf));
  for (const path of present) {
    if (!known.has(path)) yield { rule: 2, code: 'strayFile', text: `no row knows ${path}` };
  }
  for (const storage of storages) {
    if (storage.state === 'partial' || storage.state === 'dropped') continue;
    for (const suffix of SEALED_SUFFIXES) {
      const path = resolve(storage.path) + suffix;
      if (present.has(path)) continue;
      yield { rule: 2, code: 'fileLost', text: `${path} is gone, its row is ${storage.state}` };
    }
  }
}

function filesOf({ state, path }: StorageRow): string[] {
  if (state === 'dropped') return [];
  const suffixes = state === 'partial' ? PARTIAL_SUFFIXES : SEALED_SUFFIXES;
  return suffixes.map(suffix => resolve(path) + suffix);
}

async function listFiles(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => !entry.isDirectory())
    .map(entry => resolve(join(entry.parentPath, entry.name)));
}
