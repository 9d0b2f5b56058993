/** The progress sidecar: how much of a layer's data stream is durable. docs/formats/replica-files.md. */
import type { FileHandle } from 'node:fs/promises';
import { effect } from '../../lib/fault-points.ts';
import { openOrCreate, readFully, writeFully } from './durable-files.ts';
import { isSealed, seal } from './record.ts';

const MAGIC = 'OFFSPRG\0';
const VERSION = 1;
const SLOT_BYTES = 512;
const SLOT_COUNT = 2;

interface Slot {
  readonly sequence: number;
  readonly durableBytes: number;
}

/**
 * Two slots of one sector, written in turns, so that a torn write leaves the older one. Durable progress
 * never falls: a writer of an older epoch that is behind leaves the file alone.
 */
export class ProgressFile {
  readonly #file: FileHandle;
  readonly #mapDigest: Uint8Array;

  private constructor(file: FileHandle, mapDigest: Uint8Array) {
    this.#file = file;
    this.#mapDigest = mapDigest;
  }

  /** Opens the sidecar of the layout with this map, or makes an empty one. */
  static async open(path: string, mapDigest: Uint8Array): Promise<ProgressFile> {
    return new ProgressFile(await openOrCreate(path, 'replica.progress.create'), mapDigest);
  }

  /** @returns bytes of the data stream; 0 when no slot is whole */
  async durableBytes(): Promise<number> {
    return Math.max(0, ...(await this.#slots()).map(slot => slot?.durableBytes ?? 0));
  }

  /**
   * Notes, durably, that this much of the stream is durable.
   * @param again writes it even where it is noted: an earlier write may not have become durable, which is told once
   */
  async store(durableBytes: number, again = false): Promise<void> {
    const slots = await this.#slots();
    if (again || slots.every(slot => slot === null || slot.durableBytes < durableBytes)) {
      const newest = slots.reduce((left, right) =>
        (right?.sequence ?? 0) > (left?.sequence ?? 0) ? right : left,
      );
      const slot = { sequence: (newest?.sequence ?? 0) + 1, durableBytes };
      // Sequence numbers alternate between the slots, so the newest one is never overwritten.
      const at = (slot.sequence % SLOT_COUNT) * SLOT_BYTES;
      await writeFully('replica.progress.write', this.#file, encodeSlot(slot, this.#mapDigest), at);
    }
    await effect('replica.progress.fdatasync', () => this.#file.datasync());
  }

  /** Forgets all progress, durably: the image that it speaks of is gone. */
  async reset(): Promise<void> {
    await writeFully('replica.progress.reset', this.#file, Buffer.alloc(SLOT_BYTES * SLOT_COUNT), 0);
    await effect('replica.progress.syncReset', () => this.#file.datasync());
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #slots(): Promise<readonly (Slot | null)[]> {
    const bytes = Buffer.alloc(SLOT_BYTES * SLOT_COUNT);
    await readFully(this.#file, bytes, 0);
    return Array.from({ length: SLOT_COUNT }, (_, index) =>
      decodeSlot(bytes.subarray(index * SLOT_BYTES, (index + 1) * SLOT_BYTES), this.#mapDigest),
    );
  }
}

function encodeSlot({ sequence, durableBytes }: Slot, mapDigest: Uint8Array): Buffer {
  const bytes = Buffer.alloc(SLOT_BYTES);
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeBigUInt64LE(BigInt(sequence), 16);
  bytes.writeBigUInt64LE(BigInt(durableBytes), 24);
  bytes.set(mapDigest, 32);
  return seal(bytes);
}

function decodeSlot(bytes: Buffer, mapDigest: Uint8Array): Slot | null {
  if (bytes.toString('latin1', 0, 8) !== MAGIC || bytes.readUInt32LE(8) !== VERSION) return null;
  if (!isSealed(bytes) || !bytes.subarray(32, 48).equals(mapDigest)) return null;
  const sequence = Number(bytes.readBigUInt64LE(16));
  const durableBytes = Number(bytes.readBigUInt64LE(24));
  // The next sequence must be a number too.
  const isPossible = sequence < Number.MAX_SAFE_INTEGER && Number.isSafeInteger(durableBytes);
  return isPossible ? { sequence, durableBytes } : null;
}
