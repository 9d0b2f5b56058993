/**
 * The digest of a disk as its guest sees it, whatever layers, holes and clusters it is made of: both ends of a
 * comparison compute it over images that are laid out differently.
 */
import { BLOCK_BYTES, type CreateHasher, type Hasher } from './content-digest.ts';

/** All bytes in order, in pieces of any size. */
export class GuestDigester {
  readonly #createHasher: CreateHasher;
  readonly #whole: Hasher;
  /** Of the current block; null while it has only zeros. */
  #block: Hasher | null = null;
  #offset = 0;

  constructor(virtualSizeBytes: number, createHasher: CreateHasher) {
    this.#createHasher = createHasher;
    this.#whole = createHasher();
    this.#whole.update(u64(virtualSizeBytes));
  }

  /** Bytes taken so far. */
  get taken(): number {
    return this.#offset;
  }

  update(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, BLOCK_BYTES - (this.#offset % BLOCK_BYTES));
      const part = bytes.subarray(at, at + length);
      if (this.#block !== null || !isZero(part)) this.#started().update(part);
      this.#advance(length);
      at += length;
    }
  }

  /** As {@link update} with as many zeros, without hashing blocks that hold nothing else. */
  zeros(length: number): void {
    for (let left = length; left > 0; ) {
      if (this.#block === null) {
        this.#offset += left;
        return;
      }
      const take = Math.min(left, BLOCK_BYTES - (this.#offset % BLOCK_BYTES));
      this.#block.update(ZEROS.subarray(0, take));
      this.#advance(take);
      left -= take;
    }
  }

  /** @returns 16 bytes: over the size, then number and digest of each block that has a byte other than zero */
  finish(): Uint8Array {
    this.#endBlock();
    return this.#whole.digest();
  }

  #started(): Hasher {
    if (this.#block === null) {
      this.#block = this.#createHasher();
      this.#block.update(ZEROS.subarray(0, this.#offset % BLOCK_BYTES));
    }
    return this.#block;
  }

  #advance(length: number): void {
    this.#offset += length;
    if (this.#offset % BLOCK_BYTES === 0) this.#endBlock();
  }

  #endBlock(): void {
    if (this.#block === null) return;
    this.#whole.update(u64(Math.ceil(this.#offset / BLOCK_BYTES) - 1));
    this.#whole.update(this.#block.digest());
    this.#block = null;
  }
}

const ZEROS = new Uint8Array(BLOCK_BYTES);

/** True when every byte is zero; ends at the first that is not. */
export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += 1) if (bytes[at] !== 0) return false;
  return true;
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}
