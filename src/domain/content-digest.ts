/** The digest of a layer's content: one for each guest-aligned 1 MiB block, and one over all. */
import { type ExtentMap, mapDigestHeader } from './extent-map.ts';

export const BLOCK_BYTES = 1024 * 1024;
export const DIGEST_BYTES = 16;
/** A block's number (u64, little-endian) and its digest, as hashed and as stored. */
export const BLOCK_ENTRY_BYTES = 8 + DIGEST_BYTES;

/** A 128-bit hash; `digest` may be called once. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  digest(): Uint8Array;
}
export type CreateHasher = () => Hasher;

export interface BlockDigest {
  /** The block's guest offset divided by {@link BLOCK_BYTES}. */
  readonly block: number;
  readonly digest: Uint8Array;
}

export function mapDigest(map: ExtentMap, createHasher: CreateHasher): Uint8Array {
  const hasher = createHasher();
  hasher.update(mapDigestHeader(map));
  hasher.update(map.encoded);
  return hasher.digest();
}

/**
 * Takes the data stream (the bytes of all data extents, in map order) in pieces of any size.
 * A block's digest covers its data bytes in order; a block without data has none. Frames,
 * compression and resume leave no trace in it.
 */
export class ContentDigester {
  readonly #blocks = new BlockEntries();
  readonly #createHasher: CreateHasher;
  readonly #mapDigest: Uint8Array;
  readonly #runs: Iterator<{ offset: number; length: number }>;
  #run: { offset: number; length: number } | null;
  #block = -1;
  #hasher: Hasher | null = null;
  #taken = 0;

  constructor(map: ExtentMap, createHasher: CreateHasher) {
    this.#createHasher = createHasher;
    this.#mapDigest = mapDigest(map, createHasher);
    this.#runs = blockRuns(map);
    this.#run = this.#nextRun();
  }

  /** Bytes of the stream taken so far. */
  get taken(): number {
    return this.#taken;
  }

  update(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#run === null) throw new RangeError('more bytes than the extent map has data');
      const { offset, length } = this.#run;
      const block = Math.floor(offset / BLOCK_BYTES);
      if (block !== this.#block) this.#startBlock(block);
      const take = Math.min(length, bytes.length - at);
      this.#hasher?.update(bytes.subarray(at, at + take));
      at += take;
      this.#taken += take;
      this.#run = take < length ? { offset: offset + take, length: length - take } : this.#nextRun();
    }
  }

  /** Ends the stream. @returns the digest over the map and all blocks @throws {RangeError} when bytes are missing */
  finish(): Uint8Array {
    if (this.#run !== null) throw new RangeError('fewer bytes than the extent map has data');
    this.#endBlock();
    const hasher = this.#createHasher();
    hasher.update(this.#mapDigest);
    hasher.update(this.#blocks.bytes);
    return hasher.digest();
  }

  /** {@link BLOCK_ENTRY_BYTES} for each block with data, in rising order; whole after `finish`. */
  get entries(): Uint8Array {
    return this.#blocks.bytes;
  }

  #startBlock(block: number): void {
    this.#endBlock();
    this.#block = block;
    this.#hasher = this.#createHasher();
  }

  #endBlock(): void {
    if (this.#hasher !== null) this.#blocks.push(this.#block, this.#hasher.digest());
    this.#hasher = null;
  }

  #nextRun(): { offset: number; length: number } | null {
    const next = this.#runs.next();
    return next.done ? null : next.value;
  }
}

/** Grows by doubling. Packed, because a disk of some TiB has millions of blocks. */
class BlockEntries {
  #buffer = new Uint8Array(64 * BLOCK_ENTRY_BYTES);
  #length = 0;

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  push(block: number, digest: Uint8Array): void {
    if (this.#length === this.#buffer.length) {
      const grown = new Uint8Array(this.#buffer.length * 2);
      grown.set(this.#buffer);
      this.#buffer = grown;
    }
    const { buffer, byteOffset } = this.#buffer;
    new DataView(buffer, byteOffset).setBigUint64(this.#length, BigInt(block), true);
    this.#buffer.set(digest, this.#length + 8);
    this.#length += BLOCK_ENTRY_BYTES;
  }
}

/** The data extents, cut at block boundaries. */
function* blockRuns(map: ExtentMap): Generator<{ offset: number; length: number }, undefined> {
  for (const { offset, length, kind } of map) {
    if (kind !== 'data') continue;
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const cut = Math.min(end, (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES);
      yield { offset: at, length: cut - at };
      at = cut;
    }
  }
}
