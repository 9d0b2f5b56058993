/** Keeps a worker of each site running, as a supervisor does, but without its patience: a death costs a second. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { TwoSites } from '../two-sites.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** A process that ends at its start is not started again at once. */
const SHORT_LIFE_MS = 300;
const END_WITHIN_MS = 20_000;

export type Site = 'a' | 'b';

/** Builds what workers run from, with the workflows bundled, unless that was done. @returns its entry */
export async function builtWorker(): Promise<string> {
  await promisify(execFile)(process.execPath, [join(ROOT, 'scripts/build.mjs')], { cwd: ROOT });
  return join(realpathSync(join(ROOT, 'dist')), 'worker.js');
}

export interface WorkerKeeper {
  /** Starts a worker that was not started yet, or was stopped. */
  start(site: Site): void;
  /** Ends it as an operator does; it stays away until {@link start}. */
  stop(site: Site): Promise<void>;
  /** kill -9; the next one is started at once. @param isTold false: Temporal finds out by its own time-outs */
  kill(site: Site, isTold: boolean): void;
  /** True once the process that runs now polls. */
  isServing(site: Site): boolean;
  /** How many processes there have been of a site's worker. */
  startCount(site: Site): number;
  close(): Promise<void>;
}

export interface KeeperOptions {
  readonly sites: TwoSites;
  readonly entry: string;
  readonly environment: Readonly<Record<string, string>>;
  /** After a worker has died by itself, or was killed and Temporal is to be told. */
  readonly onDeath: (site: Site, pid: number) => void;
}

interface Kept {
  child: ChildProcess;
  startedAtMs: number;
  wanted: boolean;
  isTold: boolean;
  /** Where its lines begin in the log. */
  logBytes: number;
}

export function createWorkerKeeper({ sites, entry, environment, onDeath }: KeeperOptions): WorkerKeeper {
  const kept = new Map<Site, Kept>();
  const counts = { a: 0, b: 0 };

  const logOf = (site: Site): string => join(sites.dataDir, 'logs', `worker-${site}.log`);

  function spawnWorker(site: Site): void {
    const logPath = logOf(site);
    const log = openSync(logPath, 'a');
    const logBytes = statSync(logPath).size;
    const child = spawn(process.execPath, [entry, '--config', sites.configPath[site]], {
      env: { ...process.env, ...environment },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    counts[site] += 1;
    const entryOf: Kept = { child, startedAtMs: Date.now(), wanted: true, isTold: true, logBytes };
    kept.set(site, entryOf);
    child.once('exit', () => {
      if (!entryOf.wanted) return;
      if (entryOf.isTold) onDeath(site, child.pid ?? 0);
      const isShort = Date.now() - entryOf.startedAtMs < SHORT_LIFE_MS;
      setTimeout(() => entryOf.wanted && spawnWorker(site), isShort ? SHORT_LIFE_MS : 0);
    });
  }

  async function stop(site: Site): Promise<void> {
    const current = kept.get(site);
    if (current === undefined) return;
    current.wanted = false;
    kept.delete(site);
    const { child } = current;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>(resolve => child.once('exit', () => resolve()));
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), END_WITHIN_MS);
    await ended;
    clearTimeout(timer);
  }

  return {
    start: spawnWorker,
    stop,
    kill(site, isTold) {
      const current = kept.get(site);
      if (current === undefined) return;
      current.isTold = isTold;
      current.child.kill('SIGKILL');
    },
    isServing(site) {
      const current = kept.get(site);
      if (current === undefined || current.child.exitCode !== null) return false;
      return readFileSync(logOf(site)).subarray(current.logBytes).includes('the worker polls');
    },
    startCount: site => counts[site],
    async close() {
      await Promise.all([stop('a'), stop('b')]);
    },
  };
}
