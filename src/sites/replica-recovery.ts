/** Recovers a state of a host into a folder: all disks or nothing. Needs neither A nor Temporal. */
import { join } from 'node:path';
import type { Database } from '../catalog/database.ts';
import {
  createEpochRows,
  type EpochDisk,
  holdForRestore,
  type ReplicaEpoch,
} from '../catalog/replica-epochs.ts';
import { createHealthRows } from '../catalog/replica-health.ts';
import { createReplicaInventory, type PointDisk } from '../catalog/replica-inventory.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { msOf, newestCheckpointAt, newestWholeCheckpoint } from '../images/cdp/checkpoints.ts';
import { JournalDamagedError, JournalInvalidError } from '../images/cdp/errors.ts';
import { restoreDisk } from '../images/cdp/restore-disk.ts';
import type { Layer } from '../images/chain-layer.ts';
import { ImageError } from '../images/errors.ts';
import { openLayerSource } from '../images/layer-source.ts';
import { makeFolder } from '../images/new-folder.ts';
import { createOverlay, writeImage } from '../images/overlay.ts';
import { proveChain } from '../images/proof.ts';
import { removeFile, statOrNull } from '../images/replica/durable-files.ts';
import { ReplicaFileError } from '../images/replica/errors.ts';
import { digestsPathOf, verifiedLayer } from '../images/replica/verified-layer.ts';
import { RecoveryRunsError, StateDamagedError } from './recovery-errors.ts';
import {
  type HostState,
  type HostStates,
  newestState,
  stateAt,
  stateOfMarker,
  stateOfPoint,
} from './recovery-state.ts';
import { replicaDirectoryOf } from './replica-directory.ts';
import { assertRootUnchanged } from './replica-root.ts';

const OVERLAY_CLUSTER_BYTES = 64 * 1024;

/** At most one of `point`, `at` and `marker` is set; none asks for the newest state. */
export interface RecoverRequest {
  readonly host: string;
  readonly point: string | null;
  /** ISO 8601, by A's clock. */
  readonly at: string | null;
  readonly marker: string | null;
  readonly directory: string;
  readonly format: 'overlay' | 'qcow2' | 'raw';
}

/** What one disk's recovery needs to know. */
interface Target {
  readonly folder: string;
  readonly format: RecoverRequest['format'];
  readonly root: string;
}

/** @throws {ReplicaRootError} @throws {PointUnknownError} @throws {StateUnknownError} @throws {StateDamagedError} @throws {FileExistsError} */
export async function recoverHost(config: SiteConfig, db: Database, request: RecoverRequest) {
  const { host, directory, format } = request;
  const root = replicaDirectoryOf(config);
  await assertRootUnchanged({ catalog: createHealthRows(db), node: config.node, directory: root });
  const hold = await holdForRestore(config.database.url, { host, folder: `${config.node}:${directory}` });
  if (hold === null) throw new RecoveryRunsError(directory);
  try {
    const states = await statesOf(db, host);
    const { state, warnings } = await chooseState(states, request);
    const recovered = await makeFolder(directory, folder =>
      recoverDisks(host, state, { folder, format, root }),
    );
    const askedMs = request.at === null ? null : Date.parse(request.at);
    return {
      host,
      point: state.point.point,
      takenAt: isoOf(state.point.takenAtMs),
      at: isoOf(state.atMs),
      checkpoint: state.cdp?.checkpoint ?? null,
      marker: state.cdp?.marker ?? null,
      askedAt: askedMs === null ? null : isoOf(askedMs),
      lostMs: askedMs === null ? null : askedMs - state.atMs,
      warnings,
      disks: recovered.map(({ name, ...disk }) => ({ ...disk, path: join(directory, name) })),
    };
  } finally {
    await hold.close();
  }
}

async function statesOf(db: Database, host: string): Promise<HostStates> {
  const rows = createEpochRows(db);
  return {
    host,
    // Markers and epochs first: what is published between the readings is not missed, and never told twice.
    markers: await rows.listMarkers(host),
    epochs: await rows.listEpochs(host),
    points: await createReplicaInventory(db).listPoints({ host }),
  };
}

async function chooseState(
  states: HostStates,
  { point, at, marker }: RecoverRequest,
): Promise<{ state: HostState; warnings: readonly string[] }> {
  if (point !== null) return { state: stateOfPoint(states, point), warnings: [] };
  if (marker !== null) {
    const { state, others } = stateOfMarker(states, marker);
    const warning = `${others + 1} markers are named '${marker}': this is the newest`;
    return { state, warnings: others > 0 ? [warning] : [] };
  }
  if (at === null) return { state: newestState(states), warnings: [] };
  return { state: await stateAt(states, Date.parse(at), findCheckpoint), warnings: [] };
}

