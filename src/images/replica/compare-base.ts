/**
 * What a site has of a disk, hashed as its guest sees it, so that only what differs need travel. In the same pass
 * every layer is compared with its digest file: only a base that is proven to its last byte may carry an overlay.
 */
import { BLOCK_BYTES } from '../../domain/content-digest.ts';
import type { MapShape } from '../../domain/extent-map.ts';
import { blake3 } from '../../lib/digest.ts';
import { type ImageChain, openChain } from '../chain.ts';
import { type ChainRun, ChainWalker } from '../chain-walker.ts';
import { ImageError } from '../errors.ts';
import { checkLayer, type LayerCheck } from './layer-check.ts';

/** Fits the type of the same shape in transfer/. */
export interface BaseRun {
  /** `zero` reads as zeros; `unknown` cannot be read. */
  readonly kind: 'zero' | 'hashed' | 'unknown';
  /** Guest bytes. */
  readonly offset: number;
  readonly clusters: number;
  /** BLAKE3 of each cluster, 32 bytes each, the disk's last one as far as it goes; empty unless `hashed`. */
  readonly hashes: Buffer;
}

export interface OpenCompareBaseInput {
  readonly topPath: string;
  readonly topFormat: 'qcow2' | 'raw';
  readonly imageRoots: readonly string[];
  /** Of the disk that it is compared with; what the base has beyond is not hashed. */
  readonly shape: MapShape;
  /**
   * The content digest that each layer must have, hexadecimal, the top first; null for images that have no digest
   * files and so are never proven.
   */
  readonly expected: readonly string[] | null;
}

/** A base that is open for one pass. */
export interface OpenedCompareBase {
  /** Every cluster of the shape once, in rising order. */
  runs(): AsyncGenerator<BaseRun, undefined>;
  /** Why the base is not proven, in words, null when it is: after all runs. */
  readonly doubt: string | null;
  /** The layers whose bytes are not those that were sealed: after all runs. */
  readonly damage: readonly { readonly path: string; readonly fault: string }[];
  /** The files of the chain, the top first. */
  readonly realPaths: readonly string[];
  close(): Promise<void>;
}

/** Opens an image and its layers for reading. @throws {ImageError} when the chain or its tables cannot be read */
export async function openCompareBase(input: OpenCompareBaseInput): Promise<OpenedCompareBase> {
  const { topPath, topFormat, imageRoots, shape, expected } = input;
  const chain = await openChain(topPath, { imageRoots, topFormat });
  try {
    // Tables that cannot be read could not be copied from, either.
    await chain.map();
    const checks: LayerCheck[] = [];
    for (const [index, digest] of (expected ?? []).entries()) {
      if (index < chain.layers.length) checks.push(await checkLayer(chain.layerAt(index), digest));
    }
    return new CompareBase(chain, shape, checks, chainDoubt(chain, expected));
  } catch (error) {
    await chain.close();
    throw error;
  }
}

function chainDoubt({ layers }: ImageChain, expected: readonly string[] | null): string | null {
  if (expected === null) return 'it has no digests of its own';
  if (expected.length === layers.length) return null;
  return `its chain has ${layers.length} layers and should have ${expected.length}`;
}

/** What is known of a cluster; a later one outweighs an earlier one. */
const ZERO = 0;
const DATA = 1;
const UNKNOWN = 2;

interface Range {
  readonly start: number;
  readonly end: number;
}

class CompareBase implements OpenedCompareBase {
  readonly #chain: ImageChain;
  readonly #shape: MapShape;
  readonly #checks: readonly LayerCheck[];
  readonly #walkers: readonly ChainWalker[];
  readonly #scratch = Buffer.allocUnsafe(BLOCK_BYTES);
  readonly #window: Window;
  #doubt: string | null;

  constructor(chain: ImageChain, shape: MapShape, checks: readonly LayerCheck[], doubt: string | null) {
    this.#chain = chain;
    this.#shape = shape;
    this.#checks = checks;
    this.#doubt = doubt;
    this.#walkers = chain.layers.map((_, index) => new ChainWalker([chain.layerAt(index)]));
    this.#window = new Window(shape);
  }

  get realPaths(): readonly string[] {
    return this.#chain.layers.map(({ realPath }) => realPath);
  }

  get damage(): readonly { path: string; fault: string }[] {
    return this.#checks.flatMap(({ path, fault }) => (fault === null ? [] : [{ path, fault }]));
  }

