/** Offsite's main job, on real input: a host's snapshots at site a become recovery points at site b. */
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTRACT_VERSION } from '../contract/names.ts';
import type { ScheduleSettings, ScheduleSpec, TaskSummary } from '../contract/schedule.ts';
import { OffsiteError } from '../domain/errors.ts';
import { packageRoot } from '../lib/package-root.ts';
import type { Orchestrator, ScheduleRef } from '../orchestration/orchestrator.ts';
import { createOrchestrator } from '../orchestration/temporal-orchestrator.ts';
import { openReplicaInventory, openSourceInventory } from '../sites/cli-services.ts';
import { createDemoSnapshot } from './demo-host.ts';
import type { DevSites } from './dev-layout.ts';
import type { DevOutput, MainJobResult } from './dev-output.ts';
import { verifyHost } from './verify-host.ts';

const EVERY_MS = 15 * 60_000;
const POLL_MS = 250;

const SETTINGS: ScheduleSettings = {
  type: 'interval',
  everyMs: EVERY_MS,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

interface Job {
  readonly host: string;
  /** Imports the next host snapshot at site a. */
  readonly snapshots: readonly (() => Promise<readonly { disk: string; path: string }[]>)[];
}

export interface MainJobOptions {
  readonly dataDir: string;
  readonly disks: readonly { readonly disk: string; readonly path: string }[];
  readonly signal: AbortSignal;
}

/** Imports, replicates and verifies the host's newest snapshot. */
export async function runMainJob(
  options: MainJobOptions,
  sites: DevSites,
  output: DevOutput,
): Promise<MainJobResult> {
  const { signal } = options;
  const { host, snapshots } = options.disks.length > 0 ? ownHost(options) : demoHost(options);
  const orchestrator = createOrchestrator({ temporal: sites.b.temporal });
  const source = await openSourceInventory(sites.a);
  const replica = await openReplicaInventory(sites.b);
  try {
    let newest = '';
    for (const snapshot of snapshots) {
      const imported = await source.importSnapshot({ host, disks: await snapshot(), takenAt: null });
      newest = imported.snapshot;
      output.imported(imported);
      const run = await runSchedule(orchestrator, sites, host);
      output.finished(await untilPublished({ orchestrator, run, snapshot: newest, signal }, output));
    }
    return await verifyHost({ host, snapshot: newest }, { source, replica }, { sites, signal }, output);
  } finally {
    await Promise.all([orchestrator.close(), source.close(), replica.close()]);
  }
}

/** The demonstration's host: the first start makes a full copy and an increment, a later one goes on. */
function demoHost({ dataDir }: MainJobOptions): Job {
  const directory = join(dataDir, 'demo');
  const made = existsSync(directory)
    ? readdirSync(directory).filter(name => /^vda-\d+\.qcow2$/.test(name)).length
    : 0;
  const numbers = made === 0 ? [1, 2] : [made + 1];
  return {
    host: 'demo-host',
    snapshots: numbers.map(number => async () => {
      const snapshot = await createDemoSnapshot({ directory, number, repositoryRoot: packageRoot() });
      return snapshot.disks;
    }),
  };
}

function ownHost({ disks }: MainJobOptions): Job {
  return { host: 'my-host', snapshots: [async () => disks] };
}

/** Creates the host's schedule, whose first run is due at once, or asks the one that is there to run now. */
async function runSchedule(orchestrator: Orchestrator, sites: DevSites, host: string): Promise<AskedRun> {
  const spec: ScheduleSpec = {
    contractVersion: CONTRACT_VERSION,
    uuid: randomUUID(),
    name: host,
    replicaSite: sites.b.site,
    sourceSite: sites.a.site,
    host,
  };
  const ref = { replicaSite: spec.replicaSite, name: spec.name };
  const { created, view } = await orchestrator.startSchedule(spec, SETTINGS, { paused: false });
  if (created) return { ref, earlierTasks: [] };
  const { lastTask, runningTask, paused } = view.reachable ? view.status : NOTHING_KNOWN;
  if (paused) await orchestrator.request(ref, 'resume');
  await orchestrator.request(ref, 'runNow');
  return { ref, earlierTasks: [lastTask, runningTask].map(task => task?.taskUuid ?? '') };
}

const NOTHING_KNOWN = { lastTask: null, runningTask: null, paused: false } as const;

interface AskedRun {
  readonly ref: ScheduleRef;
  /** Tasks that had begun before the run was asked for. */
  readonly earlierTasks: readonly string[];
}

interface Followed {
  readonly orchestrator: Orchestrator;
  readonly run: AskedRun;
  /** The host snapshot that is to be published. */
  readonly snapshot: string;
  readonly signal: AbortSignal;
}

/** Follows the schedule until its newest task has published the snapshot, or has found nothing newer. */
async function untilPublished(followed: Followed, output: DevOutput): Promise<TaskSummary> {
  for (;;) {
    followed.signal.throwIfAborted();
    try {
      const task = await look(followed, output);
      if (task !== null) return task;
    } catch (error) {
      if (!(error instanceof OffsiteError) || error.code !== 'TemporalUnreachable') throw error;
      output.silence(error);
    }
    await sleep(POLL_MS, undefined, { signal: followed.signal });
  }
}

/** @returns the task that settled it, null while there is none */
async function look(
  { orchestrator, run, snapshot }: Followed,
  output: DevOutput,
): Promise<TaskSummary | null> {
  const view = await orchestrator.status(run.ref);
  const { lastTask, runningTask } = view.reachable ? view.status : NOTHING_KNOWN;
  if (lastTask !== null && !run.earlierTasks.includes(lastTask.taskUuid)) {
    if (lastTask.outcome === 'published' && lastTask.hostSnapshot === snapshot) return lastTask;
    if (lastTask.outcome === 'upToDate' && runningTask === null) return lastTask;
  }
  output.progress(await orchestrator.progress(run.ref));
  return null;
}
