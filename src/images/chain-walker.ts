/** Walks the guest bytes of a chain and says which layer answers for them. */
import { holeRun, type Layer, type LayerRun, partOfRun, zeroRun } from './chain-layer.ts';

/** A run of guest bytes and the layer whose word it is; `hole` where no layer has any. */
export interface ChainRun {
  readonly run: LayerRun;
  readonly layer: Layer | null;
}

/**
 * Remembers each layer's last run: a long hole in the top costs one look, however many runs lie beneath.
 * One walker goes one way; make another to start over.
 */
export class ChainWalker {
  readonly #layers: readonly Layer[];
  readonly #known: ({ start: number; run: LayerRun } | undefined)[] = [];

  /** @param layers the top first; what lies beneath the last shows as holes */
  constructor(layers: readonly Layer[]) {
    this.#layers = layers;
  }

  /** The longest run at `offset` that is found cheaply, at most `maxLength` bytes, all of one kind and layer. */
  async locate(offset: number, maxLength: number): Promise<ChainRun> {
    let length = maxLength;
    for (const [index, layer] of this.#layers.entries()) {
      // Beyond a layer's end its overlay reads zeros; what lies deeper does not show.
      if (offset >= layer.virtualSizeBytes) return { run: zeroRun(length), layer };
      length = Math.min(length, layer.virtualSizeBytes - offset);
      const run = await this.#runOf(index, layer, offset, length);
      length = run.length;
      if (run.kind !== 'hole') return { run, layer };
    }
    return { run: holeRun(length), layer: null };
  }

  async #runOf(index: number, layer: Layer, offset: number, maxLength: number): Promise<LayerRun> {
    const known = this.#known[index];
    if (known !== undefined && offset >= known.start && offset < known.start + known.run.length) {
      const skip = offset - known.start;
      return partOfRun(known.run, skip, Math.min(maxLength, known.run.length - skip));
    }
    const run = await layer.locate(offset, maxLength);
    this.#known[index] = { start: offset, run };
    return run;
  }
}
