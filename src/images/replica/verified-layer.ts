/** A sealed layer that is read as it was sealed, or not at all: each block is hashed before a byte of it is given. */
import type { ExtentKind } from '../../domain/extent-map.ts';
import { createXxh128 } from '../../lib/digest.ts';
import { holeRun, type Layer, type LayerRun, plainRun, zeroRun } from '../chain-layer.ts';
import { ReplicaFileError } from './errors.ts';
import { type SealedParts, sealedPartsOf } from './sealed-parts.ts';
import { streamBlocks } from './verify.ts';

/** A reader that goes on meets two blocks at most, whatever the size of its pieces. */
const KEPT_BLOCKS = 2;
const KINDS: readonly ExtentKind[] = ['hole', 'zero', 'data'];

/** Where a layer's digest file lies: beside the sealed file, or beside the partial one that was received whole. */
export const digestsPathOf = (path: string): string => `${path.replace(/\.partial$/, '')}.digests`;

/**
 * Reads by the map and the digests that were sealed, and not by the image's tables, which may be damaged, too.
 * @throws {ReplicaFileError} naming the layer, when its tables or its digest file are not those that were sealed
 */
export async function verifiedLayer(layer: Layer): Promise<Layer> {
  return new VerifiedLayer(layer, await sealedPartsOf(layer, digestsPathOf(layer.path)));
}

/** Sorted numbers, and which of them is the last that is not above a value. */
class Starts {
  readonly #starts: Float64Array;

  constructor(starts: Float64Array) {
    this.#starts = starts;
  }

  at(index: number): number {
    return this.#starts[index] ?? Number.POSITIVE_INFINITY;
  }

  find(value: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.at(middle) <= value) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

class VerifiedLayer implements Layer {
  readonly path: string;
  readonly realPath: string;
  readonly format: Layer['format'];
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number | null;
  readonly granularity: number | null;
  readonly identity: Layer['identity'];
  readonly fileSizeBytes: number;
  readonly file: Layer['file'];
  readonly #parts: SealedParts;
  /** Guest offsets at which the extents begin, their kinds, and how much of the stream lies before each. */
  readonly #extents: Starts;
  readonly #kinds: Uint8Array;
  readonly #streamBefore: Float64Array;
  /** Positions in the stream at which the blocks begin. */
  readonly #blocks: Starts;
  readonly #kept = new Map<number, Promise<Buffer>>();

  constructor(layer: Layer, parts: SealedParts) {
    this.path = layer.path;
    this.realPath = layer.realPath;
    this.format = layer.format;
    this.virtualSizeBytes = layer.virtualSizeBytes;
    this.clusterSizeBytes = layer.clusterSizeBytes;
    this.granularity = layer.granularity;
    this.identity = layer.identity;
    this.fileSizeBytes = layer.fileSizeBytes;
    this.file = layer.file;
    this.#parts = parts;
    const { map, digests } = parts;
    const starts = new Float64Array(map.extentCount);
    this.#kinds = new Uint8Array(map.extentCount);
    this.#streamBefore = new Float64Array(map.extentCount);
    let index = 0;
    let streamBytes = 0;
    for (const { offset, length, kind } of map) {
      starts[index] = offset;
      this.#kinds[index] = KINDS.indexOf(kind);
      this.#streamBefore[index] = streamBytes;
      if (kind === 'data') streamBytes += length;
      index += 1;
    }
    this.#extents = new Starts(starts);
    const blocks = new Float64Array(digests.blockCount);
    let count = 0;
    for (const { position } of streamBlocks(map)) blocks[count++] = position;
    if (count !== digests.blockCount) throw new ReplicaFileError(this.path, 'its digest file lacks blocks');
    this.#blocks = new Starts(blocks);
  }

  async locate(offset: number, maxLength: number): Promise<LayerRun> {
    const index = this.#extents.find(offset);
    const start = this.#extents.at(index);
    const end = Math.min(this.#extents.at(index + 1), this.virtualSizeBytes, offset + maxLength);
    const kind = KINDS[this.#kinds[index] ?? 0];
    if (kind !== 'data') return kind === 'zero' ? zeroRun(end - offset) : holeRun(end - offset);
    const position = (this.#streamBefore[index] ?? 0) + offset - start;
    return plainRun(this.#parts.dataStart + position, end - offset);
  }

  async readRun(run: LayerRun, target: Buffer): Promise<void> {
    const start = run.hostOffset - this.#parts.dataStart;
    for (let done = 0; done < target.length; ) {
      const index = this.#blocks.find(start + done);
      const bytes = await this.#block(index);
      const skip = start + done - this.#blocks.at(index);
      done += bytes.copy(target, done, skip);
    }
  }

  #block(index: number): Promise<Buffer> {
    const known = this.#kept.get(index);
    if (known !== undefined) return known;
    const reading = this.#readBlock(index);
    this.#kept.set(index, reading);
    for (const [oldest] of this.#kept) {
      if (this.#kept.size <= KEPT_BLOCKS) break;
      this.#kept.delete(oldest);
    }
    return reading;
  }

  async #readBlock(index: number): Promise<Buffer> {
    const { map, digests, dataStart } = this.#parts;
    const position = this.#blocks.at(index);
    const bytes = Buffer.allocUnsafe(Math.min(this.#blocks.at(index + 1), map.dataBytes) - position);
    await this.file.read(bytes, dataStart + position);
    const { block, digest } = digests.entry(index);
    const hasher = createXxh128();
    hasher.update(bytes);
    if (Buffer.from(hasher.digest()).equals(digest)) return bytes;
    throw new ReplicaFileError(this.path, `its bytes are not those that were sealed (guest MiB ${block})`);
  }
}
