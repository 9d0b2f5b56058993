/** A backing chain: qcow2 and raw layers, opened as hostile input and read as the guest sees them. */
import type { ExtentMap } from '../domain/extent-map.ts';
import { type BackingSpec, parseBackingName } from './chain-backing.ts';
import { ChainCache } from './chain-cache.ts';
import { type FileIdentity, ImageFile, type OpenImage, type OpenImageFile } from './chain-file.ts';
import type { Layer, LayerInfo } from './chain-layer.ts';
import { buildExtentMap } from './chain-map.ts';
import { type ChainRun, ChainWalker } from './chain-walker.ts';
import { ImageChainLoopError, ImageChainTooDeepError, ImageVanishedError } from './errors.ts';
import { Qcow2Layer } from './qcow2/qcow2-layer.ts';
import { createRawLayer } from './raw/raw-layer.ts';

export const MAX_CHAIN_DEPTH = 64;
const PARALLEL_READS = 4;

export interface OpenChainOptions {
  /** Every layer's real path must lie under one of these folders. */
  readonly imageRoots: readonly string[];
  /** The format of the top file; what lies beneath says its own. */
  readonly topFormat?: 'qcow2' | 'raw';
  /** How a file is opened; from the file system, where nothing else is given. */
  readonly openFile?: OpenImageFile;
  /** Puts another reader over each layer, such as one that verifies what it reads. */
  readonly wrapLayer?: ((layer: Layer) => Promise<Layer>) | undefined;
}

export interface MapOptions {
  /** The base layer, by its index or its file: the map is of the layers above it. Without it, of the whole chain. */
  readonly above?: number | FileIdentity | undefined;
  /** The map's clusters are at least this large, a power of two; 4 KiB by default. */
  readonly leastClusterBytes?: number | undefined;
}

export interface ImageChain {
  /** The top first. */
  readonly layers: readonly LayerInfo[];
  /** The size of the disk that the guest sees: the top's. */
  readonly virtualSizeBytes: number;
  /** What the operator should know, in words. */
  readonly warnings: readonly string[];
  /** Fills `target` with guest bytes. @throws {RangeError} beyond the disk's end @throws {ImageError} */
  read(target: Buffer, offset: number): Promise<void>;
  /** @throws {RangeError} when the base is none of the layers @throws {ImageError} */
  map(options?: MapOptions): Promise<ExtentMap>;
  /** What the guest bytes at `offset` are, as the whole chain has them: for readers that go from start to end. */
  walk(): { locate(offset: number, maxLength: number): Promise<ChainRun> };
  /** One layer, to be read by itself: what its overlays hide shows, too. */
  layerAt(index: number): Layer;
  /** @returns the index of the layer that is this file, -1 for none */
  indexOf(identity: FileIdentity): number;
  /** The first bytes of a layer's file, at most `maxBytes`. */
  readFileStart(index: number, maxBytes: number): Promise<Buffer>;
  /** The state of a layer's open file, as it was when it was opened. */
  fileStats(index: number): OpenImage['stats'];
  close(): Promise<void>;
}

/**
 * Opens an image and all that it stands on.
 * @throws {ImageError} with the file and its fault; nothing stays open then
 */
export async function openChain(topPath: string, options: OpenChainOptions): Promise<ImageChain> {
  const layers: Layer[] = [];
  const warnings: string[] = [];
  try {
    await openLayers(
      { path: topPath, format: options.topFormat ?? 'qcow2', backing: undefined },
      options,
      layers,
    );
    for (const layer of layers) {
      const count = layer instanceof Qcow2Layer ? layer.header.internalSnapshots : 0;
      if (count > 0)
        warnings.push(
          `${layer.path}: its ${count} internal snapshots are not replicated, only the active state`,
        );
    }
    const { wrapLayer } = options;
    const read = wrapLayer === undefined ? layers : await Promise.all(layers.map(wrapLayer));
    return new OpenedChain(read, warnings);
  } catch (error) {
    await closeAll(layers);
    throw error;
  }
}

async function openLayers(top: BackingSpec, options: OpenChainOptions, layers: Layer[]): Promise<void> {
  const cache = new ChainCache();
  let spec: BackingSpec | null = top;
  while (spec !== null) {
    const file: OpenImage = await openNamed(spec.path, options, layers.at(-1)?.path ?? null);
    try {
      const twin = layers.find(layer => isSameFile(layer.identity, file.identity));
      if (twin !== undefined) {
        throw new ImageChainLoopError(spec.path, `the chain of ${top.path} comes back to this file`);
      }
      if (layers.length === MAX_CHAIN_DEPTH) throw new ImageChainTooDeepError(top.path, MAX_CHAIN_DEPTH);
      if (spec.format === 'raw') {
        layers.push(createRawLayer(file));
        return;
      }
      const layer: Qcow2Layer = await Qcow2Layer.open(file, cache, layers.length);
      layers.push(layer);
      spec = beneath(layer, spec.backing);
    } catch (error) {
      await file.close();
      throw error;
    }
  }
}

