/** Composition of the source role: catalog A, its images, its senders. */
import { createSourceActivities } from '../activities/source-activities.ts';
import type { Database } from '../catalog/database.ts';
import { holdInstance } from '../catalog/instance.ts';
import { createNodeRegistry } from '../catalog/nodes.ts';
import { createSourceCatalog } from '../catalog/source-catalog.ts';
import { createSourceGuardRows } from '../catalog/source-guard.ts';
import { watchStopRequests } from '../catalog/stop-requests.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { controlQueue, followQueue, sourceQueue, transferQueue } from '../contract/names.ts';
import { proveChain } from '../images/proof.ts';
import type { Log } from '../lib/log.ts';
import { createScheduleNotifier } from '../orchestration/schedule-notifier.ts';
import type { NodeIdentity } from '../transfer/identity.ts';
import { createDiskSender } from './disk-sender.ts';
import { journalDirectoryOf } from './journal-directory.ts';
import { NO_METRICS, type WorkerMetrics } from './metrics.ts';
import type { Role } from './role.ts';
import { createRunningSenders } from './running-senders.ts';
import { startSnapshotNotifier } from './snapshot-notifier.ts';
import { createSourceAccess } from './source-access.ts';
import { guardLimitsOf, startSourceGuard } from './source-guard.ts';

const CATALOG_SLOTS = 20;
const CONTROL_SLOTS = 100;
/** One a core of a small machine: more only helps where disks and lines are faster than one core. */
const TRANSFER_SLOTS = 4;
/** A slot is one disk of a host that is followed; it costs little while there is little to send. */
const FOLLOW_SLOTS = 64;

export async function createSourceSite(parts: {
  config: SiteConfig & { source: NonNullable<SiteConfig['source']> };
  db: Database;
  identity: NodeIdentity;
  log: Log;
  metrics?: WorkerMetrics;
}): Promise<Role> {
  const { config, db, identity, log, metrics = NO_METRICS } = parts;
  const { site, node } = config;
  const { imageRoots, replicaSites } = config.source;
  const running = createRunningSenders();
  metrics.watchSenders(running.count);
  const nodes = createNodeRegistry(db);
  await nodes.register({ node, fingerprint: identity.fingerprint });
  const instance = await holdInstance(config.database.url);
  const catalog = createSourceCatalog(db, { site, instance: instance.instance });
  const stopRequests = await watchStopRequests(config.database.url, uuid => {
    // Asked again at the next look should PostgreSQL be away now.
    if (!running.stop(uuid)) catalog.endGoneSender(uuid).catch(() => {});
  });
  const notifier = await startSnapshotNotifier({
    url: config.database.url,
    db,
    notifier: createScheduleNotifier(config.temporal),
    log,
  });
  const guard = await startSourceGuard({
    ...{ site, imageRoots, log, limits: guardLimitsOf(config) },
    releaseIdlest: input => createSourceGuardRows(db).releaseIdlest(input),
  });
  metrics.watchSourceSpace(guard.folders);
  const activities = createSourceActivities({
    node,
    catalog,
    images: { prove: topPath => proveChain(topPath, { imageRoots }) },
    access: createSourceAccess(replicaSites, nodes),
    sender: createDiskSender({ identity, imageRoots, journalRoot: journalDirectoryOf(config), log }),
    running,
    notices: guard,
  });
  const { sendDisk, stopSender, ...catalogActivities } = activities;
  return {
    queues: [
      { taskQueue: sourceQueue(site), activities: catalogActivities, workflows: false, slots: CATALOG_SLOTS },
      {
        taskQueue: controlQueue(site, node),
        activities: { stopSender },
        workflows: false,
        slots: CONTROL_SLOTS,
      },
      {
        taskQueue: transferQueue(site, node),
        activities: { sendDisk },
        workflows: false,
        slots: TRANSFER_SLOTS,
      },
      {
        taskQueue: followQueue(site, node),
        activities: { sendDisk },
        workflows: false,
        slots: FOLLOW_SLOTS,
      },
    ],
    facts: [
      { name: 'source of', value: replicaSites.map(rule => rule.site).join(', ') || 'no site yet' },
      { name: 'image roots', value: imageRoots.join(', ') },
    ],
    async close() {
      await guard.close();
      await notifier.close();
      await stopRequests.close();
      await instance.release();
    },
  };
}
