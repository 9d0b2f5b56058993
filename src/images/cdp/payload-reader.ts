/** Bytes of a journal's records, by their places. */
import type { FileHandle } from 'node:fs/promises';
import { openOrNull, readFully } from '../replica/durable-files.ts';
import { JournalInvalidError } from './errors.ts';
import type { OverlaidBlock } from './overlaid-block.ts';
import { hostOffsetOf, type PayloadPlace, REPLAY_BLOCK_BYTES, segmentOf } from './replay-index.ts';
import { segmentPath } from './segment.ts';

const WINDOW_BYTES = 4 * 1024 * 1024;

/** Reads `target.length` bytes of the base image at a guest offset. */
export type ReadBase = (target: Buffer, offset: number) => Promise<void>;

/** The bytes of a block of which only parts were written. @param length of the block; the disk's last may be short */
export async function composed(
  { beneath, pieces }: OverlaidBlock,
  block: number,
  length: number,
  reader: PayloadReader,
  readBase: ReadBase,
): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  if (beneath === 'base') await readBase(bytes, block * REPLAY_BLOCK_BYTES);
  else if (beneath !== 'zeros') (await reader.read(beneath, length)).copy(bytes);
  for (const { start, end, place } of pieces) {
    if (place === null) bytes.fill(0, start, end);
    else (await reader.read(place, end - start)).copy(bytes, start);
  }
  return bytes;
}

/** Reads payloads through a window, so that neighbours cost one read. */
export class PayloadReader {
  readonly #directory: string;
  readonly #window: Buffer;
  #file: FileHandle | null = null;
  #segment = -1;
  #start = 0;
  #end = 0;

  /** @param windowBytes what one read of the file gives at most; large for places that rise */
  constructor(directory: string, windowBytes = WINDOW_BYTES) {
    this.#directory = directory;
    this.#window = Buffer.allocUnsafe(windowBytes);
  }

  /** Valid until the next call. @throws {JournalInvalidError} when the segment ends before */
  async read(place: PayloadPlace, length: number): Promise<Buffer> {
    const segment = segmentOf(place);
    const hostOffset = hostOffsetOf(place);
    if (segment !== this.#segment || hostOffset < this.#start || hostOffset + length > this.#end) {
      await this.#fill(segment, hostOffset);
    }
    if (hostOffset + length > this.#end) {
      throw new JournalInvalidError(segmentPath(this.#directory, segment), 'the segment became shorter');
    }
    return this.#window.subarray(hostOffset - this.#start, hostOffset - this.#start + length);
  }

  /** Of a segment that is being written, what was read before may be zeros that are records by now. */
  forget(): void {
    this.#start = 0;
    this.#end = 0;
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = null;
    this.forget();
  }

  async #fill(segment: number, hostOffset: number): Promise<void> {
    if (segment !== this.#segment || this.#file === null) {
      await this.close();
      const path = segmentPath(this.#directory, segment);
      this.#file = await openOrNull(path, 'r');
      if (this.#file === null) throw new JournalInvalidError(path, 'the segment is gone');
      this.#segment = segment;
    }
    this.#start = hostOffset;
    this.#end = hostOffset + (await readFully(this.#file, this.#window, hostOffset));
  }
}
