/** One worker process: the roles of a node, served by Temporal workers until it is told to stop. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NativeConnection, type NativeConnectionOptions, Worker } from '@temporalio/worker';
import { migrate, openDatabase } from '../catalog/database.ts';
import type { SiteConfig } from '../config/site-config.ts';
import type { OffsiteError } from '../domain/errors.ts';
import { armFaults } from '../lib/fault-injection.ts';
import { createLog, type Log } from '../lib/log.ts';
import { checkNamespace } from '../orchestration/namespace.ts';
import { ensureSearchAttributes } from '../orchestration/search-attributes.ts';
import { type TemporalSettings, temporalTarget } from '../orchestration/temporal-connection.ts';
import { tlsFault } from '../orchestration/temporal-tls.ts';
import { loadIdentity } from '../transfer/identity.ts';
import { ActivityObserver } from './activity-observer.ts';
import { FailureInterceptor } from './failure-interceptor.ts';
import { startMetrics, type WorkerMetrics } from './metrics.ts';
import { createReplicaSite } from './replica-site.ts';
import { mergeQueues, type QueueService, type Role } from './role.ts';
import { createSourceSite } from './source-site.ts';
import { installTemporalRuntime } from './temporal-runtime.ts';
import { runToEnd } from './worker-run.ts';

const RETRY_MS = 1_000;
/** So long Temporal may take to answer when it is asked whether it is there. */
const TEMPORAL_ANSWER_MS = 5_000;
/** Replicas are whole disks: a group may read them, where the operator gives them one, and nobody else. */
const NOT_FOR_OTHERS = 0o027;
/** So long the error takes at most to reach the log. */
const LAST_MOMENT_MS = 2_000;
/** Faults that the operator must mend; a server that is away comes back by itself. */
const TOLD_AS_THEY_ARE = new Set(['CatalogOutdated', 'TemporalTlsFailed', 'TemporalNamespaceMissing']);
/** Beyond this many schedules, tasks and disks a history is read and replayed when one wakes; see bench/schedules.ts. */
const MAX_CACHED_WORKFLOWS = 500;

export interface WorkerProcess {
  readonly facts: Role['facts'];
  /** Resolves when all workers have ended; rejects when one fails. */
  readonly finished: Promise<void>;
  close(): Promise<void>;
}

/** Starts this node's worker. Waits for PostgreSQL and Temporal as long as they need; `signal` ends the wait. */
export async function startWorkerProcess(config: SiteConfig, signal: AbortSignal): Promise<WorkerProcess> {
  process.umask(process.umask() | NOT_FOR_OTHERS);
  const log = createLog(config.logLevel, { site: config.site, node: config.node });
  const plan = armFaults(process.env, config.site);
  if (plan !== null)
    log.warn({ event: 'faults-armed', plan }, 'FAULT POINTS ARE ARMED: this worker fails on purpose');
  const metrics = await startMetrics(config);
  try {
    return await serve(config, log, metrics, signal);
  } catch (error) {
    await metrics.close();
    throw error;
  }
}

/** As {@link open}; nothing stays open when it fails or is told to stop while it waits. */
async function serve(
  config: SiteConfig,
  log: Log,
  metrics: WorkerMetrics,
  signal: AbortSignal,
): Promise<WorkerProcess> {
  const opened: (() => Promise<void>)[] = [];
  try {
    return await open(config, log, metrics, signal, opened);
  } catch (error) {
    for (const close of opened.reverse()) await close();
    throw error;
  }
}

