/** Everything on one machine: both sites, the database and Temporal, and the main job as a demonstration. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { replicaQueue, sourceQueue } from '../contract/names.ts';
import { OffsiteError } from '../domain/errors.ts';
import { untilWorkersPoll } from '../orchestration/workers-ready.ts';
import { type DevSites, databaseServices, devPorts, workerServices, writeDevConfigs } from './dev-layout.ts';
import type { DevOutput } from './dev-output.ts';
import { runMainJob } from './main-job.ts';
import { inspectDisks } from './own-disks.ts';
import { startSupervisor } from './supervisor.ts';
import { findTemporalCli } from './temporal-cli.ts';

/** The options of `offsite dev`; src/cli/ports.ts has the same shape. */
export interface DevOptions {
  readonly dataDir: string;
  readonly demo: boolean;
  readonly once: boolean;
  readonly imageRoots: readonly string[];
  readonly disks: readonly { readonly disk: string; readonly path: string }[];
  /** Aborted by Ctrl-C and SIGTERM: everything is to be stopped in order. */
  readonly signal: AbortSignal;
}

/** How long the workers may take to ask for work. */
const WORKERS_WITHIN_MS = 60_000;

/** Runs both sites until stopped, or with `once` until the main job was done. @returns the exit code */
export async function runDev(options: DevOptions, output: DevOutput): Promise<number> {
  // An operator's own machine: unless narrowed, site a reads images wherever this user may.
  const ownRoots = options.imageRoots.length > 0 ? options.imageRoots : ['/'];
  await inspectDisks(options.disks, ownRoots);
  const isOld = existsSync(join(options.dataDir, 'site-b.yaml'));
  output.say('Starting PostgreSQL, Temporal and the workers of sites a and b …');
  const cli = await findTemporalCli({ onProgress: text => output.say(text) });
  const ports = await devPorts(options.dataDir);
  const supervisor = await startSupervisor({
    dataDir: options.dataDir,
    services: databaseServices(ports, cli.path),
  });
  const ended = new Promise<'ended'>(resolve => supervisor.onExit(() => resolve('ended')));
  try {
    const { dataDir } = supervisor;
    const roots = options.imageRoots.length > 0 ? [join(dataDir, 'demo'), ...ownRoots] : ownRoots;
    const sites = await writeDevConfigs(dataDir, ports, roots);
    await supervisor.start(workerServices(sites));
    return await untilStopped(options, ended, async () => {
      await workersReady(sites, dataDir, options.signal);
      output.started({ sites, dataDir, isOld, pids: supervisor.status() });
      return serve({ ...options, dataDir }, sites, output);
    });
  } finally {
    output.say('Stopping the workers, Temporal and PostgreSQL …');
    await supervisor.stop();
    output.say('Stopped.');
  }
}

/** @throws {OffsiteError} `ServiceFailed` */
async function workersReady({ a, b }: DevSites, dataDir: string, signal: AbortSignal): Promise<void> {
  const silent = await untilWorkersPoll(
    b.temporal,
    [
      { queue: sourceQueue(a.site), type: 'activity' },
      { queue: replicaQueue(b.site), type: 'activity' },
      { queue: replicaQueue(b.site), type: 'workflow' },
    ],
    { withinMs: WORKERS_WITHIN_MS, signal },
  );
  if (silent.length === 0) return;
  const message = `the workers did not begin in time: nobody serves ${silent.join(', ')}`;
  const logs = join(dataDir, 'logs');
  throw new OffsiteError('ServiceFailed', message, `See worker-a.log and worker-b.log in ${logs}.`);
}

async function serve(options: DevOptions, sites: DevSites, output: DevOutput): Promise<number | 'stay'> {
  if (!options.demo) {
    output.next(sites, null);
    return 'stay';
  }
  const result = await runMainJob(options, sites, output);
  output.result(result);
  if (options.once) return result.verified ? 0 : 1;
  output.next(sites, result.host);
  return 'stay';
}

/**
 * @returns the job's exit code. Stopped by Ctrl-C or SIGTERM it is 0, but 1 where a verdict was asked for and none
 * was reached
 * @throws {OffsiteError} `SupervisorEnded`
 */
async function untilStopped(
  { signal, once, dataDir }: DevOptions,
  ended: Promise<'ended'>,
  job: () => Promise<number | 'stay'>,
): Promise<number> {
  const stopped = new Promise<'stopped'>(resolve => {
    if (signal.aborted) resolve('stopped');
    signal.addEventListener('abort', () => resolve('stopped'), { once: true });
  });
  let first = await Promise.race([job(), stopped, ended]);
  if (first === 'stay') first = await Promise.race([stopped, ended]);
  if (first === 'stopped') return once ? 1 : 0;
  if (first !== 'ended') return first;
  throw new OffsiteError(
    'SupervisorEnded',
    'PostgreSQL, Temporal and the workers were ended from outside',
    `See ${join(dataDir, 'logs', 'supervisor.log')}.`,
  );
}
