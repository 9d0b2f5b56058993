/** A worker's metrics, composed: what is counted as it happens, and what a scrape reads. */
import { openDatabase } from '../catalog/database.ts';
import { createMetricsReadings, type ReceivedDiskName } from '../catalog/metrics-readings.ts';
import { parseEndpoint } from '../config/endpoint.ts';
import type { SiteConfig } from '../config/site-config.ts';
import type { TaskSummary } from '../contract/schedule.ts';
import type { JournalSink, LayerSink, SessionDirectory } from '../transfer/ports.ts';
import type { ReceiverCounts } from '../transfer/receiver.ts';
import type { AttemptListener } from './activity-observer.ts';
import { createMetricsRegistry, type MetricsRegistry } from './metrics-registry.ts';
import { startMetricsServer } from './metrics-server.ts';
import type { ReplicaSpaceReading } from './metrics-space.ts';
import { freshFor } from './reading.ts';
import type { FolderSpace } from './source-guard.ts';
import { readTemporalMetrics } from './temporal-runtime.ts';

export interface WorkerMetrics {
  /** For the operator's eyes at start; null when the configuration wants no metrics. */
  readonly address: string | null;
  readonly onAttempt: AttemptListener;
  /** The same directory, whose sinks count what is written to them. */
  counting(directory: SessionDirectory): SessionDirectory;
  watchSenders(count: () => number): void;
  watchSourceSpace(folders: () => readonly FolderSpace[]): void;
  watchReplicaSpace(read: () => Promise<ReplicaSpaceReading>): void;
  watchReceiver(count: () => ReceiverCounts): void;
  /** @param ask rejects when Temporal does not answer; until it is given Temporal counts as down */
  watchTemporal(ask: () => Promise<unknown>): void;
  close(): Promise<void>;
}

/** What is read is told for so long. */
const FRESH_MS = 3_000;
/** It is counted file by file. */
const SPACE_FRESH_MS = 30_000;
/** So long a scrape waits for PostgreSQL or Temporal; Prometheus itself gives up after 10 s. */
const ANSWER_WITHIN_MS = 2_000;
/** Below the pool's own patience: the connection of the scrapes is its own and made anew at little cost. */
const SILENT_MS = 10_000;

/** Counts nothing and serves nothing. */
export const NO_METRICS: WorkerMetrics = {
  address: null,
  onAttempt: () => {},
  counting: directory => directory,
  watchSenders: () => {},
  watchSourceSpace: () => {},
  watchReplicaSpace: () => {},
  watchReceiver: () => {},
  watchTemporal: () => {},
  close: async () => {},
};

/** Serves the metrics of this worker where its configuration wants it. @throws {OffsiteError} PortTaken */
export async function startMetrics(config: SiteConfig): Promise<WorkerMetrics> {
  if (config.metrics === undefined) return NO_METRICS;
  // A connection of its own: scrapes neither wait for the work nor hold it up.
  const db = openDatabase({ url: config.database.url, poolMax: 1, silentMs: SILENT_MS });
  const readings = createMetricsReadings(db);
  const registry = createMetricsRegistry();
  let countSenders = () => 0;
  let countConnections: () => ReceiverCounts | null = () => null;
  let folders: () => readonly FolderSpace[] = () => [];
  let replicaSpace: () => Promise<ReplicaSpaceReading | null> = async () => null;
  let askTemporal: () => Promise<unknown> = () => Promise.reject(new Error('not connected yet'));

  const readCatalog = freshFor(FRESH_MS, ANSWER_WITHIN_MS, async () => ({
    schedules: config.replica === undefined ? null : await readings.schedules(),
    locks: config.source === undefined ? null : await readings.locks(),
    snapshots: await readings.snapshots(),
    damage: config.replica === undefined ? null : await readings.damage(),
    // What was read may be told a little later: by then this process's clock has gone on as far.
    offsetMs: (await readings.nowMs()) - Date.now(),
  }));
  const readTemporal = freshFor(FRESH_MS, ANSWER_WITHIN_MS, async () => {
    await askTemporal();
    return true;
  });

  const readReplicaSpace = freshFor(SPACE_FRESH_MS, ANSWER_WITHIN_MS, () => replicaSpace());

  const server = await startMetricsServer(parseEndpoint(config.metrics.listen), {
    async metrics() {
      const [catalog, temporal, ofSdk, space] = await Promise.all([
        readCatalog(),
        readTemporal(),
        readTemporalMetrics(),
        readReplicaSpace(),
      ]);
      const ours = await registry.render({
        nowMs: Date.now() + (catalog?.offsetMs ?? 0),
        catalogUp: catalog !== null,
        temporalUp: temporal !== null,
        schedules: catalog?.schedules ?? null,
        locks: catalog?.locks ?? null,
        snapshots: catalog?.snapshots ?? null,
        damage: catalog?.damage ?? null,
        runningSenders: countSenders(),
        folders: folders(),
        replicaSpace: space,
        receiver: countConnections(),
      });
      return `${ours}${ofSdk}`;
    },
    async health() {
      const [catalog, temporal] = await Promise.all([readCatalog(), readTemporal()]);
      return { database: catalog !== null, temporal: temporal !== null };
    },
  }).catch(async error => {
    await db.destroy();
    throw error;
  });

  return {
    address: server.address,
    onAttempt: attempt => observe(registry, attempt),
    counting: directory =>
      countingDirectory(directory, readings.receivedDisk, (disk, bytes) =>
        registry.countReceived(disk, bytes),
      ),
    watchSenders(count) {
      countSenders = count;
    },
    watchSourceSpace(look) {
      folders = look;
    },
    watchReplicaSpace(read) {
      replicaSpace = read;
    },
    watchReceiver(count) {
      countConnections = count;
    },
    watchTemporal(ask) {
      askTemporal = ask;
    },
    async close() {
      await server.close();
      await db.destroy();
    },
  };
}

