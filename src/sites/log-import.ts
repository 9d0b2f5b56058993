/** Logs of writes become an ended epoch on a host's newest snapshot. docs/decisions/0056. */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Database } from '../catalog/database.ts';
import type { RegisterDisk } from '../catalog/register-snapshot.ts';
import { createEpochRows } from '../catalog/source-epochs.ts';
import { createSourceInventory, type SourceSnapshot } from '../catalog/source-inventory.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError } from '../domain/errors.ts';
import { type ImportedLogs, importLogs, type LoggedDisk } from '../images/log-writes/import-logs.ts';
import { statOrNull, syncDirectory } from '../images/replica/durable-files.ts';
import { effect } from '../lib/fault-points.ts';
import { inspectDisk } from './inspect-disk.ts';
import { journalDirectoryOf } from './journal-directory.ts';

/** An import that runs is younger; one that died leaves its folder for so long. */
const LEFT_AFTER_MS = 24 * 3_600_000;
const FOLDER = /^import-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

export interface LogImportRequest {
  readonly host: string;
  /** At least one, no disk twice. */
  readonly disks: readonly { readonly disk: string; readonly path: string }[];
}

class NoBaseSnapshotError extends OffsiteError {
  constructor(host: string, what: string) {
    super(
      'NoBaseSnapshot',
      `host ${host} ${what}`,
      `A log needs the snapshot that it begins with: register it with 'offsite source import'.`,
    );
  }
}

class LoggedDiskUnknownError extends OffsiteError {
  constructor({ host, snapshot, disks }: SourceSnapshot, disk: string) {
    super(
      'LoggedDiskUnknown',
      `snapshot ${snapshot} of host ${host} has no disk ${disk}`,
      `Its disks are ${disks.map(found => found.disk).join(', ')}.`,
    );
  }
}

/**
 * @throws {NoBaseSnapshotError} @throws {LoggedDiskUnknownError} @throws {LogInvalidError} @throws {JournalWriteError}
 * @throws errors of the base's images
 */
export async function importLogsOf(config: SiteConfig, db: Database, request: LogImportRequest) {
  const base = await newestSnapshot(db, request.host);
  for (const { disk } of request.disks) {
    if (!base.disks.some(found => found.disk === disk)) throw new LoggedDiskUnknownError(base, disk);
  }
  const layers = await layersOf(config, base);
  const hostFolder = join(journalDirectoryOf(config), request.host);
  await removeLeft(db, request.host, hostFolder);
  const uuid = randomUUID();
  const folder = join(hostFolder, `import-${uuid}`);
  await effect('source.import.mkdir', () => mkdir(folder, { recursive: true }));
  let logs: ImportedLogs;
  try {
    logs = await importLogs(loggedDisks(base, request, folder, uuid), base.takenAtMs);
    await syncDirectory(hostFolder, 'source.import.syncDirectory');
  } catch (error) {
    await effect('source.import.removeFailed', () => rm(folder, { recursive: true, force: true })).catch(
      () => undefined,
    );
    throw error;
  }
  const registered = await register(config, db, { base, layers, folder, uuid, logs });
  const unlogged = base.disks.filter(({ disk }) => !request.disks.some(logged => logged.disk === disk));
  return {
    host: base.host,
    snapshot: registered.uuid,
    base: registered.baseSnapshot,
    epoch: registered.epoch,
    checkpoints: logs.checkpoints,
    newestCheckpoint: logs.newest.sequence,
    newestCheckpointAt: new Date(Math.floor(logs.newest.timeUs / 1000)).toISOString(),
    markers: logs.markers.map(({ name, sequence }) => ({ name, checkpoint: sequence })),
    disks: base.disks.map(({ disk }) => ({
      ...{ disk, path: join(folder, disk), records: logs.records.get(disk) ?? 0 },
    })),
    warnings: [
      ...unlogged.map(({ disk }) => `disk ${disk} has no log: it stays as it is in the base`),
      ...(logs.marksLeftOut > 0 ? [`${logs.marksLeftOut} marks are not in all logs and were left out`] : []),
    ],
  };
}

async function newestSnapshot(db: Database, host: string): Promise<SourceSnapshot> {
  const newest = (await createSourceInventory(db).listSnapshots({ host })).at(-1);
  if (newest === undefined) throw new NoBaseSnapshotError(host, 'has no snapshot here');
  if (newest.kind === 'cdp') {
    throw new NoBaseSnapshotError(
      host,
      `has an epoch as its newest snapshot (${newest.snapshot}), no images`,
    );
  }
  return newest;
}

async function layersOf(
  { node, source }: SiteConfig,
  base: SourceSnapshot,
): Promise<readonly RegisterDisk[]> {
  const inspected = [];
  for (const { disk, path } of base.disks) {
    inspected.push((await inspectDisk({ disk, path }, node, source?.imageRoots ?? [])).disk);
  }
  return inspected;
}

const loggedDisks = (
  base: SourceSnapshot,
  { host, disks }: LogImportRequest,
  folder: string,
  epoch: string,
): readonly LoggedDisk[] =>
  base.disks.map(({ disk, virtualSizeBytes }) => ({
    log: disks.find(logged => logged.disk === disk)?.path ?? null,
    directory: join(folder, disk),
    identity: { epoch, host, disk, virtualSizeBytes },
  }));

async function register(
  config: SiteConfig,
  db: Database,
  input: {
    base: SourceSnapshot;
    layers: readonly RegisterDisk[];
    folder: string;
    uuid: string;
    logs: ImportedLogs;
  },
) {
  const { base, layers, folder, uuid, logs } = input;
  const disks = [];
  for (const { disk, node, virtualSizeBytes, format: _, chain, ...base } of layers) {
    const directory = join(folder, disk);
    const { dev, ino } = await stat(directory, { bigint: true });
    disks.push({
      ...{ disk, node, virtualSizeBytes, chain, base },
      journal: { path: directory, device: `${dev}`, inode: `${ino}` },
    });
  }
  const at = ({ sequence, timeUs }: { sequence: number; timeUs: number }) => ({
    ...{ sequence, atMs: Math.floor(timeUs / 1000) },
  });
  return createEpochRows(db).registerEndedEpoch({
    ...{ host: base.host, uuid, baseUuid: base.snapshot, originSite: config.site, takenAtMs: base.takenAtMs },
    ...{ disks, checkpoint: at(logs.newest), reason: 'it was imported from logs of writes' },
    markers: logs.markers.map(marker => ({ ...at(marker), name: marker.name })),
  });
}

/** Folders of imports that died before they were registered. */
async function removeLeft(db: Database, host: string, hostFolder: string): Promise<void> {
  if ((await statOrNull(hostFolder)) === null) return;
  const known = new Set(
    (await createSourceInventory(db).listSnapshots({ host })).map(({ snapshot }) => snapshot),
  );
  for (const name of await readdir(hostFolder)) {
    const uuid = FOLDER.exec(name)?.[1];
    const stats = uuid === undefined ? null : await statOrNull(join(hostFolder, name));
    if (uuid === undefined || known.has(uuid) || stats === null) continue;
    if (Date.now() - stats.mtimeMs < LEFT_AFTER_MS) continue;
    await effect('source.import.removeLeft', () =>
      rm(join(hostFolder, name), { recursive: true, force: true }),
    );
  }
}
