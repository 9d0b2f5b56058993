/** Which guest bytes of a layer are data, zero or hole: a compact, ordered, gapless map. */
import { OffsiteError } from './errors.ts';

/** `hole` lets the base show through (zeros where there is none); `zero` hides it. */
export type ExtentKind = 'data' | 'zero' | 'hole';

/** A run of guest bytes of one kind: [offset, offset + length). */
export interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly kind: ExtentKind;
}

export class ExtentMapError extends OffsiteError {
  constructor(message: string) {
    super('ExtentMapInvalid', message, 'The other site sends a map that this version does not accept.');
  }
}

/** Bounds what a hostile map can cost: about 16 million alternating extents. */
export const MAX_ENCODED_BYTES = 64 * 1024 * 1024;
/** The version of the map's algorithm; part of its digest, so two versions never share a layout. */
export const MAP_VERSION = 1;

const KINDS: readonly ExtentKind[] = ['hole', 'zero', 'data'];
const MIN_CLUSTER_BYTES = 512;
const MAX_CLUSTER_BYTES = 2 * 1024 * 1024;

export interface MapShape {
  /** The disk's size in bytes; need not be a multiple of the cluster. */
  readonly virtualSizeBytes: number;
  /** A power of two, 512 to 2 MiB. All extents but the last end on its multiples. */
  readonly clusterSizeBytes: number;
}

/**
 * An extent map in its wire form: one LEB128 number an extent, `clusters * 4 + kind`
 * (0 hole, 1 zero, 2 data), neighbours of one kind merged. Iterating decodes.
 */
export class ExtentMap implements Iterable<Extent>, MapShape {
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number;
  readonly encoded: Uint8Array;
  readonly extentCount: number;
  /** The length of the data stream: the bytes of all data extents, in order, none beyond the disk's end. */
  readonly dataBytes: number;

  private constructor(shape: MapShape, encoded: Uint8Array, extentCount: number, dataBytes: number) {
    this.virtualSizeBytes = shape.virtualSizeBytes;
    this.clusterSizeBytes = shape.clusterSizeBytes;
    this.encoded = encoded;
    this.extentCount = extentCount;
    this.dataBytes = dataBytes;
  }

  /** Takes a map from the wire. @throws {ExtentMapError} unless it is the one canonical form of a whole disk */
  static decode(shape: MapShape, encoded: Uint8Array): ExtentMap {
    checkShape(shape);
    if (encoded.length > MAX_ENCODED_BYTES) throw new ExtentMapError('the extent map is too large');
    let count = 0;
    let dataBytes = 0;
    let lastKind: ExtentKind | null = null;
    let end = 0;
    for (const extent of decodeExtents(shape, encoded)) {
      if (extent.kind === lastKind) throw new ExtentMapError('neighbouring extents of one kind');
      lastKind = extent.kind;
      count += 1;
      end = extent.offset + extent.length;
      if (extent.kind === 'data') dataBytes += extent.length;
    }
    if (end !== shape.virtualSizeBytes)
      throw new ExtentMapError('the extents do not end where the disk ends');
    return new ExtentMap(shape, encoded, count, dataBytes);
  }

  [Symbol.iterator](): Iterator<Extent> {
    return decodeExtents(this, this.encoded);
  }
}

/** Builds a map from runs in rising order. Runs must follow each other without a gap. */
export class ExtentMapBuilder {
  readonly #shape: MapShape;
  #bytes = new Uint8Array(1024);
  #used = 0;
  #end = 0;
  #pendingClusters = 0;
  #pendingKind: ExtentKind | null = null;

  constructor(shape: MapShape) {
    checkShape(shape);
    this.#shape = shape;
  }

  /** @param length bytes; a multiple of the cluster size, or up to the disk's end */
  add(kind: ExtentKind, length: number): void {
    if (length === 0) return;
    const { clusterSizeBytes, virtualSizeBytes } = this.#shape;
    const end = this.#end + length;
    if (length < 0 || end > virtualSizeBytes) throw new ExtentMapError('an extent outside the disk');
    if (end % clusterSizeBytes !== 0 && end !== virtualSizeBytes) {
      throw new ExtentMapError('an extent that is not cut on a cluster boundary');
    }
    if (kind !== this.#pendingKind) this.#flush();
    this.#pendingKind = kind;
    this.#pendingClusters += Math.ceil(length / clusterSizeBytes);
    this.#end = end;
  }

  build(): ExtentMap {
    this.#flush();
    return ExtentMap.decode(this.#shape, this.#bytes.slice(0, this.#used));
  }

  #flush(): void {
    if (this.#pendingKind === null) return;
    let value = this.#pendingClusters * 4 + KINDS.indexOf(this.#pendingKind);
    this.#pendingClusters = 0;
    this.#pendingKind = null;
    if (this.#used + 10 > this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    while (value >= 128) {
      this.#bytes[this.#used++] = (value % 128) + 128;
      value = Math.floor(value / 128);
    }
    this.#bytes[this.#used++] = value;
    if (this.#used > MAX_ENCODED_BYTES) throw new ExtentMapError('the extent map is too large');
  }
}

/** The bytes whose digest names a map: version, shape (little-endian), then the encoded extents. */
export function mapDigestHeader(shape: MapShape): Uint8Array {
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setUint32(0, MAP_VERSION, true);
  view.setUint32(4, shape.clusterSizeBytes, true);
  view.setBigUint64(8, BigInt(shape.virtualSizeBytes), true);
  return header;
}

/** @throws {ExtentMapError} for a size or a cluster size that no map can have */
export function checkShape({ virtualSizeBytes, clusterSizeBytes }: MapShape): void {
  if (!Number.isSafeInteger(virtualSizeBytes) || virtualSizeBytes < 0) {
    throw new ExtentMapError(`the disk's size ${virtualSizeBytes} is not possible`);
  }
  const isPowerOfTwo = Number.isInteger(Math.log2(clusterSizeBytes));
  if (!isPowerOfTwo || clusterSizeBytes < MIN_CLUSTER_BYTES || clusterSizeBytes > MAX_CLUSTER_BYTES) {
    throw new ExtentMapError(`the cluster size ${clusterSizeBytes} is not possible`);
  }
}

function* decodeExtents(shape: MapShape, encoded: Uint8Array): Generator<Extent, undefined> {
  const { virtualSizeBytes, clusterSizeBytes } = shape;
  const clusterCount = Math.ceil(virtualSizeBytes / clusterSizeBytes);
  let at = 0;
  let cluster = 0;
  while (at < encoded.length) {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = encoded[at++];
      if (byte === undefined || scale > 2 ** 49) throw new ExtentMapError('a broken number in the map');
      value += (byte % 128) * scale;
      if (byte < 128) {
        if (byte === 0 && scale > 1) throw new ExtentMapError('a padded number in the map');
        break;
      }
      scale *= 128;
    }
    const kind = KINDS[value % 4];
    const clusters = Math.floor(value / 4);
    if (kind === undefined || clusters === 0) throw new ExtentMapError('an extent of no kind or length');
    if (clusters > clusterCount - cluster) throw new ExtentMapError('an extent outside the disk');
    const offset = cluster * clusterSizeBytes;
    cluster += clusters;
    yield { offset, length: Math.min(cluster * clusterSizeBytes, virtualSizeBytes) - offset, kind };
  }
}
