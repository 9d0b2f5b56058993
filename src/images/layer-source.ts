/** What a sender reads: the content of the layers between a base and a top, as one stream of data bytes. */
import { stat } from 'node:fs/promises';
import type { LayerProof } from '../contract/sync.ts';
import { PlanBrokenError } from '../domain/errors.ts';
import type { Extent, ExtentMap } from '../domain/extent-map.ts';
import { forEachParallel, type ImageChain, type OpenChainOptions, openChain } from './chain.ts';
import { ImageError, ImageUnreadableError } from './errors.ts';
import { compareProofs, fileStateOf, proofsOf } from './proof.ts';

const PARALLEL_RANGES = 4;
/** So often the files are looked at while they are read: hours of a transfer for nothing help nobody. */
const LOOK_EVERY_MS = 1_000;

export interface LayerSourceOptions {
  readonly topPath: string;
  /** The layer that the other site has already; null for the whole content. */
  readonly basePath: string | null;
  readonly imageRoots: readonly string[];
  /** The map's clusters are at least this large; 4 KiB by default. */
  readonly leastClusterBytes?: number;
  /** What was decided on; the files must still be the same. */
  readonly proof: readonly LayerProof[];
  /** As of `openChain`. */
  readonly wrapLayer?: OpenChainOptions['wrapLayer'];
}

/** Fits the port of the same shape in transfer/. */
export interface ChainLayerSource {
  readonly map: ExtentMap;
  readonly warnings: readonly string[];
  /**
   * Fills `target` with the bytes of the data stream from `position` on. Calls may overlap.
   * @throws {PlanBrokenError} when a layer's file is seen to be another than that of the proof; it is looked at each
   * second, and whenever reading fails, since what reads like damage may be a change
   */
  readStream(target: Buffer, position: number): Promise<void>;
  /**
   * Opens every layer anew by its name and compares file and header: what was read until now is of one generation.
   * @throws {PlanBrokenError} when a layer's file is no longer the one of the proof
   */
  assertUnchanged(): Promise<void>;
  /** The same content with another map: shares the files, and only the first one is closed. */
  withMap(map: ExtentMap): ChainLayerSource;
  close(): Promise<void>;
}

/**
 * Opens the chain, compares it with its proof and maps it.
 * @throws {PlanBrokenError} when a layer is gone, replaced or edited, or the base is none of the layers
 * @throws {ImageError} when a table turns out to be broken while the proof still holds
 */
export async function openLayerSource(options: LayerSourceOptions): Promise<ChainLayerSource> {
  const chain = await openAsDecided(options);
  try {
    assertProven(options, await proofsOf(chain), 'since the decision');
    const above = options.basePath === null ? undefined : await findBase(chain, options.basePath);
    return new OpenedLayerSource(chain, await mapOf(chain, above, options), options);
  } catch (error) {
    await chain.close();
    throw error;
  }
}

/** Tables that cannot be read are a fault of the image only while it is the one that was decided on. */
async function mapOf(
  chain: ImageChain,
  above: number | undefined,
  options: LayerSourceOptions,
): Promise<ExtentMap> {
  try {
    return await chain.map({ above, leastClusterBytes: options.leastClusterBytes });
  } catch (error) {
    await assertSame(options);
    throw error;
  }
}

async function assertSame(options: LayerSourceOptions): Promise<void> {
  const chain = await openAsDecided({ ...options, wrapLayer: undefined });
  try {
    assertProven(options, await proofsOf(chain), 'while it was sent');
  } finally {
    await chain.close();
  }
}

function assertProven(
  { topPath, proof }: LayerSourceOptions,
  now: readonly LayerProof[],
  when: string,
): void {
  const doubt = compareProofs(proof, now);
  if (doubt !== null) throw new PlanBrokenError(`${topPath} changed ${when}: ${doubt}`);
}

/** The proof shows that the chain could be opened; if it cannot be now, it is not the same any more. */
async function openAsDecided({ topPath, imageRoots, wrapLayer }: LayerSourceOptions): Promise<ImageChain> {
  try {
    return await openChain(topPath, { imageRoots, wrapLayer });
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    throw new PlanBrokenError(`${topPath} changed since the decision: ${error.message}`, { cause: error });
  }
}

