/** Reads sealed layers whole and compares them with what was sealed; what comes of it goes to the catalog. */
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { JournalToVerify } from '../catalog/replica-epochs.ts';
import type { LayerToVerify } from '../catalog/replica-health.ts';
import { verifyJournal } from '../images/cdp/verify-journal.ts';
import { verifySealed } from '../images/replica/verify.ts';
import { createThrottle } from '../transfer/throttle.ts';
import type { ReplicaRoot } from './replica-root.ts';

/** How far a scrub is. */
export interface ScrubProgress {
  /** The layer that is read now. */
  readonly path: string;
  readonly layer: number;
  readonly layers: number;
  readonly checkedBytes: number;
  readonly totalBytes: number;
}

/** A layer that is not what was sealed. */
export interface DamagedLayer {
  readonly host: string;
  readonly disk: string;
  readonly path: string;
  readonly reason: string;
}

export interface ScrubResult {
  readonly layers: number;
  readonly checkedBytes: number;
  readonly damaged: readonly DamagedLayer[];
  /** Layers that were in doubt or damaged before, and are proven now. */
  readonly proven: readonly string[];
}

export interface ScrubInput {
  readonly catalog: Pick<
    ReplicaCatalog,
    'layersToVerify' | 'recordVerified' | 'journalsToVerify' | 'recordJournalVerified'
  >;
  readonly root: ReplicaRoot;
  readonly node: string;
  readonly replicaRoot: string;
  /** Null for all hosts. */
  readonly host: string | null;
  /** Layers verified since then are passed over; null for none. */
  readonly olderThanMs: number | null;
  /** Bytes read a second, null for no limit. */
  readonly rateBytesPerSecond: number | null;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: ScrubProgress) => void;
}

/** One thing to be read whole: a sealed layer, or a journal as far as it was durable. */
interface Item {
  readonly host: string;
  readonly disk: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly verifiedAtMs: number | null;
  readonly wasDamaged: boolean;
  /** @returns what is wrong, null for nothing; and whether the catalog still wanted to know */
  verify(take: (sizeBytes: number) => Promise<void>): Promise<{ damage: string | null; isNoted: boolean }>;
}

/**
 * Verifies a node's sealed layers and journals, those first that were verified longest ago. Ended in between, what was
 * read counts.
 * @throws {ReplicaRootError} unless the folder of replicas is there, also when it goes meanwhile: that is no damage
 * @throws the signal's reason @throws what says nothing about a file, such as no permission to read it
 */
export async function scrubReplicas(input: ScrubInput): Promise<ScrubResult> {
  const { root, olderThanMs, signal } = input;
  await root.assertThere();
  const items = (await itemsOf(input)).filter(
    ({ verifiedAtMs }) => olderThanMs === null || verifiedAtMs === null || verifiedAtMs < olderThanMs,
  );
  const totalBytes = items.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const throttle = createThrottle(input.rateBytesPerSecond);
  const damaged: DamagedLayer[] = [];
  const proven: string[] = [];
  let checkedBytes = 0;
  for (const [index, { host, disk, path, wasDamaged, verify }] of items.entries()) {
    const progress = { path, layer: index + 1, layers: items.length, totalBytes };
    const { damage, isNoted } = await verify(async sizeBytes => {
      signal.throwIfAborted();
      await throttle.take(sizeBytes, signal);
      checkedBytes += sizeBytes;
      input.onProgress?.({ ...progress, checkedBytes });
    });
    // Its row speaks of another file by now, or is gone: it was removed while it was read.
    if (!isNoted) continue;
    if (damage !== null) damaged.push({ host, disk, path, reason: damage });
    else if (wasDamaged) proven.push(path);
  }
  return { layers: items.length, checkedBytes, damaged, proven };
}

async function itemsOf(input: ScrubInput): Promise<readonly Item[]> {
  const { catalog, node, host } = input;
  const layers = (await catalog.layersToVerify({ node, host })).map(layer => layerItem(input, layer));
  const journals = (await catalog.journalsToVerify({ node, host })).map(found => journalItem(input, found));
  return [...layers, ...journals];
}

function layerItem({ catalog, replicaRoot, root }: ScrubInput, layer: LayerToVerify): Item {
  const { host, disk, path, sealed, baseName, verifiedAtMs } = layer;
  return {
    ...{ host, disk, path, verifiedAtMs, sizeBytes: sealed.sizeBytes, wasDamaged: layer.damage !== null },
    async verify(take) {
      const { damage, file } = await verifySealed(path, {
        imageRoots: [replicaRoot],
        ...{ sealed, baseName, take },
      });
      // A folder that went while it was read is no damage.
      await root.assertThere();
      return { damage, isNoted: await catalog.recordVerified({ layer, damage, file }) };
    },
  };
}

function journalItem({ catalog, root }: ScrubInput, journal: JournalToVerify): Item {
  const { host, disk, directory, nextIndex, journalBytes, verifiedAtMs, isDamaged, storageId } = journal;
  return {
    ...{ host, disk, path: directory, verifiedAtMs, sizeBytes: journalBytes, wasDamaged: isDamaged },
    async verify(take) {
      const damage = await verifyJournal(directory, { nextIndex, take });
      await root.assertThere();
      return { damage, isNoted: await catalog.recordJournalVerified({ storageId, damage }) };
    },
  };
}
