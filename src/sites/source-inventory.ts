/** The source's snapshots for its operator: what is imported is opened and proven to be readable first. */
import { randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { createNodeRegistry, type NodeRegistry } from '../catalog/nodes.ts';
import type { RegisterDisk } from '../catalog/register-snapshot.ts';
import { createSourceInventory, type SourceSnapshot } from '../catalog/source-inventory.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError } from '../domain/errors.ts';
import { inspectDisk } from './inspect-disk.ts';
import { importLogsOf, type LogImportRequest } from './log-import.ts';
import { openCatalog } from './open-catalog.ts';

interface DiskPath {
  readonly disk: string;
  readonly path: string;
}

/** Opens catalog A. @throws {DatabaseUnreachableError} */
export async function openSourceInventory(config: SiteConfig) {
  const db = await openCatalog(config, 'source');
  const imageRoots = config.source?.imageRoots ?? [];
  const inventory = createSourceInventory(db);
  return {
    async importSnapshot(request: { host: string; disks: readonly DiskPath[]; takenAt: string | null }) {
      const warnings: string[] = [];
      const disks: RegisterDisk[] = [];
      for (const disk of request.disks) {
        const opened = await inspectDisk(disk, config.node, imageRoots);
        disks.push(opened.disk);
        warnings.push(...opened.warnings);
      }
      const snapshot = await inventory.registerHostSnapshot({
        host: request.host,
        uuid: randomUUID(),
        originSite: config.site,
        takenAtMs: request.takenAt === null ? await newestChange(request.disks) : Date.parse(request.takenAt),
        disks,
      });
      return { ...toListed(snapshot), created: snapshot.created, warnings };
    },
    importLogs: (request: LogImportRequest) => importLogsOf(config, db, request),
    listSnapshots: async (filter: { host: string | null }) =>
      (await inventory.listSnapshots(filter)).map(toListed),
    listLocks: async () =>
      (await inventory.listLocks()).map(({ host, snapshot, lockType, taskUuid, lockedAtMs }) => ({
        host,
        snapshot,
        lockType,
        taskUuid,
        lockedAt: new Date(lockedAtMs).toISOString(),
      })),
    forget: (snapshot: string) => inventory.forget(snapshot),
    ...pinCommands(createNodeRegistry(db), config),
    close: () => db.destroy(),
  };
}

class UnknownReplicaSiteError extends OffsiteError {
  constructor(replicaSite: string) {
    super(
      'UnknownReplicaSite',
      `site ${replicaSite} is not one that may have anything from here`,
      'Add it under source.replicaSites in the configuration.',
    );
  }
}

class NotPinnedError extends OffsiteError {
  constructor(replicaSite: string, fingerprint: string | null) {
    const what = fingerprint === null ? 'no certificate' : `not the certificate ${fingerprint}`;
    super(
      'NotPinned',
      `of site ${replicaSite} ${what} is pinned`,
      'Run `offsite source pins` to see what is.',
    );
  }
}

/** The certificates of receivers that this site accepts, and how that is changed. */
function pinCommands(nodes: NodeRegistry, config: SiteConfig) {
  const rules = config.source?.replicaSites ?? [];
  // Fingerprints of the configuration take the place of pins.
  const isFixed = (site: string) => rules.some(rule => rule.site === site && rule.fingerprints !== undefined);
  return {
    async listPins() {
      const configured = rules.flatMap(({ site, fingerprints = [] }) =>
        fingerprints.map(fingerprint => ({
          replicaSite: site,
          fingerprint,
          pinnedBy: 'configuration' as const,
          endpoint: null,
          pinnedAt: null,
          inForce: true,
        })),
      );
      const pins = (await nodes.listPins()).map(({ pinnedAtMs, ...pin }) => ({
        ...pin,
        pinnedAt: new Date(pinnedAtMs).toISOString(),
        inForce: !isFixed(pin.replicaSite),
      }));
      return [...configured, ...pins];
    },
    async pin({ replicaSite, fingerprint }: { replicaSite: string; fingerprint: string }) {
      if (!rules.some(({ site }) => site === replicaSite)) throw new UnknownReplicaSiteError(replicaSite);
      const created = await nodes.vouchForReceiver({ replicaSite, fingerprint });
      return { replicaSite, fingerprint, created, inForce: !isFixed(replicaSite) };
    },
    async unpin({ replicaSite, fingerprint }: { replicaSite: string; fingerprint: string | null }) {
      const forgotten = await nodes.unpinReceiver({ replicaSite, fingerprint });
      if (forgotten.length === 0) throw new NotPinnedError(replicaSite, fingerprint);
      const left = (await nodes.listPins()).filter(pin => pin.replicaSite === replicaSite);
      return { replicaSite, forgotten, left: left.map(pin => pin.fingerprint) };
    },
  };
}

/** A frozen layer's last change is the nearest to when the snapshot was taken. */
async function newestChange(disks: readonly DiskPath[]): Promise<number> {
  const times = await Promise.all(disks.map(async ({ path }) => (await stat(path)).mtimeMs));
  return Math.floor(Math.max(...times));
}

const toListed = ({ host, snapshot, sequence, takenAtMs, kind, disks }: SourceSnapshot) => ({
  host,
  snapshot,
  sequence,
  takenAt: new Date(takenAtMs).toISOString(),
  kind,
  disks: disks.map(({ disk, path, virtualSizeBytes }) => ({ disk, path, virtualSizeBytes })),
});
