/** One supervisor a data folder: a lock that the next start takes over when its holder is dead. */
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OffsiteError } from '../domain/errors.ts';
import { isAlive, type ProcessRecord, recordOf } from './supervisor-processes.ts';

/** The data folder is in use by another supervisor. */
export class DataDirInUseError extends OffsiteError {
  readonly pid: number;

  constructor(dataDir: string, pid: number) {
    super(
      'DataDirInUse',
      `${dataDir} is in use by process ${pid}`,
      'Stop that one first, or choose another folder with --data-dir.',
    );
    this.pid = pid;
  }
}

export interface DataDirLock {
  /** Gives the lock back. Doing it twice is no error. */
  release(): void;
}

/**
 * Takes the lock of a data folder for this process, or throws {@link DataDirInUseError}.
 *
 * Each holder makes the file of the next higher number in DIR/lock (a hard link fails if the name is
 * there, so two that find the same dead holder cannot both win) and only then removes the lower ones;
 * who finds a higher number than its own after that gives way.
 */
export function lockDataDir(dataDir: string): DataDirLock {
  const folder = join(dataDir, 'lock');
  mkdirSync(folder, { recursive: true });
  const me = recordOf(process.pid);
  for (;;) {
    const highest = highestNumber(folder);
    const holder = highest === 0 ? null : readHolder(join(folder, String(highest)));
    if (holder !== null && isAlive(holder)) throw new DataDirInUseError(dataDir, holder.pid);
    const mine = join(folder, String(highest + 1));
    if (!writeOnce(mine, JSON.stringify(me))) continue;
    if (highestNumber(folder) > highest + 1) {
      rmSync(mine, { force: true });
      continue;
    }
    for (const number of numbersIn(folder)) {
      if (number <= highest) rmSync(join(folder, String(number)), { force: true });
    }
    return { release: () => replace(mine, JSON.stringify({ pid: 0, identity: '' })) };
  }
}

const numbersIn = (folder: string): number[] =>
  readdirSync(folder)
    .filter(name => /^[0-9]+$/.test(name))
    .map(Number);

const highestNumber = (folder: string): number => Math.max(0, ...numbersIn(folder));

function readHolder(path: string): ProcessRecord | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as ProcessRecord;
  } catch {
    return null;
  }
}

/** Makes a file with its whole content in one step. @returns false if the name was there */
function writeOnce(path: string, content: string): boolean {
  const own = `${path}.new-${process.pid}`;
  writeFileSync(own, content);
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(own, { force: true });
  }
}

function replace(path: string, content: string): void {
  try {
    // A folder that was removed meanwhile holds no lock any more.
    writeFileSync(`${path}.new-${process.pid}`, content);
    renameSync(`${path}.new-${process.pid}`, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
