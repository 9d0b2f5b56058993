/** Composition of the replica role: catalog B, its receiver, its replica files. */
import { basename, dirname } from 'node:path';
import { createReplicaActivities } from '../activities/replica-activities.ts';
import type { Database } from '../catalog/database.ts';
import { createNodeRegistry } from '../catalog/nodes.ts';
import { createReplicaCatalog } from '../catalog/replica-catalog.ts';
import { parseEndpoint } from '../config/endpoint.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { controlQueue, replicaQueue } from '../contract/names.ts';
import { OffsiteError } from '../domain/errors.ts';
import { freeSpaceAt } from '../images/replica/durable-files.ts';
import type { Log } from '../lib/log.ts';
import { createScheduleStarter } from '../orchestration/schedule-start.ts';
import type { NodeIdentity } from '../transfer/identity.ts';
import { createReceiver } from '../transfer/receiver.ts';
import { startJournalRetention } from './journal-retention.ts';
import { NO_METRICS, type WorkerMetrics } from './metrics.ts';
import { startPeriodicScrub } from './periodic-scrub.ts';
import { replicaDirectoryOf } from './replica-directory.ts';
import { createReplicaFiles } from './replica-files.ts';
import { createReplicaGround } from './replica-ground.ts';
import { createReplicaRoot } from './replica-root.ts';
import { seedRootsOf } from './replica-seeds.ts';
import { createReplicaSpace, createUsageCounter, spaceLimitsOf } from './replica-space.ts';
import { startReplicaSweeper } from './replica-sweeper.ts';
import type { Role } from './role.ts';
import { startScheduleReconciler } from './schedule-reconciler.ts';
import { createSessionDirectory } from './session-directory.ts';

const CATALOG_SLOTS = 40;
const CONTROL_SLOTS = 200;

/** One process serves a node's data port; a second one ends instead of half serving. */
class PortTakenError extends OffsiteError {
  constructor(listen: string, cause: unknown) {
    super(
      'PortTaken',
      `another process listens at ${listen}`,
      'If it is an older worker of this node that hangs or is stopped, end it; else choose another replica.listen.',
      { cause },
    );
  }
}

export async function createReplicaSite(parts: {
  config: SiteConfig & { replica: NonNullable<SiteConfig['replica']> };
  db: Database;
  identity: NodeIdentity;
  log: Log;
  metrics?: WorkerMetrics;
}): Promise<Role> {
  const { config, db, identity, log, metrics = NO_METRICS } = parts;
  const { site, node } = config;
  const replicaRoot = replicaDirectoryOf(config);
  await createNodeRegistry(db).register({ node, fingerprint: identity.fingerprint });
  const catalog = createReplicaCatalog(db, { site, replicaRoot });
  const limits = spaceLimitsOf(config);
  const usage = createUsageCounter({ files: () => catalog.storageFiles(), node });
  metrics.watchReplicaSpace(async () => ({
    freeBytes: (await freeSpaceAt(replicaRoot)).freeBytes,
    usedByHost: (await usage()).hostBytes,
    quotaBytes: limits.quotas.nodeBytes,
  }));
  const root = createReplicaRoot({ catalog, node, directory: replicaRoot });
  const ground = createReplicaGround({ catalog, node, root });
  await root.assertThere().catch(error => log.warn({ event: 'replica-root', err: error }, error.message));
  const space = createReplicaSpace({
    ...limits,
    usage,
    hostOf: path => basename(dirname(dirname(path))),
  });
  const seedRoots = seedRootsOf(config);
  const receiver = createReceiver({
    identity,
    listen: parseEndpoint(config.replica.listen),
    directory: metrics.counting(createSessionDirectory({ catalog, replicaRoot, space, ground, seedRoots })),
    log,
  });
  await receiver.start().catch(error => {
    throw (error as { code?: unknown }).code === 'EADDRINUSE'
      ? new PortTakenError(config.replica.listen, error)
      : error;
  });
  metrics.watchReceiver(() => receiver.counts());
  const sweeper = startReplicaSweeper({ catalog, node, replicaRoot, log, nowMs: () => Date.now() });
  const scrub = startPeriodicScrub({ catalog, root, node, replicaRoot, config: config.replica.scrub, log });
  const retention = startJournalRetention({
    ...{ catalog, node, replicaRoot, config: config.replica.journals, log },
  });
  const reconciler = startScheduleReconciler({ db, starter: createScheduleStarter(config.temporal), log });
  const advertised = config.replica.advertise === undefined ? null : parseEndpoint(config.replica.advertise);
  const listen = parseEndpoint(config.replica.listen);
  const activities = createReplicaActivities({
    site,
    node,
    catalog,
    receiver: {
      offer: {
        host: advertised?.host ?? listen.host,
        port: advertised?.port ?? receiver.port,
        fingerprint: identity.fingerprint,
      },
      cut: (diskTaskUuid, below) => receiver.cut(diskTaskUuid, below),
      progress: diskTaskUuid => receiver.progress(diskTaskUuid),
    },
    files: createReplicaFiles({ catalog, replicaRoot, node, space, ground, seedRoots }),
    clock: () => Date.now(),
  });
  const { openReceiver, awaitReceived, finishDiskTask, ...catalogActivities } = activities;
  return {
    queues: [
      { taskQueue: replicaQueue(site), activities: catalogActivities, workflows: true, slots: CATALOG_SLOTS },
      {
        taskQueue: controlQueue(site, node),
        activities: { openReceiver, awaitReceived, finishDiskTask },
        workflows: false,
        slots: CONTROL_SLOTS,
      },
    ],
    facts: [
      { name: 'receives at', value: `${listen.host}:${receiver.port}` },
      { name: 'replicas', value: replicaRoot },
    ],
    async close() {
      await reconciler.close();
      await scrub.close();
      await retention.close();
      await sweeper.close();
      await receiver.close();
    },
  };
}
