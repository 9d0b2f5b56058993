/** The bytes of a disk of which most were never written. */

/** The grain of a volume: what was never touched in a block of this size costs nothing. */
export const VOLUME_BLOCK_BYTES = 64 * 1024;

/** A disk in memory, zero where nothing was written. */
export class SparseVolume {
  readonly sizeBytes: number;
  readonly #blocks = new Map<number, Buffer>();

  /** @param sizeBytes a multiple of {@link VOLUME_BLOCK_BYTES} */
  constructor(sizeBytes: number) {
    if (sizeBytes <= 0 || sizeBytes % VOLUME_BLOCK_BYTES !== 0) {
      throw new RangeError(`a volume of ${sizeBytes} bytes is not whole blocks of ${VOLUME_BLOCK_BYTES}`);
    }
    this.sizeBytes = sizeBytes;
  }

  get blockCount(): number {
    return this.sizeBytes / VOLUME_BLOCK_BYTES;
  }

  /** @returns the bytes of one block, shorter than a block never; null where nothing was written */
  block(index: number): Buffer | null {
    return this.#blocks.get(index) ?? null;
  }

  /** @param offset bytes from the start of the volume @throws {RangeError} beyond the volume's end */
  write(offset: number, bytes: Uint8Array): void {
    if (offset < 0 || offset + bytes.length > this.sizeBytes) {
      throw new RangeError(`${bytes.length} bytes at ${offset} do not fit the volume`);
    }
    let taken = 0;
    while (taken < bytes.length) {
      const at = offset + taken;
      const within = at % VOLUME_BLOCK_BYTES;
      const length = Math.min(VOLUME_BLOCK_BYTES - within, bytes.length - taken);
      this.#writable(Math.floor(at / VOLUME_BLOCK_BYTES)).set(bytes.subarray(taken, taken + length), within);
      taken += length;
    }
  }

  #writable(index: number): Buffer {
    const present = this.#blocks.get(index);
    if (present !== undefined) return present;
    const fresh = Buffer.alloc(VOLUME_BLOCK_BYTES);
    this.#blocks.set(index, fresh);
    return fresh;
  }
}