const ENDS_TASK = new Set(['finishTask', 'endTask']);

function observe(
  registry: MetricsRegistry,
  { activity, attempt, code, ids, result }: Parameters<AttemptListener>[0],
) {
  const failure = code === 'ok' || code === 'Cancelled' ? null : code;
  registry.countAttempt({ activity, attempt, failure });
  const { scheduleUuid } = ids;
  if (code !== 'ok' || !ENDS_TASK.has(activity) || scheduleUuid === undefined) return;
  const { taskUuid, outcome } = result as TaskSummary;
  if (outcome !== null) registry.countTask({ scheduleUuid, taskUuid, outcome });
}

/** A name that cannot be looked up costs the count of one connection, never its bytes. */
function countingDirectory(
  directory: SessionDirectory,
  nameOf: (diskTaskUuid: string) => Promise<ReceivedDiskName | null>,
  onBytes: (disk: ReceivedDiskName, bytes: number) => void,
): SessionDirectory {
  async function counted(diskTaskUuid: string, sink: LayerSink): Promise<LayerSink> {
    const lookedUp = nameOf(diskTaskUuid).catch(() => null);
    return countingSink(sink, bytes => void lookedUp.then(name => name !== null && onBytes(name, bytes)));
  }
  return {
    find: uuid => directory.find(uuid),
    openBase: (session, shape) => directory.openBase(session, shape),
    async resumeSink(session, digest, compared) {
      const sink = await directory.resumeSink(session, digest, compared);
      return sink === null ? null : counted(session.diskTaskUuid, sink);
    },
    openSink: async (session, map, compared) =>
      counted(session.diskTaskUuid, await directory.openSink(session, map, compared)),
    async openJournal(session, identity) {
      const lookedUp = nameOf(session.diskTaskUuid).catch(() => null);
      const sink = await directory.openJournal(session, identity);
      return countingJournal(
        sink,
        bytes => void lookedUp.then(name => name !== null && onBytes(name, bytes)),
      );
    },
    markReceived: (session, received) => directory.markReceived(session, received),
    noteSourceClock: (session, sentAtMs) =>
      directory.noteSourceClock?.(session, sentAtMs) ?? Promise.resolve(),
  };
}

const countingSink = (sink: LayerSink, onBytes: (bytes: number) => void): LayerSink => ({
  get durableBytes() {
    return sink.durableBytes;
  },
  ...(sink.dataBytes !== undefined && { dataBytes: sink.dataBytes }),
  async write(bytes, position) {
    await sink.write(bytes, position);
    onBytes(bytes.length);
  },
  flush: () => sink.flush(),
  finish: () => sink.finish(),
  ...(sink.discard !== undefined && { discard: () => sink.discard?.() ?? Promise.resolve() }),
  close: () => sink.close(),
});

const countingJournal = (sink: JournalSink, onBytes: (bytes: number) => void): JournalSink => ({
  get end() {
    return sink.end;
  },
  get recordBytes() {
    return sink.recordBytes;
  },
  takenOver: sink.takenOver,
  async append(records) {
    const before = sink.recordBytes;
    await sink.append(records);
    onBytes(sink.recordBytes - before);
  },
  commit: () => sink.commit(),
  close: () => sink.close(),
});
