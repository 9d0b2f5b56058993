/** Reads sealed layers whole and compares them with what was sealed; what comes of it goes to the catalog. */
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { LayerToVerify } from '../catalog/replica-health.ts';
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
  readonly catalog: Pick<ReplicaCatalog, 'layersToVerify' | 'recordVerified'>;
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

/**
 * Verifies a node's sealed layers, those first that were verified longest ago. Ended in between, what was read counts.
 * @throws {ReplicaRootError} unless the folder of replicas is there, also when it goes meanwhile: that is no damage
 * @throws the signal's reason @throws what says nothing about a file, such as no permission to read it
 */
export async function scrubReplicas(input: ScrubInput): Promise<ScrubResult> {
  const { catalog, root, node, host, olderThanMs, signal } = input;
  await root.assertThere();
  const layers = (await catalog.layersToVerify({ node, host })).filter(
    ({ verifiedAtMs }) => olderThanMs === null || verifiedAtMs === null || verifiedAtMs < olderThanMs,
  );
  const totalBytes = layers.reduce((sum, { sealed }) => sum + sealed.sizeBytes, 0);
  const throttle = createThrottle(input.rateBytesPerSecond);
  const damaged: DamagedLayer[] = [];
  const proven: string[] = [];
  let checkedBytes = 0;
  for (const [index, layer] of layers.entries()) {
    const { path } = layer;
    const progress = { path, layer: index + 1, layers: layers.length, totalBytes };
    const verified = await verifySealed(path, {
      ...{ imageRoots: [input.replicaRoot], sealed: layer.sealed, baseName: layer.baseName },
      async take(sizeBytes) {
        signal.throwIfAborted();
        await throttle.take(sizeBytes, signal);
        checkedBytes += sizeBytes;
        input.onProgress?.({ ...progress, checkedBytes });
      },
    });
    // A folder that went while it was read is no damage.
    await root.assertThere();
    const isNoted = await catalog.recordVerified({ layer, damage: verified.damage, file: verified.file });
    // Its row speaks of another file by now, or is gone: it was removed while it was read.
    if (!isNoted) continue;
    if (verified.damage !== null) damaged.push(toDamaged(layer, verified.damage));
    else if (layer.damage !== null) proven.push(path);
  }
  return { layers: layers.length, checkedBytes, damaged, proven };
}

const toDamaged = ({ host, disk, path }: LayerToVerify, reason: string): DamagedLayer => ({
  host,
  disk,
  path,
  reason,
});