async function findBase(chain: ImageChain, basePath: string): Promise<number> {
  const { device, inode } = await stateOf(basePath);
  const index = chain.indexOf({ device, inode });
  if (index < 0) {
    throw new PlanBrokenError(`the base ${basePath} is no longer a layer beneath ${chain.layers[0]?.path}`);
  }
  return index;
}

async function stateOf(path: string): Promise<Omit<LayerProof, 'headerDigest'>> {
  try {
    return fileStateOf(await stat(path, { bigint: true }));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') {
      throw new PlanBrokenError(`${path} is gone`, { cause: error });
    }
    throw new ImageUnreadableError(path, `cannot be looked at: ${message}`, { cause: error });
  }
}

class OpenedLayerSource implements ChainLayerSource {
  readonly map: ExtentMap;
  readonly warnings: readonly string[];
  readonly #chain: ImageChain;
  readonly #options: LayerSourceOptions;
  readonly #cursor: StreamCursor;
  #lookedAtMs = performance.now();

  constructor(chain: ImageChain, map: ExtentMap, options: LayerSourceOptions) {
    this.map = map;
    this.warnings = chain.warnings;
    this.#chain = chain;
    this.#options = options;
    this.#cursor = new StreamCursor(map);
  }

  async readStream(target: Buffer, position: number): Promise<void> {
    const ranges = this.#cursor.take(position, target.length);
    try {
      await forEachParallel(ranges, PARALLEL_RANGES, ({ at, offset, length }) =>
        this.#chain.read(target.subarray(at, at + length), offset),
      );
    } catch (error) {
      await this.assertUnchanged();
      throw error;
    }
    const nowMs = performance.now();
    if (nowMs - this.#lookedAtMs < LOOK_EVERY_MS) return;
    this.#lookedAtMs = nowMs;
    await this.#look();
  }

  assertUnchanged(): Promise<void> {
    return assertSame(this.#options);
  }

  withMap(map: ExtentMap): ChainLayerSource {
    return new OpenedLayerSource(this.#chain, map, this.#options);
  }

  /** The names and times of the files only: cheap enough for each second. */
  async #look(): Promise<void> {
    const now: LayerProof[] = [];
    for (const [index, layer] of this.#chain.layers.entries()) {
      const headerDigest = this.#options.proof[index]?.headerDigest ?? '';
      now.push({ ...(await stateOf(layer.path)), headerDigest });
    }
    assertProven(this.#options, now, 'while it was sent');
  }

  close(): Promise<void> {
    return this.#chain.close();
  }
}

interface StreamRange {
  /** Bytes into the piece of the stream that was asked for. */
  readonly at: number;
  /** Guest bytes. */
  readonly offset: number;
  readonly length: number;
}

/** Turns stream positions into guest ranges: going on costs nothing, going back starts over. */
class StreamCursor {
  readonly #map: ExtentMap;
  #extents: Iterator<Extent>;
  #extent: Extent | null = null;
  /** The stream position at which the current extent begins. */
  #start = 0;

  constructor(map: ExtentMap) {
    this.#map = map;
    this.#extents = map[Symbol.iterator]();
  }

  /** Never waits, so overlapping readers cannot confuse it. @throws {RangeError} beyond the stream's end */
  take(position: number, length: number): StreamRange[] {
    if (position < 0 || position + length > this.#map.dataBytes) {
      throw new RangeError(`stream bytes ${position} to ${position + length} of ${this.#map.dataBytes}`);
    }
    if (position < this.#start) this.#restart();
    const ranges: StreamRange[] = [];
    for (let at = 0; at < length; ) {
      const extent = this.#seek(position + at);
      const skip = position + at - this.#start;
      const take = Math.min(length - at, extent.length - skip);
      ranges.push({ at, offset: extent.offset + skip, length: take });
      at += take;
    }
    return ranges;
  }

  #seek(position: number): Extent {
    while (this.#extent === null || position >= this.#start + this.#extent.length) {
      this.#start += this.#extent?.length ?? 0;
      this.#extent = this.#nextData();
    }
    return this.#extent;
  }

  #nextData(): Extent {
    for (;;) {
      const { value, done } = this.#extents.next();
      if (done) throw new RangeError("beyond the map's data");
      if (value.kind === 'data') return value;
    }
  }

  #restart(): void {
    this.#extents = this.#map[Symbol.iterator]();
    this.#extent = null;
    this.#start = 0;
  }
}
