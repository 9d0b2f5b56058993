/** Everything on one machine: both sites, the database and Temporal, and the main job as a demonstration. */
import { join } from 'node:path';
import { type DevSites, databaseServices, devPorts, workerServices, writeDevConfigs } from './dev-layout.ts';
import type { DevOutput } from './dev-output.ts';
import { runMainJob } from './main-job.ts';
import { type Supervisor, startSupervisor } from './supervisor.ts';
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

/** Runs both sites until stopped, or with `once` until the main job was done. @returns the exit code */
export async function runDev(options: DevOptions, output: DevOutput): Promise<number> {
  output.say('Starting PostgreSQL, Temporal and the workers of sites a and b …');
  const cli = await findTemporalCli({ onProgress: text => output.say(text) });
  const ports = await devPorts(options.dataDir);
  const supervisor = await startSupervisor({
    dataDir: options.dataDir,
    services: databaseServices(ports, cli.path),
  });
  const ended = new Promise<'ended'>(resolve => supervisor.onExit(() => resolve('ended')));
  try {
    // An operator's own machine: unless narrowed, site a reads images wherever this user may.
    const roots =
      options.imageRoots.length > 0 ? [join(options.dataDir, 'demo'), ...options.imageRoots] : ['/'];
    const sites = await writeDevConfigs(supervisor.dataDir, ports, roots);
    await supervisor.start(workerServices(sites));
    const done = await untilStopped(options.signal, ended, () => serve(options, sites, supervisor, output));
    return done;
  } finally {
    output.say('Stopping the workers, Temporal and PostgreSQL …');
    await supervisor.stop();
  }
}

async function serve(
  options: DevOptions,
  sites: DevSites,
  supervisor: Supervisor,
  output: DevOutput,
): Promise<number | 'stay'> {
  output.started(sites, supervisor.status());
  if (!options.demo) return 'stay';
  const { host, verified } = await runMainJob({ ...options, dataDir: supervisor.dataDir }, sites, output);
  if (options.once) return verified ? 0 : 1;
  output.next(sites, host);
  return 'stay';
}

/** @returns the job's exit code; 0 after Ctrl-C, 1 when the supervisor ended by itself */
async function untilStopped(
  signal: AbortSignal,
  ended: Promise<'ended'>,
  job: () => Promise<number | 'stay'>,
): Promise<number> {
  const stopped = new Promise<'stopped'>(resolve => {
    if (signal.aborted) resolve('stopped');
    signal.addEventListener('abort', () => resolve('stopped'), { once: true });
  });
  const first = await Promise.race([job(), stopped, ended]);
  if (first === 'stopped') return 0;
  if (typeof first === 'number') return first;
  if (first === 'ended') return 1;
  return (await Promise.race([stopped, ended])) === 'stopped' ? 0 : 1;
}
