/** Removes files of replicas that nobody wants any more: what the catalog left to this node, and what it never knew. */
import { readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import type { StorageFile } from '../catalog/replica-storage-files.ts';
import { IDENT } from '../contract/names.ts';
import { errorCode } from '../images/replica/durable-files.ts';
import { removeReplicaFiles } from '../images/replica/remove.ts';
import {
  type FoundFile,
  findLayerFiles,
  findStrays,
  type LayerState,
  removeLayerFiles,
  type Stray,
} from '../images/replica/stray-files.ts';
import type { Log } from '../lib/log.ts';

/** A stray file may be of a process that is just dying, or of a catalog that is just being restored: it may wait. */
export const SWEEP_GRACE_MS = 60 * 60_000;
const SWEEP_EVERY_MS = 60 * 60_000;
const REMOVALS_EVERY_MS = 10_000;

/** What the sweeper needs of the catalog. */
export interface SweeperCatalog {
  storageFiles(): Promise<readonly StorageFile[]>;
  filesToRemove(node: string): Promise<readonly string[]>;
  noteRemoved(input: { node: string; path: string }): Promise<void>;
  withNames<T>(
    layers: { host: string; disk: string; names: readonly string[] },
    work: (files: readonly StorageFile[]) => Promise<T>,
  ): Promise<T>;
}

export interface SweepInput {
  readonly catalog: SweeperCatalog;
  readonly node: string;
  readonly replicaRoot: string;
  /** Files that changed more lately stay, unless the catalog itself has given them up. */
  readonly graceMs: number;
  /** Nothing is removed; the report says what would be. */
  readonly dryRun: boolean;
  /** This machine's clock, by which files have their times. */
  readonly nowMs: number;
  readonly log: Log;
}

export interface SweptFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly reason: string;
}

export interface SweepReport {
  readonly removed: readonly SweptFile[];
  /** Younger than the grace: a later sweep takes them. */
  readonly waiting: readonly SweptFile[];
  /** They look whole and the catalog does not know them: they are for a person to judge. */
  readonly unknown: readonly SweptFile[];
}

/**
 * Looks at every file with a layer's name in `<root>/<host>/<disk>/`. First a look without a lock; whatever is to go
 * is looked at again while nobody can add a row for that folder.
 */
export async function sweepReplicas(input: SweepInput): Promise<SweepReport> {
  const { catalog, replicaRoot } = input;
  const found = new Map<string, readonly FoundFile[]>();
  for (const folder of await foldersOf(resolve(replicaRoot))) found.set(folder, await findLayerFiles(folder));
  // Rows after files: whatever has been born meanwhile had its row before. Those of all nodes and folders, since
  // nodes may share storage, and a folder may have another path than when the file was made.
  const states = statesOf(await catalog.storageFiles());
  const report: { [Key in keyof SweepReport]: SweptFile[] } = { removed: [], waiting: [], unknown: [] };
  for (const [directory, files] of found) {
    const strays = findStrays(files, states);
    if (strays.length === 0) continue;
    const names = [...new Set(strays.map(({ file }) => file.finalName))];
    const [host, disk] = lastTwo(directory);
    const swept = await catalog.withNames({ host, disk, names }, known =>
      sweepFolder(input, directory, names, known),
    );
    for (const key of ['removed', 'waiting', 'unknown'] as const) report[key].push(...swept[key]);
  }
  return report;
}

async function sweepFolder(
  input: SweepInput,
  directory: string,
  names: readonly string[],
  known: readonly StorageFile[],
): Promise<SweepReport> {
  const { dryRun, log } = input;
  // A folder that was replaced by a link meanwhile leads somewhere else.
  if (
    (await realpath(directory)) !== join(await realpath(resolve(input.replicaRoot)), ...lastTwo(directory))
  ) {
    return { removed: [], waiting: [], unknown: [] };
  }
  const files = (await findLayerFiles(directory)).filter(({ finalName }) => names.includes(finalName));
  const strays = findStrays(files, statesOf(known));
  const unknown = strays.filter(({ kind }) => kind === 'unknown');
  const waiting = strays.filter(stray => stray.kind !== 'unknown' && mustWait(stray, strays, input));
  const going = strays.filter(stray => !unknown.includes(stray) && !waiting.includes(stray));
  const gone = dryRun
    ? going.map(({ file }) => file)
    : await removeLayerFiles(
        directory,
        going.map(({ file }) => file),
      );
  const removed = going.filter(({ file }) => gone.includes(file));
  if (!dryRun) {
    for (const { file, reason } of removed) {
      log.warn(
        { event: 'swept', path: file.path, sizeBytes: file.allocatedBytes, reason },
        'a stray file was removed',
      );
    }
  }
  return { removed: removed.map(toSwept), waiting: waiting.map(toSwept), unknown: unknown.map(toSwept) };
}