  get doubt(): string | null {
    return this.#doubt ?? this.#checks.find(({ doubt }) => doubt !== null)?.doubt ?? null;
  }

  async *runs(): AsyncGenerator<BaseRun, undefined> {
    const { virtualSizeBytes } = this.#shape;
    const stepBytes = this.#window.stepBytes;
    const sizes = this.#checks.map((_, index) => this.#chain.layers[index]?.virtualSizeBytes ?? 0);
    const end = Math.max(virtualSizeBytes, ...sizes);
    let zeros: Range = { start: 0, end: 0 };
    for (let offset = 0; offset < end; ) {
      const quiet = await this.#quietBytes(offset, end);
      const quietEnd = offset + quiet >= end ? end : offset + quiet - (quiet % stepBytes);
      if (quietEnd > offset) {
        zeros = { start: zeros.start, end: Math.min(quietEnd, virtualSizeBytes) };
        offset = quietEnd;
        continue;
      }
      await this.#readStep(offset, end);
      for (const run of this.#window.runs(offset)) {
        if (run.kind === 'zero') {
          zeros = { start: zeros.start, end: this.#endOf(run) };
          continue;
        }
        if (zeros.end > zeros.start) yield this.#zeroRun(zeros);
        zeros = { start: this.#endOf(run), end: this.#endOf(run) };
        yield run;
      }
      offset += stepBytes;
    }
    if (zeros.end > zeros.start) yield this.#zeroRun(zeros);
    for (const check of this.#checks) check.end();
  }

  close(): Promise<void> {
    return this.#chain.close();
  }

  #endOf({ offset, clusters }: BaseRun): number {
    return Math.min(offset + clusters * this.#shape.clusterSizeBytes, this.#shape.virtualSizeBytes);
  }

  #zeroRun({ start, end }: Range): BaseRun {
    const clusters = Math.ceil((end - start) / this.#shape.clusterSizeBytes);
    return { kind: 'zero', offset: start, clusters, hashes: Buffer.alloc(0) };
  }

  /** For so many bytes from `offset` on no layer has data. */
  async #quietBytes(offset: number, end: number): Promise<number> {
    let quiet = end - offset;
    for (const [index, layer] of this.#chain.layers.entries()) {
      if (offset >= layer.virtualSizeBytes || quiet === 0) continue;
      const found = await this.#locate(index, offset, layer.virtualSizeBytes - offset);
      if (found === null || found.run.kind === 'data') return 0;
      const isToEnd = offset + found.run.length >= layer.virtualSizeBytes;
      if (!isToEnd) quiet = Math.min(quiet, found.run.length);
    }
    return quiet;
  }

  async #readStep(start: number, end: number): Promise<void> {
    this.#window.clear();
    const stepEnd = Math.min(start + this.#window.stepBytes, end);
    for (let at = start; at < stepEnd; at += BLOCK_BYTES) {
      await this.#readBlock(start, { start: at, end: Math.min(at + BLOCK_BYTES, stepEnd) });
    }
  }

  /** Reads what each layer has of the block, the top first; what it answers for is closed to those beneath. */
  async #readBlock(stepStart: number, block: Range): Promise<void> {
    let open: readonly Range[] = cut([block], { start: this.#shape.virtualSizeBytes, end: Infinity });
    for (const [index, layer] of this.#chain.layers.entries()) {
      // Beyond a layer's end its overlay reads zeros; what lies deeper does not show.
      open = cut(open, { start: layer.virtualSizeBytes, end: Infinity });
      const within = { start: block.start, end: Math.min(block.end, layer.virtualSizeBytes) };
      open = await this.#readLayer(index, within, stepStart, open);
    }
  }

  /** @param open what no layer above answers for @returns what this one does not answer for, either */
  async #readLayer(
    index: number,
    block: Range,
    stepStart: number,
    open: readonly Range[],
  ): Promise<readonly Range[]> {
    const check = this.#checks[index];
    let left = open;
    let dataBytes = 0;
    let isWhole = true;
    for (let at = block.start; at < block.end; ) {
      const found = await this.#locate(index, at, block.end - at);
      const run = { start: at, end: at + (found?.run.length ?? block.end - at) };
      at = run.end;
      if (found?.run.kind === 'hole') continue;
      const shown = overlap(left, run);
      left = cut(left, run);
      if (found?.run.kind === 'zero' || (shown.length === 0 && check?.isOpen !== true)) continue;
      const part = this.#scratch.subarray(dataBytes, dataBytes + run.end - run.start);
      dataBytes += part.length;
      const isRead = found !== null && (await isReadable(found, part));
      isWhole &&= isRead;
      for (const { start, end } of shown) {
        const bytes = isRead ? part.subarray(start - run.start, end - run.start) : null;
        this.#window.put(start - stepStart, bytes, end - start);
      }
    }
    if (dataBytes > 0) {
      check?.block(block.start / BLOCK_BYTES, isWhole ? this.#scratch.subarray(0, dataBytes) : null);
    }
    return left;
  }

  /** Null when the layer's tables cannot be read. */
  async #locate(index: number, offset: number, most: number): Promise<ChainRun | null> {
    try {
      return await (this.#walkers[index] as ChainWalker).locate(offset, most);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      this.#doubt ??= error.message;
      return null;
    }
  }
}

async function isReadable({ run, layer }: ChainRun, target: Buffer): Promise<boolean> {
  try {
    await layer?.readRun(run, target);
    return true;
  } catch (error) {
    if (error instanceof ImageError) return false;
    throw error;
  }
}

/** A few clusters as the guest sees them. */
class Window {
  /** Guest bytes: whole blocks of digests and whole clusters. */
  readonly stepBytes: number;
  readonly #shape: MapShape;
  readonly #bytes: Buffer;
  readonly #kinds: Uint8Array;

  constructor(shape: MapShape) {
    this.#shape = shape;
    this.stepBytes = Math.max(BLOCK_BYTES, shape.clusterSizeBytes);
    this.#bytes = Buffer.alloc(this.stepBytes);
    this.#kinds = new Uint8Array(this.stepBytes / shape.clusterSizeBytes);
  }

  clear(): void {
    this.#bytes.fill(0);
    this.#kinds.fill(ZERO);
  }

  /** @param bytes null for what cannot be read */
  put(at: number, bytes: Buffer | null, length: number): void {
    const { clusterSizeBytes } = this.#shape;
    bytes?.copy(this.#bytes, at);
    const kind = bytes === null ? UNKNOWN : DATA;
    for (let index = Math.floor(at / clusterSizeBytes); index * clusterSizeBytes < at + length; index += 1) {
      this.#kinds[index] = Math.max(this.#kinds[index] ?? ZERO, kind);
    }
  }

  /** The clusters within the disk, neighbours of one kind together. */
  *runs(stepStart: number): Generator<BaseRun, undefined> {
    const { clusterSizeBytes, virtualSizeBytes } = this.#shape;
    const clusters = Math.ceil((virtualSizeBytes - stepStart) / clusterSizeBytes);
    const count = Math.min(this.#kinds.length, clusters);
    for (let first = 0; first < count; ) {
      const kind = this.#kinds[first];
      let next = first + 1;
      while (next < count && this.#kinds[next] === kind) next += 1;
      const offset = stepStart + first * clusterSizeBytes;
      const isHashed = kind === DATA;
      yield {
        kind: isHashed ? 'hashed' : kind === ZERO ? 'zero' : 'unknown',
        offset,
        clusters: next - first,
        hashes: isHashed ? this.#hash(stepStart, first, next) : Buffer.alloc(0),
      };
      first = next;
    }
  }

  #hash(stepStart: number, first: number, next: number): Buffer {
    const { clusterSizeBytes, virtualSizeBytes } = this.#shape;
    const hashes: Buffer[] = [];
    for (let index = first; index < next; index += 1) {
      const end = Math.min((index + 1) * clusterSizeBytes, virtualSizeBytes - stepStart);
      hashes.push(blake3(this.#bytes.subarray(index * clusterSizeBytes, end)));
    }
    return Buffer.concat(hashes);
  }
}

/** The parts of the ranges that lie within `within`. */
const overlap = (ranges: readonly Range[], within: Range): readonly Range[] =>
  ranges
    .map(({ start, end }) => ({ start: Math.max(start, within.start), end: Math.min(end, within.end) }))
    .filter(({ start, end }) => start < end);

/** The parts of the ranges that lie outside `taken`. */
const cut = (ranges: readonly Range[], taken: Range): readonly Range[] =>
  ranges
    .flatMap(({ start, end }) => [
      { start, end: Math.min(end, taken.start) },
      { start: Math.max(start, taken.end), end },
    ])
    .filter(({ start, end }) => start < end);
