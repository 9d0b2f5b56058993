/** A qcow2 image as a layer of a chain. */
import type { ChainCache } from '../chain-cache.ts';
import type { OpenImage } from '../chain-file.ts';
import {
  holeRun,
  joinRuns,
  type Layer,
  type LayerRun,
  type PackedCluster,
  plainRun,
  zeroRun,
} from '../chain-layer.ts';
import { ImageCorruptError, ImageUnsupportedError } from '../errors.ts';
import { MAX_HEADER_BYTES, parseQcow2Header, peekClusterSize, type Qcow2Header } from './header.ts';
import { decodeL1Entry, decodeL2Entry, EntryFault, type TableShape, type UnitRun } from './l2-entry.ts';
import { unpackCluster } from './unpack.ts';

const SLICE_BYTES = 64 * 1024;
const PEEK_BYTES = 64 * 1024;

/** One piece of an L1 or L2 table: entries `first` to `first + count`. */
interface Slice {
  readonly bytes: Buffer;
  readonly first: number;
}

export class Qcow2Layer implements Layer {
  readonly format = 'qcow2';
  readonly path: string;
  readonly realPath: string;
  readonly virtualSizeBytes: number;
  readonly clusterSizeBytes: number;
  readonly granularity: number;
  readonly identity: Layer['identity'];
  readonly fileSizeBytes: number;
  readonly header: Qcow2Header;
  readonly file: OpenImage;
  readonly #cache: ChainCache;
  readonly #index: number;
  readonly #shape: TableShape;
  readonly #entryBytes: number;
  /** Guest bytes under one L1 entry. */
  readonly #l1Reach: number;

  private constructor(file: OpenImage, header: Qcow2Header, cache: ChainCache, index: number) {
    const unitsPerCluster = header.extendedL2 ? 32 : 1;
    const { version, clusterSizeBytes, extendedL2 } = header;
    this.path = file.path;
    this.realPath = file.realPath;
    this.identity = file.identity;
    this.fileSizeBytes = file.sizeBytes;
    this.header = header;
    this.virtualSizeBytes = header.virtualSizeBytes;
    this.clusterSizeBytes = clusterSizeBytes;
    this.granularity = clusterSizeBytes / unitsPerCluster;
    this.file = file;
    this.#cache = cache;
    this.#index = index;
    this.#shape = { version, clusterSizeBytes, extendedL2, unitsPerCluster, unitBytes: this.granularity };
    this.#entryBytes = extendedL2 ? 16 : 8;
    this.#l1Reach = (clusterSizeBytes / this.#entryBytes) * clusterSizeBytes;
  }

  /**
   * Reads and checks the header and the L1 table.
   * @param index the layer's place in the chain, below 64; it keeps layers apart in the shared cache
   * @throws {ImageUnsupportedError} @throws {ImageCorruptError}
   */
  static async open(file: OpenImage, cache: ChainCache, index: number): Promise<Qcow2Layer> {
    const start = await readStart(file, PEEK_BYTES);
    const clusterSizeBytes = peekClusterSize(file.path, start);
    if (clusterSizeBytes === null) throw new ImageUnsupportedError(file.path, 'is not a qcow2 image');
    const bytes = clusterSizeBytes <= PEEK_BYTES ? start : await readStart(file, MAX_HEADER_BYTES);
    const header = parseQcow2Header(file.path, bytes, file.sizeBytes);
    const layer = new Qcow2Layer(file, header, cache, index);
    await layer.#checkL1();
    return layer;
  }