/** The files of one layer go together, when the youngest of them is old enough; one of the future is not. */
function mustWait({ file, kind }: Stray, all: readonly Stray[], { graceMs, nowMs }: SweepInput): boolean {
  if (kind === 'dropped') return false;
  const together = all.filter(other => other.file.finalName === file.finalName);
  const youngestMs = Math.max(...together.map(other => other.file.changedAtMs));
  return nowMs - youngestMs < graceMs;
}

const lastTwo = (directory: string): [string, string] => [basename(dirname(directory)), basename(directory)];

const statesOf = (files: readonly StorageFile[]): ReadonlyMap<string, LayerState> =>
  new Map(files.map(({ path, state }) => [basename(path), state]));

const toSwept = ({ file, reason }: Stray): SweptFile => ({
  path: file.path,
  sizeBytes: file.allocatedBytes,
  reason,
});

/** `<root>/<host>/<disk>`, real folders only. */
async function foldersOf(root: string): Promise<readonly string[]> {
  const hosts = await subFolders(root);
  return (await Promise.all(hosts.map(subFolders))).flat();
}

async function subFolders(directory: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries
      .filter(entry => entry.isDirectory() && IDENT.test(entry.name))
      .map(({ name }) => join(directory, name));
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Removes what the catalog left to this node. @returns how many files there were */
export async function removeLeftFiles({
  catalog,
  node,
  replicaRoot,
  log,
}: Pick<SweepInput, 'catalog' | 'node' | 'replicaRoot' | 'log'>): Promise<number> {
  let removed = 0;
  for (const path of await catalog.filesToRemove(node)) {
    if (!resolve(path).startsWith(resolve(replicaRoot) + sep)) {
      log.warn({ event: 'not-removed', path }, 'a file to be removed does not lie under the replica folder');
      continue;
    }
    const files = await removeReplicaFiles(path);
    if (files > 0)
      log.info({ event: 'removed', path, files }, 'a dropped replica was removed from this node');
    removed += files;
    await catalog.noteRemoved({ node, path });
  }
  return removed;
}

/** Removes at once, and then each few seconds, what was left to this node; sweeps at once, and then each hour. */
export function startReplicaSweeper(parts: {
  catalog: SweeperCatalog;
  node: string;
  replicaRoot: string;
  log: Log;
  nowMs: () => number;
}): { close(): Promise<void> } {
  const { log, nowMs, ...input } = parts;
  let running: Promise<void> = Promise.resolve();
  const queue = (work: () => Promise<void>): void => {
    running = running.then(work).catch(error => {
      log.warn({ event: 'sweep-failed', err: error }, 'stray files are looked for again later');
    });
  };
  const remove = () => queue(async () => void (await removeLeftFiles({ ...input, log })));
  const sweep = () =>
    queue(async () => {
      const report = await sweepReplicas({
        ...{ ...input, log, nowMs: nowMs() },
        ...{ graceMs: SWEEP_GRACE_MS, dryRun: false },
      });
      for (const { path, sizeBytes, reason } of report.unknown) {
        log.warn({ event: 'unknown-layer', path, sizeBytes }, `${reason}: it stays`);
      }
    });
  remove();
  sweep();
  const timers = [setInterval(remove, REMOVALS_EVERY_MS), setInterval(sweep, SWEEP_EVERY_MS)];
  return {
    async close() {
      for (const timer of timers) clearInterval(timer);
      await running;
    },
  };
}