/** Every disk's journal has the same checkpoints: one is looked into. */
async function findCheckpoint(epoch: ReplicaEpoch, atMs: number) {
  const { oldestCheckpoint: oldest, newestCheckpoint: newest, disks } = epoch;
  const [disk] = disks;
  if (disk === undefined) return null;
  try {
    const found = await newestCheckpointAt(disk.directory, { atMs, oldest, newest });
    return found && { sequence: found.sequence, atMs: msOf(found.timeUs), marker: found.marker };
  } catch (error) {
    throw await damagedState(epoch, newest, error);
  }
}

async function recoverDisks(host: string, state: HostState, target: Target) {
  const { format } = target;
  const disks = [];
  for (const disk of state.point.disks) {
    const name = `${disk.disk}.${format === 'raw' ? 'raw' : 'qcow2'}`;
    const beneath =
      state.cdp === null ? disk.path : await recoverFromJournal(host, state, disk, name, target);
    if (state.cdp === null) await recoverFromImage(disk, join(target.folder, name), target);
    disks.push({
      disk: disk.disk,
      name,
      format: format === 'raw' ? ('raw' as const) : ('qcow2' as const),
      backing: format === 'overlay' ? beneath : null,
    });
  }
  return disks;
}

async function recoverFromImage(disk: PointDisk, path: string, { format, root }: Target): Promise<void> {
  if (format !== 'overlay') return copyOf(disk.path, path, format, [root]);
  await createOverlay({
    path,
    backingPath: disk.path,
    backingFormat: 'qcow2',
    virtualSizeBytes: disk.virtualSizeBytes,
    clusterSizeBytes: OVERLAY_CLUSTER_BYTES,
  });
}

/** A full copy is one of the overlay and all beneath. @returns the image beneath the overlay */
async function recoverFromJournal(
  host: string,
  { cdp, point }: HostState,
  { disk }: PointDisk,
  name: string,
  { folder, format, root }: Target,
): Promise<string> {
  const journal = cdp?.epoch.disks.find(found => found.disk === disk);
  if (cdp === null || journal === undefined) throw new Error(`disk ${disk} of ${point.point} has no journal`);
  const overlay = join(folder, format === 'overlay' ? name : `.${disk}.overlay`);
  try {
    await restoreDisk({
      path: overlay,
      directory: journal.directory,
      identity: { epoch: point.point, host, disk, virtualSizeBytes: journal.virtualSizeBytes },
      checkpoint: cdp.checkpoint,
      basePath: journal.basePath,
      chain: { imageRoots: [root], ...(format !== 'overlay' && { wrapLayer: verifiedWhereDigested }) },
    });
  } catch (error) {
    throw await damagedState(cdp.epoch, cdp.checkpoint, error);
  }
  if (format !== 'overlay') {
    await copyOf(overlay, join(folder, name), format, [root, folder]);
    await removeFile(overlay, 'restore.unlinkOverlay');
  }
  return journal.basePath;
}

/** Says until when all disks can be restored; what speaks of neither journal nor base stays as it is. */
async function damagedState(epoch: ReplicaEpoch, checkpoint: number, error: unknown): Promise<unknown> {
  if (error instanceof ImageError || error instanceof ReplicaFileError) {
    return new StateDamagedError(epoch.host, null, error);
  }
  if (!(error instanceof JournalDamagedError || error instanceof JournalInvalidError)) return error;
  const whole = await Promise.all(epoch.disks.map(disk => wholeOf(disk, checkpoint)));
  const [least] = whole
    .map(found => (found !== null && found.sequence >= epoch.oldestCheckpoint ? found : null))
    .sort((left, right) => (left?.sequence ?? 0) - (right?.sequence ?? 0));
  const until = least && { checkpoint: least.sequence, atMs: msOf(least.timeUs) };
  return new StateDamagedError(epoch.host, until ?? null, error);
}

async function wholeOf({ directory }: EpochDisk, checkpoint: number) {
  try {
    return await newestWholeCheckpoint(directory, checkpoint);
  } catch {
    return null;
  }
}

/** A full copy is made of what was sealed, or not at all; a layer without digests is copied as it is. */
const verifiedWhereDigested = async (layer: Layer): Promise<Layer> =>
  (await statOrNull(digestsPathOf(layer.path))) === null ? layer : verifiedLayer(layer);

async function copyOf(
  topPath: string,
  path: string,
  format: 'qcow2' | 'raw',
  imageRoots: readonly string[],
): Promise<void> {
  const proof = await proveChain(topPath, { imageRoots });
  const source = await openLayerSource({
    ...{ topPath, basePath: null, imageRoots, proof },
    wrapLayer: verifiedWhereDigested,
  });
  try {
    await writeImage({
      path,
      format,
      map: source.map,
      readStream: (target, position) => source.readStream(target, position),
    });
    await source.assertUnchanged();
  } finally {
    await source.close();
  }
}

const isoOf = (ms: number): string => new Date(ms).toISOString();