function beneath(layer: Qcow2Layer, override: BackingSpec | null | undefined): BackingSpec | null {
  if (override !== undefined) return override;
  const { backingName, backingFormat } = layer.header;
  return backingName === null ? null : parseBackingName(layer.path, backingName, backingFormat);
}

async function openNamed(
  path: string,
  { imageRoots, openFile = ImageFile.open }: OpenChainOptions,
  usedBy: string | null,
): Promise<OpenImage> {
  try {
    return await openFile(path, imageRoots);
  } catch (error) {
    if (!(error instanceof ImageVanishedError) || usedBy === null) throw error;
    throw new ImageVanishedError(path, `${error.fault} (the backing file of ${usedBy})`, { cause: error });
  }
}

class OpenedChain implements ImageChain {
  readonly layers: readonly Layer[];
  readonly virtualSizeBytes: number;
  readonly warnings: readonly string[];

  constructor(layers: readonly Layer[], warnings: readonly string[]) {
    this.layers = layers;
    this.virtualSizeBytes = layers[0]?.virtualSizeBytes ?? 0;
    this.warnings = warnings;
  }

  async read(target: Buffer, offset: number): Promise<void> {
    if (offset < 0 || offset + target.length > this.virtualSizeBytes) {
      throw new RangeError(`guest bytes ${offset} to ${offset + target.length} of ${this.virtualSizeBytes}`);
    }
    const walker = this.walk();
    const parts: { found: ChainRun; part: Buffer }[] = [];
    for (let at = 0; at < target.length; ) {
      const found = await walker.locate(offset + at, target.length - at);
      const part = target.subarray(at, at + found.run.length);
      if (found.run.kind === 'data') parts.push({ found, part });
      else part.fill(0);
      at += found.run.length;
    }
    await forEachParallel(parts, PARALLEL_READS, ({ found, part }) => found.layer?.readRun(found.run, part));
  }

  async map({ above, leastClusterBytes }: MapOptions = {}): Promise<ExtentMap> {
    const index = typeof above === 'object' ? this.indexOf(above) : (above ?? this.layers.length);
    if (index < 0 || index > this.layers.length) throw new RangeError('the base is none of the layers');
    return buildExtentMap({
      virtualSizeBytes: this.virtualSizeBytes,
      layers: this.layers.slice(0, index),
      baseSizeBytes: this.layers[index]?.virtualSizeBytes ?? null,
      leastClusterBytes,
    });
  }

  layerAt(index: number): Layer {
    return this.#layer(index);
  }

  walk(): ChainWalker {
    return new ChainWalker(this.layers);
  }

  indexOf(identity: FileIdentity): number {
    return this.layers.findIndex(layer => isSameFile(layer.identity, identity));
  }

  async readFileStart(index: number, maxBytes: number): Promise<Buffer> {
    const { file } = this.#layer(index);
    const bytes = Buffer.alloc(Math.min(maxBytes, file.sizeBytes));
    await file.read(bytes, 0);
    return bytes;
  }

  fileStats(index: number): OpenImage['stats'] {
    return this.#layer(index).file.stats;
  }

  async close(): Promise<void> {
    await closeAll(this.layers);
  }

  #layer(index: number): Layer {
    const layer = this.layers[index];
    if (layer === undefined) throw new RangeError(`layer ${index} of ${this.layers.length}`);
    return layer;
  }
}

/** Does `work` for each item, at most `limit` at once. The first error ends it, after the works that run. */
export async function forEachParallel<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void> | undefined,
): Promise<void> {
  let next = 0;
  const runner = async (): Promise<void> => {
    while (next < items.length) {
      const item = items[next++] as T;
      await work(item);
    }
  };
  const runners = Array.from({ length: Math.min(limit, items.length) }, runner);
  const outcomes = await Promise.allSettled(runners);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

function isSameFile(left: FileIdentity, right: FileIdentity): boolean {
  return left.device === right.device && left.inode === right.inode;
}

async function closeAll(layers: readonly Layer[]): Promise<void> {
  await Promise.all(layers.map(layer => layer.file.close()));
}
