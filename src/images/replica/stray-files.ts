/** Files of layers in one folder that nobody wants any more. What is wanted the catalog says, never a suffix. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, removeFile, syncDirectory } from './durable-files.ts';
import { journalFolderBytes, removeJournalFolder } from './journal-folder.ts';
import { type LayerFileName, parseLayerFileName } from './names.ts';

/** A regular file whose name is that of a layer's file, or a journal's folder. */
export interface FoundFile extends LayerFileName {
  readonly path: string;
  /** What it occupies. */
  readonly allocatedBytes: number;
  /** The later of its last change of content and of its inode, by this machine's clock. */
  readonly changedAtMs: number;
}

/** What the catalog says of a layer. */
export type LayerState = 'partial' | 'sealed' | 'published' | 'dropped';

/** Why a file is not where it should be. */
export interface Stray {
  readonly file: FoundFile;
  /**
   * `dropped`: the catalog has given it up; `orphan`: the catalog has never heard of it; `leftover`: it was of use
   * before its layer was sealed. `unknown` looks like a whole layer that the catalog misses: it is never removed.
   */
  readonly kind: 'dropped' | 'orphan' | 'leftover' | 'unknown';
  readonly reason: string;
}

/**
 * The files of layers in a folder. Symbolic links are not followed, and what is none of ours is not listed.
 * @returns an empty list when there is no such folder
 */
export async function findLayerFiles(directory: string): Promise<readonly FoundFile[]> {
  const found: FoundFile[] = [];
  for (const entry of await entriesOf(directory)) {
    const path = join(directory, entry.name);
    const journalBytes = entry.isDirectory() ? await journalFolderBytes(path) : null;
    const name = journalBytes === null ? parseLayerFileName(entry.name) : journalName(entry.name);
    if (name === null || entry.isDirectory() !== (journalBytes !== null)) continue;
    const stats = await lstatOrNull(path);
    if (stats === null || (journalBytes === null && !stats.isFile())) continue;
    const changedAtMs = Math.max(stats.mtimeMs, stats.ctimeMs);
    found.push({ ...name, path, allocatedBytes: journalBytes ?? stats.blocks * 512, changedAtMs });
  }
  return found;
}

const journalName = (finalName: string): LayerFileName => ({
  finalName,
  isIncrement: false,
  part: 'journal',
});

async function entriesOf(directory: string) {
  try {
    return await readdir(directory, { withFileTypes: true });
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}

async function lstatOrNull(path: string) {
  try {
    return await lstat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** @param states of the layers that the catalog has in this folder, by their final names */
export function findStrays(
  files: readonly FoundFile[],
  states: ReadonlyMap<string, LayerState>,
): readonly Stray[] {
  return [...Map.groupBy(files, ({ finalName }) => finalName)].flatMap(([finalName, group]) =>
    straysOfLayer(group, states.get(finalName) ?? null),
  );
}

function straysOfLayer(group: readonly FoundFile[], state: LayerState | null): readonly Stray[] {
  const all = (kind: Stray['kind'], reason: string) => group.map(file => ({ file, kind, reason }));
  const isWhole = group.some(({ part }) => part === 'image' || part === 'journal');
  switch (state) {
    case 'partial':
      return [];
    case 'dropped':
      return all('dropped', 'the catalog has given the layer up');
    case null:
      return isWhole
        ? all('unknown', 'it looks like a whole layer, and the catalog does not know it')
        : all('orphan', 'the catalog does not know the layer, and it is not whole');
  }
  const beside = all('leftover', `it was of use before the layer was ${state}`).filter(
    ({ file }) => file.isIncrement || !['image', 'digests', 'journal'].includes(file.part),
  );
  if (isWhole) return beside;
  // Something is wrong here that a person should see before anything goes.
  return beside.map(stray => ({
    ...stray,
    kind: 'unknown' as const,
    reason: `the layer is ${state}, but its image is missing`,
  }));
}

/** What tells a layer last goes last, should it be interrupted. */
const REMOVAL_ORDER: readonly LayerFileName['part'][] = [
  ...(['image', 'journal', 'partial', 'progress', 'digests', 'map'] as const),
];

/** Removes files of one folder, durably. @returns those that were still there */
export async function removeLayerFiles(
  directory: string,
  files: readonly FoundFile[],
): Promise<readonly FoundFile[]> {
  const removed: FoundFile[] = [];
  const rank = ({ part }: FoundFile): number => REMOVAL_ORDER.indexOf(part);
  for (const file of [...files].sort((left, right) => rank(left) - rank(right))) {
    const isJournal = file.part === 'journal';
    const isGone = isJournal ? removeJournalFolder(file.path) : removeFile(file.path, 'replica.sweep.unlink');
    if (await isGone) removed.push(file);
  }
  if (removed.length > 0) await syncDirectory(directory, 'replica.sweep.syncDirectory');
  return removed;
}
