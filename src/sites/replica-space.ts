/** Who may still write how much on this node: a reserve of the file system, the quotas, and what was promised. */
import { basename, dirname } from 'node:path';
import type { StorageFile } from '../catalog/replica-storage-files.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError } from '../domain/errors.ts';
import { allocatedBytes, freeSpaceAt } from '../images/replica/durable-files.ts';
import { DiskFullError } from '../images/replica/errors.ts';
import { isJournalName, journalFolderBytes } from '../images/replica/journal-folder.ts';
import { layerFilesOf } from '../images/replica/names.ts';
import type { SpaceClaim, SpaceKeeper } from '../images/replica/space.ts';
import { formatSize, parseSize, parseSizeOrShare, type SizeOrShare, sizeOf } from '../lib/sizes.ts';

/** What may be occupied; null for no limit. */
export interface Quotas {
  readonly nodeBytes: number | null;
  readonly hostBytes: ReadonlyMap<string, number>;
}

const DEFAULT_RESERVE = '1%';

/** What the configuration lets the replicas of this node occupy. */
export function spaceLimitsOf({ replica }: SiteConfig): { reserve: SizeOrShare; quotas: Quotas } {
  const { reserve = DEFAULT_RESERVE, quota, hostQuotas = {} } = replica ?? {};
  return {
    reserve: parseSizeOrShare(reserve),
    quotas: {
      nodeBytes: quota === undefined ? null : parseSize(quota),
      hostBytes: new Map(Object.entries(hostQuotas).map(([host, size]) => [host, parseSize(size)])),
    },
  };
}

/** The replicas would occupy more than they may. Heals when replicas go or the quota is raised. */
export class QuotaExceededError extends OffsiteError {
  readonly neededBytes: number;
  readonly usedBytes: number;
  readonly quotaBytes: number;

  constructor(
    whose: string,
    usage: { neededBytes: number; usedBytes: number; promisedBytes: number; quotaBytes: number },
  ) {
    const { neededBytes, usedBytes, promisedBytes, quotaBytes } = usage;
    const promised =
      promisedBytes === 0 ? '' : `, ${formatSize(promisedBytes)} are for other disks that come now`;
    super(
      'QuotaExceeded',
      `${formatSize(neededBytes)} are needed, and ${whose} has a quota of ${formatSize(quotaBytes)}: ${formatSize(usedBytes)} are in use${promised}`,
      'Raise the quota in the configuration of this node and restart its worker, or delete a schedule with --purge; the transfer goes on by itself.',
    );
    this.neededBytes = neededBytes;
    this.usedBytes = usedBytes;
    this.quotaBytes = quotaBytes;
  }
}

/** What the replicas of a node occupy. */
export interface ReplicaUsage {
  readonly totalBytes: number;
  readonly hostBytes: ReadonlyMap<string, number>;
}

/** A sealed file does not grow, so it is looked at again only now and then. */
const SEALED_FRESH_MS = 10 * 60_000;
const LOOKS_AT_ONCE = 32;

/**
 * Counts what the files that the catalog knows on this node really occupy, sidecars and all.
 * @param nowMs a clock that only goes forward
 */
export function createUsageCounter(parts: {
  files: () => Promise<readonly StorageFile[]>;
  node: string;
  nowMs?: () => number;
}): () => Promise<ReplicaUsage> {
  const { files, node, nowMs = () => performance.now() } = parts;
  let sealed = new Map<string, { readonly bytes: number; readonly atMs: number }>();
  return async () => {
    const fresh: typeof sealed = new Map();
    const hostBytes = new Map<string, number>();
    let totalBytes = 0;
    const rows = (await files()).filter(file => file.node === node);
    for (let at = 0; at < rows.length; at += LOOKS_AT_ONCE) {
      const sizes = rows.slice(at, at + LOOKS_AT_ONCE).map(async ({ host, path, state }) => {
        const known = sealed.get(path);
        const isFresh = known !== undefined && nowMs() - known.atMs < SEALED_FRESH_MS;
        const bytes = isFresh ? known.bytes : await layerBytes(path);
        // A published journal still grows.
        if ((state === 'sealed' || state === 'published') && !isJournalName(basename(path))) {
          fresh.set(path, isFresh ? known : { bytes, atMs: nowMs() });
        }
        hostBytes.set(host, (hostBytes.get(host) ?? 0) + bytes);
        totalBytes += bytes;
      });
      await Promise.all(sizes);
    }
    sealed = fresh;
    return { totalBytes, hostBytes };
  };
}