  async locate(offset: number, maxLength: number): Promise<LayerRun> {
    const end = Math.min(offset + maxLength, this.virtualSizeBytes);
    let run = await this.#locateOnce(offset, end);
    while (offset + run.length < end) {
      const joined = joinRuns(run, await this.#locateOnce(offset + run.length, end));
      if (joined === null) break;
      run = joined;
    }
    return run;
  }

  async readRun(run: LayerRun, target: Buffer): Promise<void> {
    if (run.packed === null) return this.file.read(target, run.hostOffset);
    const cluster = await this.#unpacked(run.packed);
    cluster.copy(target, 0, run.packedSkip, run.packedSkip + target.length);
  }

  /** The run at `offset` as far as one slice of a table tells. */
  async #locateOnce(offset: number, end: number): Promise<LayerRun> {
    const l1Index = Math.floor(offset / this.#l1Reach);
    const l1 = await this.#l1Slice(l1Index);
    const l2Offset = this.#decodeL1(l1, l1Index);
    if (l2Offset === 0) return holeRun(this.#emptyReach(l1, l1Index, end) - offset);
    return this.#locateInL2(l2Offset, l1Index * this.#l1Reach, offset, end);
  }

  /** Where the L1 entries after `l1Index` stop being empty, in guest bytes, at most `end`. */
  #emptyReach(l1: Slice, l1Index: number, end: number): number {
    const sliceEnd = l1.first + l1.bytes.length / 8;
    let next = l1Index + 1;
    while (next < sliceEnd && next * this.#l1Reach < end && this.#decodeL1(l1, next) === 0) next += 1;
    return Math.min(next * this.#l1Reach, end);
  }

  async #locateInL2(l2Offset: number, l1Start: number, offset: number, end: number): Promise<LayerRun> {
    const { clusterSizeBytes, unitBytes, unitsPerCluster } = this.#shape;
    const entry = Math.floor((offset - l1Start) / clusterSizeBytes);
    const slice = await this.#l2Slice(l2Offset, entry);
    const sliceEnd = slice.first + slice.bytes.length / this.#entryBytes;
    const unit = Math.floor(((offset - l1Start) % clusterSizeBytes) / unitBytes);
    const skip = offset % unitBytes;
    const first = this.#decodeL2(slice, entry, unit, offset);
    const firstLength = Math.min(first.units * unitBytes - skip, end - offset);
    if (first.packed !== null) return this.#packedRun(first.packed, offset, firstLength);
    let run = this.#toRun(first, skip, firstLength);
    let next = unit + first.units === unitsPerCluster ? entry + 1 : sliceEnd;
    while (next < sliceEnd && offset + run.length < end) {
      const units = this.#decodeL2(slice, next, 0, offset + run.length);
      if (units.packed !== null) break;
      const length = Math.min(units.units * unitBytes, end - offset - run.length);
      const joined = joinRuns(run, this.#toRun(units, 0, length));
      if (joined === null) break;
      run = joined;
      next = units.units === unitsPerCluster ? next + 1 : sliceEnd;
    }
    return run;
  }

  #toRun(units: UnitRun, skip: number, length: number): LayerRun {
    if (units.kind === 'data') return plainRun(units.hostOffset + skip, length);
    return units.kind === 'zero' ? zeroRun(length) : holeRun(length);
  }

  #packedRun(packed: PackedCluster, offset: number, length: number): LayerRun {
    return { kind: 'data', length, hostOffset: -1, packed, packedSkip: offset % this.clusterSizeBytes };
  }

  /**
   * Every L2 table must lie in the file, and there cannot be more of them than the file has room for: so the
   * work that an image causes is bounded by its size, however its tables are bent.
   */
  async #checkL1(): Promise<void> {
    const { l1Entries } = this.header;
    const room = this.fileSizeBytes / this.clusterSizeBytes;
    let tables = 0;
    for (let index = 0; index < l1Entries; ) {
      const slice = await this.#l1Slice(index);
      const sliceEnd = slice.first + slice.bytes.length / 8;
      for (; index < sliceEnd; index += 1) if (this.#decodeL1(slice, index) !== 0) tables += 1;
    }
    if (tables > room) {
      throw new ImageCorruptError(
        this.path,
        `${tables} L2 tables, more than fit into the file: some are shared`,
      );
    }
  }

  #l1Slice(index: number): Promise<Slice> | Slice {
    const perSlice = SLICE_BYTES / 8;
    const first = Math.floor(index / perSlice) * perSlice;
    const count = Math.min(perSlice, this.header.l1Entries - first);
    return this.#slice(this.header.l1Offset + first * 8, first, count * 8);
  }

  #l2Slice(l2Offset: number, entry: number): Promise<Slice> | Slice {
    const sliceBytes = Math.min(SLICE_BYTES, this.clusterSizeBytes);
    const perSlice = sliceBytes / this.#entryBytes;
    const first = Math.floor(entry / perSlice) * perSlice;
    return this.#slice(l2Offset + first * this.#entryBytes, first, sliceBytes);
  }

  #slice(hostOffset: number, first: number, sizeBytes: number): Promise<Slice> | Slice {
    const key = this.#cacheKey(hostOffset);
    const known = this.#cache.tables.get(key);
    // An L1 slice's place could be an L2 table's too in a bent image; the length tells them apart well enough.
    if (known !== undefined && known.length === sizeBytes) return { bytes: known, first };
    const bytes = Buffer.alloc(sizeBytes);
    return this.file.read(bytes, hostOffset).then(() => {
      this.#cache.tables.set(key, bytes, sizeBytes);
      return { bytes, first };
    });
  }

  /** Slices lie on multiples of 512 bytes, and a chain has at most 64 layers. */
  #cacheKey(hostOffset: number): number {
    return hostOffset / 8 + this.#index;
  }

  #decodeL1(slice: Slice, index: number): number {
    try {
      return decodeL1Entry(slice.bytes, (index - slice.first) * 8, this.clusterSizeBytes, this.fileSizeBytes);
    } catch (error) {
      throw this.#fault(error, `L1 entry ${index}`);
    }
  }

  #decodeL2(slice: Slice, entry: number, unit: number, offset: number): UnitRun {
    const at = (entry - slice.first) * this.#entryBytes;
    try {
      return decodeL2Entry(slice.bytes, at, unit, this.#shape, this.fileSizeBytes);
    } catch (error) {
      throw this.#fault(error, `L2 entry of guest offset ${offset}`);
    }
  }

  #fault(error: unknown, place: string): unknown {
    if (!(error instanceof EntryFault)) return error;
    return new ImageCorruptError(this.path, `${place}: ${error.message}`);
  }

  async #unpacked(packed: PackedCluster): Promise<Buffer> {
    const key = `${this.#index}:${packed.hostOffset}`;
    const known = this.#cache.unpacked.get(key);
    if (known !== undefined) return known;
    const work = this.#unpack(packed);
    this.#cache.unpacked.set(key, work, this.clusterSizeBytes);
    work.catch(() => this.#cache.unpacked.delete(key));
    return work;
  }

  async #unpack(packed: PackedCluster): Promise<Buffer> {
    const bytes = Buffer.alloc(packed.packedBytes);
    await this.file.read(bytes, packed.hostOffset);
    try {
      return await unpackCluster(bytes, this.header.compression, this.clusterSizeBytes);
    } catch (error) {
      const fault = `the compressed cluster at ${packed.hostOffset} is broken: ${(error as Error).message}`;
      throw new ImageCorruptError(this.path, fault, { cause: error });
    }
  }
}

async function readStart(file: OpenImage, maxBytes: number): Promise<Buffer> {
  const bytes = Buffer.alloc(Math.min(maxBytes, file.sizeBytes));
  await file.read(bytes, 0);
  return bytes;
}
