/** Follows a sealed layer's data block by block and compares it with its digest file. */
import { BLOCK_BYTES, type BlockDigest } from '../../domain/content-digest.ts';
import { createXxh128, toHex } from '../../lib/digest.ts';
import type { Layer } from '../chain-layer.ts';
import type { LayerDigests } from './digest-file.ts';
import { ReplicaFileError } from './errors.ts';
import { sealedPartsOf } from './sealed-parts.ts';

/**
 * Begins the check of one layer; its tables are compared with what was sealed at once.
 * @param contentDigest what the catalog says, hexadecimal: a digest file that was exchanged is no proof
 */
export async function checkLayer(layer: Layer, contentDigest: string): Promise<LayerCheck> {
  try {
    const { digests } = await sealedPartsOf(layer, `${layer.path}.digests`);
    const isOurs = toHex(digests.contentDigest) === contentDigest;
    return new LayerCheck(layer.path, digests, isOurs ? null : 'its digest file tells of another content');
  } catch (error) {
    if (error instanceof ReplicaFileError) return new LayerCheck(layer.path, null, error.fault);
    throw error;
  }
}

export class LayerCheck {
  readonly path: string;
  readonly #expected: Iterator<BlockDigest>;
  #fault: string | null;

  constructor(path: string, digests: LayerDigests | null, fault: string | null) {
    this.path = path;
    this.#expected = (digests?.blocks() ?? [])[Symbol.iterator]();
    this.#fault = fault;
  }

  /** What speaks against the layer, without its name. */
  get fault(): string | null {
    return this.#fault;
  }

  /** True while nothing speaks against the layer: then all of its data is to be given to {@link block}. */
  get isOpen(): boolean {
    return this.#fault === null;
  }

  /** In words, null for none; after {@link end} that proves the layer. */
  get doubt(): string | null {
    return this.#fault === null ? null : `${this.path}: ${this.#fault}`;
  }

  /**
   * The layer's data of the next block that has any.
   * @param bytes in order of the guest; null when some could not be read
   */
  block(block: number, bytes: Buffer | null): void {
    if (this.#fault !== null) return;
    const next = this.#expected.next();
    const isRight =
      !next.done && next.value.block === block && bytes !== null && xxh128(bytes).equals(next.value.digest);
    if (!isRight) this.#fault = `the data at ${block * BLOCK_BYTES} is not what was sealed`;
  }

  end(): void {
    if (this.#fault === null && !this.#expected.next().done) this.#fault = 'data that was sealed is missing';
  }
}

function xxh128(bytes: Uint8Array): Buffer {
  const hasher = createXxh128();
  hasher.update(bytes);
  return Buffer.from(hasher.digest());
}