async function layerBytes(path: string): Promise<number> {
  if (isJournalName(basename(path))) return (await journalFolderBytes(path)) ?? 0;
  const sizes = await Promise.all(layerFilesOf(path).map(allocatedBytes));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/** Room that a disk which comes now is still to take. */
interface PromisedRoom {
  restBytes: number;
}

/**
 * Keeps the reserve free, the quotas, and all promises of this process.
 * @param parts.hostOf the host that a path of a replica file belongs to
 */
export function createReplicaSpace(parts: {
  reserve: SizeOrShare;
  quotas: Quotas;
  usage: () => Promise<ReplicaUsage>;
  hostOf: (path: string) => string;
}): SpaceKeeper {
  const { reserve, quotas, usage, hostOf } = parts;
  const promises = new Map<string, PromisedRoom>();
  let last: Promise<unknown> = Promise.resolve();

  const promisedBytes = (but: string, isCounted: (path: string) => boolean = () => true): number => {
    let sum = 0;
    for (const [path, { restBytes }] of promises) if (path !== but && isCounted(path)) sum += restBytes;
    return sum;
  };

  async function assertRoom(path: string, neededBytes: number, othersBytes: number): Promise<void> {
    const { freeBytes, sizeBytes } = await freeSpaceAt(dirname(path));
    const reserveBytes = sizeOf(reserve, sizeBytes);
    if (neededBytes + othersBytes + reserveBytes <= freeBytes) return;
    throw new DiskFullError(path, { neededBytes, freeBytes, reserveBytes, promisedBytes: othersBytes });
  }

  async function assertQuotas(path: string, neededBytes: number): Promise<void> {
    const host = hostOf(path);
    const hostQuota = quotas.hostBytes.get(host);
    if (quotas.nodeBytes === null && hostQuota === undefined) return;
    const used = await usage();
    const assertWithin = (whose: string, quotaBytes: number, usedBytes: number, promised: number): void => {
      if (usedBytes + promised + neededBytes <= quotaBytes) return;
      throw new QuotaExceededError(whose, { neededBytes, usedBytes, promisedBytes: promised, quotaBytes });
    };
    if (hostQuota !== undefined) {
      const ofHost = promisedBytes(path, other => hostOf(other) === host);
      assertWithin(`host ${host}`, hostQuota, used.hostBytes.get(host) ?? 0, ofHost);
    }
    if (quotas.nodeBytes !== null) {
      assertWithin('this node', quotas.nodeBytes, used.totalBytes, promisedBytes(path));
    }
  }

  async function claim(path: string, neededBytes: number): Promise<SpaceClaim> {
    // Nothing more to write, as of a layer that is whole: it may be looked at however full it is.
    if (neededBytes > 0) {
      await assertQuotas(path, neededBytes);
      await assertRoom(path, neededBytes, promisedBytes(path));
    }
    const promise: PromisedRoom = { restBytes: neededBytes };
    promises.set(path, promise);
    return {
      keep(restBytes) {
        promise.restBytes = Math.min(promise.restBytes, restBytes);
      },
      assertStillFree: () => assertRoom(path, 0, 0),
      release() {
        if (promises.get(path) === promise) promises.delete(path);
      },
    };
  }

  return {
    // One after the other, so that no two are promised the same room.
    claim(path, neededBytes) {
      const claiming = last.then(() => claim(path, neededBytes));
      last = claiming.catch(() => undefined);
      return claiming;
    },
  };
}
