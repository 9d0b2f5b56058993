/** Offsite's main job, on real input: a host's snapshots at site a become recovery points at site b. */
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { CONTRACT_VERSION } from '../contract/names.ts';
import type { ScheduleSettings, ScheduleSpec, TaskSummary } from '../contract/schedule.ts';
import { OffsiteError } from '../domain/errors.ts';
import type { Orchestrator, ScheduleRef } from '../orchestration/orchestrator.ts';
import { createOrchestrator } from '../orchestration/temporal-orchestrator.ts';
import { openReplicaInventory, openSourceInventory } from '../sites/cli-services.ts';
import { createDemoSnapshot } from './demo-host.ts';
import type { DevSites } from './dev-layout.ts';
import type { DevOutput } from './dev-output.ts';
import { verifyReplica } from './verify.ts';

const EVERY_MS = 15 * 60_000;
const POLL_MS = 250;
const WORKER_ATTEMPTS = 6;

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

/** Imports, replicates and verifies. @returns verified: true when every replica equals its source */
export async function runMainJob(
  options: MainJobOptions,
  sites: DevSites,
  output: DevOutput,
): Promise<{ host: string; verified: boolean }> {
  const job = options.disks.length > 0 ? ownHost(options) : demoHost(options);
  const orchestrator = createOrchestrator({ temporal: sites.b.temporal });
  const source = await openSourceInventory(sites.a);
  const replica = await openReplicaInventory(sites.b);
  try {
    for (const snapshot of job.snapshots) {
      const disks = await snapshot();
      const imported = await source.importSnapshot({ host: job.host, disks, takenAt: null });
      output.imported(imported);
      const ref = await runSchedule(orchestrator, sites, job.host, options.signal);
      const task = await untilPublished(orchestrator, ref, imported.snapshot, options.signal, output);
      output.finished(task);
    }
    return { host: job.host, verified: await verifyHost(job.host, source, replica, sites, output) };
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

/** The folder of this package, from wherever its build lies. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const above = dirname(folder);
    if (above === folder) throw new OffsiteError('PackageMissing', 'no package.json above the program');
    folder = above;
  }
  return folder;
}

function ownHost({ disks }: MainJobOptions): Job {
  return { host: 'my-host', snapshots: [async () => disks] };
}

/** Creates the host's schedule, whose first run is due at once, or asks the one that is there to run now. */
async function runSchedule(
  orchestrator: Orchestrator,
  sites: DevSites,
  host: string,
  signal: AbortSignal,
): Promise<ScheduleRef> {
  const spec: ScheduleSpec = {
    contractVersion: CONTRACT_VERSION,
    uuid: randomUUID(),
    name: host,
    replicaSite: sites.b.site,
    sourceSite: sites.a.site,
    host,
  };
  const ref = { replicaSite: spec.replicaSite, name: spec.name };
  const started = await onceWorkersAnswer(signal, () =>
    orchestrator.startSchedule(spec, SETTINGS, { paused: false }),
  );
  if (!started.created) await onceWorkersAnswer(signal, () => orchestrator.request(ref, 'runNow'));
  return ref;
}

/** The workers have just been started: the first question may come before they poll. */
async function onceWorkersAnswer<T>(signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask();
    } catch (error) {
      const isEarly = error instanceof OffsiteError && error.code === 'WorkerUnreachable';
      if (!isEarly || attempt === WORKER_ATTEMPTS) throw error;
      await sleep(POLL_MS, undefined, { signal });
    }
  }
}

/** Follows the schedule until its newest task has published the snapshot, or has found nothing newer. */
async function untilPublished(
  orchestrator: Orchestrator,
  ref: ScheduleRef,
  snapshot: string,
  signal: AbortSignal,
  output: DevOutput,
): Promise<TaskSummary> {
  for (;;) {
    signal.throwIfAborted();
    const view = await orchestrator.status(ref);
    const task = view.reachable ? view.status.lastTask : null;
    if (task?.outcome === 'published' && task.hostSnapshot === snapshot) return task;
    if (task?.outcome === 'upToDate' && (view.reachable ? view.status.runningTask : null) === null)
      return task;
    output.progress(await orchestrator.progress(ref));
    await sleep(POLL_MS, undefined, { signal });
  }
}

type Inventory = Awaited<ReturnType<typeof openSourceInventory>>;
type Points = Awaited<ReturnType<typeof openReplicaInventory>>;

async function verifyHost(
  host: string,
  source: Inventory,
  replica: Points,
  sites: DevSites,
  output: DevOutput,
): Promise<boolean> {
  const point = (await replica.listPoints({ host })).at(-1);
  const snapshot = (await source.listSnapshots({ host })).find(({ snapshot }) => snapshot === point?.point);
  if (point === undefined || snapshot === undefined) {
    throw new OffsiteError('NothingPublished', `site ${sites.b.site} has no recovery point of ${host}`);
  }
  let equal = point.disks.length === snapshot.disks.length;
  for (const disk of snapshot.disks) {
    const copy = point.disks.find(candidate => candidate.disk === disk.disk);
    if (copy === undefined) {
      equal = false;
      continue;
    }
    const result = await verifyReplica({
      sourceTop: disk.path,
      replicaTop: copy.path,
      imageRootsSource: sites.a.source?.imageRoots ?? [],
      imageRootsReplica: [join(sites.b.dataDir, 'replicas')],
    });
    output.verified(disk.disk, copy.path, result);
    equal &&= result.equal;
  }
  return equal;
}
