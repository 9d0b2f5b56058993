/** The extent map of some layers of a chain, in the clusters of the replica that is made of it. */
import { type ExtentKind, type ExtentMap, ExtentMapBuilder, ExtentMapError } from '../domain/extent-map.ts';
import type { Layer } from './chain-layer.ts';
import { ChainWalker } from './chain-walker.ts';

const MIN_REPLICA_CLUSTER_BYTES = 4096;
const DEFAULT_REPLICA_CLUSTER_BYTES = 65_536;
const MAX_REPLICA_CLUSTER_BYTES = 2 * 1024 * 1024;
const MAX_L1_BYTES = 32 * 1024 * 1024;

/**
 * The cluster size of a replica: the smallest unit of allocation of its source layers, within 4 and 64 KiB,
 * raised (to 2 MiB at most) while the disk would need an L1 table beyond 32 MiB.
 * @param granularities bytes, powers of two; null for a raw layer, which has no opinion
 */
export function replicaClusterSize(
  granularities: readonly (number | null)[],
  virtualSizeBytes: number,
): number {
  let clusterBytes = DEFAULT_REPLICA_CLUSTER_BYTES;
  for (const granularity of granularities) clusterBytes = Math.min(clusterBytes, granularity ?? clusterBytes);
  clusterBytes = Math.max(clusterBytes, MIN_REPLICA_CLUSTER_BYTES);
  while (clusterBytes < MAX_REPLICA_CLUSTER_BYTES && l1Bytes(clusterBytes, virtualSizeBytes) > MAX_L1_BYTES) {
    clusterBytes *= 2;
  }
  return clusterBytes;
}

function l1Bytes(clusterBytes: number, virtualSizeBytes: number): number {
  const l1Reach = (clusterBytes / 8) * clusterBytes;
  return Math.ceil(virtualSizeBytes / l1Reach) * 8;
}

export interface MapInput {
  readonly virtualSizeBytes: number;
  /** The layers of the map, the top first. */
  readonly layers: readonly Layer[];
  /** The size of the layer beneath them, which the replica's own base has too; null when there is none. */
  readonly baseSizeBytes: number | null;
  /** Clusters are at least this large, a power of two. */
  readonly leastClusterBytes?: number | undefined;
}

/**
 * A cluster is `data` if any part of it is, or if zero and hole mix in it over the base; `zero` if the layers say
 * zero; `hole` if none of them says anything. What lies beyond the base's end reads as zeros either way, so it
 * does not make a mix.
 */
export async function buildExtentMap(input: MapInput): Promise<ExtentMap> {
  const granularities = input.layers.map(layer => layer.granularity);
  let clusterSizeBytes = Math.max(
    replicaClusterSize(granularities, input.virtualSizeBytes),
    input.leastClusterBytes ?? 0,
  );
  for (;;) {
    try {
      return await mapInClusters(input, clusterSizeBytes);
    } catch (error) {
      // Too many extents for the wire: coarser clusters join them.
      if (!(error instanceof ExtentMapError) || clusterSizeBytes >= MAX_REPLICA_CLUSTER_BYTES) throw error;
      clusterSizeBytes *= 2;
    }
  }
}

/** The map of one layer alone, in its own clusters. */
export const mapLayer = (layer: Layer, clusterSizeBytes: number): Promise<ExtentMap> =>
  mapInClusters(
    { virtualSizeBytes: layer.virtualSizeBytes, layers: [layer], baseSizeBytes: null },
    clusterSizeBytes,
  );

async function mapInClusters(input: MapInput, clusterSizeBytes: number): Promise<ExtentMap> {
  const { virtualSizeBytes, layers } = input;
  const walker = new ChainWalker(layers);
  const folder = new ClusterFolder(input, clusterSizeBytes);
  for (let offset = 0; offset < virtualSizeBytes; ) {
    const { run } = await walker.locate(offset, virtualSizeBytes - offset);
    folder.add(run.kind, run.length);
    offset += run.length;
  }
  return folder.build();
}

/** What a part of a cluster holds. Beyond the base's end zero and hole read the same. */
type PartKind = ExtentKind | 'zeroBeyond' | 'holeBeyond';

/** Folds runs of any length into whole clusters of one kind. */
class ClusterFolder {
  readonly #builder: ExtentMapBuilder;
  readonly #clusterSizeBytes: number;
  readonly #virtualSizeBytes: number;
  /** Where holes show something: the part of the disk that a base covers. */
  readonly #baseSizeBytes: number;
  #offset = 0;
  #parts = new Set<PartKind>();

  constructor({ virtualSizeBytes, baseSizeBytes }: MapInput, clusterSizeBytes: number) {
    this.#builder = new ExtentMapBuilder({ virtualSizeBytes, clusterSizeBytes });
    this.#clusterSizeBytes = clusterSizeBytes;
    this.#virtualSizeBytes = virtualSizeBytes;
    this.#baseSizeBytes = baseSizeBytes ?? 0;
  }

  add(kind: ExtentKind, length: number): void {
    const end = this.#offset + length;
    const cluster = this.#clusterSizeBytes;
    if (this.#offset % cluster !== 0) {
      this.#addPart(kind, Math.min(end, Math.ceil(this.#offset / cluster) * cluster));
    }
    const wholeEnd = end === this.#virtualSizeBytes ? end : end - (end % cluster);
    if (wholeEnd > this.#offset) {
      this.#builder.add(kind, wholeEnd - this.#offset);
      this.#offset = wholeEnd;
    }
    if (end > this.#offset) this.#addPart(kind, end);
  }

  build(): ExtentMap {
    return this.#builder.build();
  }

  /** Takes a part of the cluster that the offset stands in, and ends the cluster where `end` does. */
  #addPart(kind: ExtentKind, end: number): void {
    const base = this.#baseSizeBytes;
    const clusterEnd = this.#offset - (this.#offset % this.#clusterSizeBytes) + this.#clusterSizeBytes;
    if (kind === 'data' || this.#offset < base) this.#parts.add(kind);
    if (kind !== 'data' && end > base) this.#parts.add(`${kind}Beyond`);
    this.#offset = end;
    if (end !== clusterEnd && end !== this.#virtualSizeBytes) return;
    this.#builder.add(kindOfParts(this.#parts), end - (clusterEnd - this.#clusterSizeBytes));
    this.#parts.clear();
  }
}

function kindOfParts(parts: ReadonlySet<PartKind>): ExtentKind {
  if (parts.has('data')) return 'data';
  if (parts.has('zero')) return parts.has('hole') ? 'data' : 'zero';
  if (parts.has('hole')) return 'hole';
  return parts.has('zeroBeyond') ? 'zero' : 'hole';
}