/** @param opened what is to be closed, the last first, when this fails */
async function open(
  config: SiteConfig,
  log: Log,
  metrics: WorkerMetrics,
  signal: AbortSignal,
  opened: (() => Promise<void>)[],
): Promise<WorkerProcess> {
  const identity = await loadIdentity(join(config.dataDir, 'identity'), `${config.site}.${config.node}`);
  const db = openDatabase({ url: config.database.url });
  opened.push(() => db.destroy());
  await patiently('PostgreSQL', log, signal, () => migrate(db));
  const roles: Role[] = [];
  const take = (role: Role): void => {
    roles.push(role);
    opened.push(() => role.close());
  };
  const parts = { db, identity, log, metrics };
  if (config.source !== undefined) {
    take(await createSourceSite({ ...parts, config: { ...config, source: config.source } }));
  }
  if (config.replica !== undefined) {
    take(await createReplicaSite({ ...parts, config: { ...config, replica: config.replica } }));
  }
  const target = temporalTarget(config.temporal);
  const connection = await patiently('Temporal', log, signal, async () => {
    await installTemporalRuntime(log, { metrics: metrics.address !== null });
    try {
      return await NativeConnection.connect(target.connectionOptions as NativeConnectionOptions);
    } catch (error) {
      throw (await tlsFault(target)) ?? error;
    }
  });
  opened.push(() => connection.close());
  await patiently('Temporal', log, signal, () => checkNamespace(config.temporal));
  metrics.watchTemporal(() =>
    connection.withDeadline(Date.now() + TEMPORAL_ANSWER_MS, () =>
      connection.workflowService.getSystemInfo({}),
    ),
  );
  if (config.replica !== undefined) await tellSearchable(config.temporal, log);
  const maxCachedWorkflows = config.replica?.maxCachedWorkflows ?? MAX_CACHED_WORKFLOWS;
  const workers = await Promise.all(
    mergeQueues(roles.flatMap(role => role.queues)).map(service =>
      createWorker(service, connection, target.namespace, `${config.site}.${config.node}`, {
        log,
        metrics,
        maxCachedWorkflows,
      }),
    ),
  );
  const finished = Promise.all(workers.map(worker => runToEnd(worker))).then(() => undefined);
  const stop = () => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  let hasFailed = false;
  // One worker that fails takes the others along: the process is to be started anew as a whole.
  finished.catch(() => {
    hasFailed = true;
    stop();
  });
  log.info({ queues: workers.map(worker => worker.options.taskQueue) }, 'the worker polls');
  let closing: Promise<void> | null = null;
  return {
    facts: [
      { name: 'site', value: `${config.site}, node ${config.node}` },
      ...roles.flatMap(role => role.facts),
      { name: 'fingerprint', value: identity.fingerprint },
      ...(metrics.address === null ? [] : [{ name: 'metrics', value: `http://${metrics.address}/metrics` }]),
    ],
    finished,
    close() {
      closing ??= (async () => {
        stop();
        await finished.catch(() => undefined);
        for (const role of roles) await role.close();
        await metrics.close();
        await connection
          .close()
          .catch(error => log.warn({ error: error.message }, 'the connection to Temporal does not close'));
        await db.destroy();
        if (hasFailed) endInAMoment();
      })();
      return closing;
    },
  };
}

/** What a worker that failed leaves open would keep the process: nothing that is left is ours. */
function endInAMoment(): void {
  setTimeout(() => process.exit(process.exitCode || 1), LAST_MOMENT_MS).unref();
}

/** Best effort: whoever may, registers them by `offsite setup`. */
async function tellSearchable(temporal: TemporalSettings, log: Log): Promise<void> {
  try {
    const found = await ensureSearchAttributes(temporal);
    if (found === 'refused') log.warn({}, 'Temporal does not let us register search attributes');
  } catch (error) {
    log.warn({ error: (error as Error).message }, "Temporal's search attributes are not registered");
  }
}

function createWorker(
  service: QueueService,
  connection: NativeConnection,
  namespace: string,
  identity: string,
  parts: { log: Log; metrics: WorkerMetrics; maxCachedWorkflows: number },
): Promise<Worker> {
  const { log, metrics, maxCachedWorkflows } = parts;
  return Worker.create({
    connection,
    namespace,
    identity: `${identity}@${process.pid}`,
    taskQueue: service.taskQueue,
    activities: service.activities,
    ...(service.workflows ? workflowSource() : {}),
    maxConcurrentActivityTaskExecutions: service.slots,
    maxCachedWorkflows: service.workflows ? maxCachedWorkflows : 0,
    maxHeartbeatThrottleInterval: '1s',
    shutdownGraceTime: '5s',
    interceptors: {
      activity: [
        () => ({ inbound: new FailureInterceptor() }),
        context => ({ inbound: new ActivityObserver(context, log, metrics.onAttempt) }),
      ],
    },
  });
}

/** The bundle that the build made, else the sources. */
function workflowSource() {
  const bundle = fileURLToPath(new URL('../workflow-bundle.js', import.meta.url));
  if (existsSync(bundle)) return { workflowBundle: { codePath: bundle } };
  return { workflowsPath: fileURLToPath(new URL('../workflows/index.ts', import.meta.url)) };
}

/** Tries until it succeeds, saying what is waited for. */
async function patiently<T>(
  what: string,
  log: Log,
  signal: AbortSignal,
  attempt: () => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      const { message, code, hint } = error as Partial<OffsiteError> & Error;
      if (code !== undefined && TOLD_AS_THEY_ARE.has(code))
        log.warn({ code, hint }, `the worker waits: ${message}`);
      else log.warn({ error: message }, `${what} does not answer yet`);
      await new Promise(resolve => setTimeout(resolve, RETRY_MS));
      signal.throwIfAborted();
    }
  }
}
