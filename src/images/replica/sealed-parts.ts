/** What a sealed layer consists of: its own extents, and the digests of its blocks, checked against each other. */
import { mapDigest } from '../../domain/content-digest.ts';
import type { ExtentMap } from '../../domain/extent-map.ts';
import { createXxh128 } from '../../lib/digest.ts';
import type { Layer } from '../chain-layer.ts';
import { mapLayer } from '../chain-map.ts';
import { ImageError } from '../errors.ts';
import { computeLayout } from '../qcow2/layout.ts';
import { type LayerDigests, readDigestFile } from './digest-file.ts';
import { ReplicaFileError } from './errors.ts';

export interface SealedParts {
  /** The layer's own extents, not its base's. */
  readonly map: ExtentMap;
  readonly digests: LayerDigests;
  /** Where the data stream begins in the file. */
  readonly dataStart: number;
}

/**
 * Reads a layer's tables and its digest file.
 * @throws {ReplicaFileError} naming the layer, when one is damaged or they are not of one layer
 */
export async function sealedPartsOf(layer: Layer, digestsPath: string): Promise<SealedParts> {
  const digests = await readDigestFile(digestsPath);
  if (!Buffer.from(contentDigestOf(digests)).equals(digests.contentDigest)) {
    throw new ReplicaFileError(layer.path, 'its digest file contradicts itself');
  }
  const map = await ownMap(layer, digests);
  if (map === null || !Buffer.from(mapDigest(map, createXxh128)).equals(digests.mapDigest)) {
    throw new ReplicaFileError(layer.path, 'its tables are not those that were sealed');
  }
  // The base's name does not move the data: the header has a cluster of its own.
  return { map, digests, dataStart: computeLayout(map, null).dataStart };
}

/** The digest over map and blocks, as the blocks that a digest file has give it. */
function contentDigestOf({ mapDigest, entries }: LayerDigests): Uint8Array {
  const hasher = createXxh128();
  hasher.update(mapDigest);
  hasher.update(entries);
  return hasher.digest();
}

async function ownMap(layer: Layer, { clusterSizeBytes }: LayerDigests): Promise<ExtentMap | null> {
  if (layer.clusterSizeBytes !== clusterSizeBytes) return null;
  try {
    return await mapLayer(layer, clusterSizeBytes);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    throw new ReplicaFileError(layer.path, error.fault, { cause: error });
  }
}
