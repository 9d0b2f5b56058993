/** Which record wrote each block last: what a disk holds above its base at one point of a CDP journal. */
import { type ExtentKind, type ExtentMap, ExtentMapBuilder } from '../../domain/extent-map.ts';
import { OverlaidBlock, type Piece } from './overlaid-block.ts';

export const REPLAY_BLOCK_BYTES = 4096;
const BLOCKS_A_CHUNK = 512;
const CHUNK_BYTES = BLOCKS_A_CHUNK * REPLAY_BLOCK_BYTES;

/** References of whole blocks; larger values are places of payloads. */
const HOLE = 0;
const ZERO = -1;
const PATCHED = -2;
/** Shared by all chunks that read as zeros, until one of their blocks is written: a guest may discard a whole disk. */
const ZERO_CHUNK = new Float64Array(BLOCKS_A_CHUNK).fill(ZERO);

/** Where bytes of a payload lie: `segment * 2^31 + hostOffset`, a safe integer, since a segment has at most 1 GiB. */
export type PayloadPlace = number;
const SEGMENT_FACTOR = 2 ** 31;
export const placeOf = (segment: number, hostOffset: number): PayloadPlace =>
  segment * SEGMENT_FACTOR + hostOffset;
export const segmentOf = (place: PayloadPlace): number => Math.floor(place / SEGMENT_FACTOR);
export const hostOffsetOf = (place: PayloadPlace): number => place % SEGMENT_FACTOR;

/** 8 bytes for each block that was touched, in chunks of 2 MiB of disk. Latest write wins. */
export class ReplayIndex {
  readonly virtualSizeBytes: number;
  readonly #chunks = new Map<number, Float64Array>();
  readonly #overlaid = new Map<number, OverlaidBlock>();

  constructor(virtualSizeBytes: number) {
    this.virtualSizeBytes = virtualSizeBytes;
  }

  /**
   * The bytes of a range are now those at `place`, or zeros where it is null.
   * @throws {RangeError} for a range beyond the disk
   */
  put(offset: number, length: number, place: PayloadPlace | null): void {
    const end = offset + length;
    if (end > this.virtualSizeBytes) throw new RangeError(`bytes ${offset} to ${end} are beyond the disk`);
    let at = offset;
    while (at < end) {
      if (place === null && at % CHUNK_BYTES === 0 && end - at >= CHUNK_BYTES) {
        this.#putZeroChunk(at / CHUNK_BYTES);
        at += CHUNK_BYTES;
        continue;
      }
      const block = Math.floor(at / REPLAY_BLOCK_BYTES);
      const blockStart = block * REPLAY_BLOCK_BYTES;
      const blockEnd = Math.min(blockStart + REPLAY_BLOCK_BYTES, this.virtualSizeBytes);
      const until = Math.min(end, blockEnd);
      const from = place === null ? null : place + (at - offset);
      if (at === blockStart && until === blockEnd) this.#putWhole(block, from ?? ZERO);
      else this.#putPart(block, { start: at - blockStart, end: until - blockStart, place: from });
      at = until;
    }
  }

  /** Blocks as extents: what was written is data, also where only a part was; what was not touched is a hole. */
  map(): ExtentMap {
    const shape = { virtualSizeBytes: this.virtualSizeBytes, clusterSizeBytes: REPLAY_BLOCK_BYTES };
    const builder = new ExtentMapBuilder(shape);
    let at = 0;
    const add = (kind: ExtentKind, until: number): void => {
      const end = Math.min(until, this.virtualSizeBytes);
      builder.add(kind, end - at);
      at = end;
    };
    for (const { block, reference } of this.#touched()) {
      add('hole', block * REPLAY_BLOCK_BYTES);
      add(reference === ZERO ? 'zero' : 'data', (block + 1) * REPLAY_BLOCK_BYTES);
    }
    add('hole', this.virtualSizeBytes);
    return builder.build();
  }

  /** The data blocks in the order of the disk: each has the place of its bytes, or what it is made of. */
  *dataBlocks(): Generator<
    { readonly block: number; readonly source: PayloadPlace | OverlaidBlock },
    undefined
  > {
    for (const { block, reference } of this.#touched()) {
      if (reference === ZERO) continue;
      const overlaid = reference === PATCHED ? this.#overlaid.get(block) : undefined;
      yield { block, source: overlaid ?? reference };
    }
  }

  /** What a block reads as. */
  sourceOf(block: number): 'base' | 'zeros' | PayloadPlace | OverlaidBlock {
    const reference = this.#at(block);
    if (reference === HOLE) return 'base';
    if (reference === ZERO) return 'zeros';
    const overlaid = reference === PATCHED ? this.#overlaid.get(block) : undefined;
    return overlaid ?? reference;
  }

  #putWhole(block: number, reference: number): void {
    if (this.#at(block) === PATCHED) this.#overlaid.delete(block);
    this.#set(block, reference);
  }

  #putZeroChunk(number: number): void {
    const chunk = this.#chunks.get(number);
    if (chunk?.includes(PATCHED)) {
      for (let index = 0; index < BLOCKS_A_CHUNK; index += 1) {
        this.#overlaid.delete(number * BLOCKS_A_CHUNK + index);
      }
    }
    this.#chunks.set(number, ZERO_CHUNK);
  }

  #putPart(block: number, piece: Piece): void {
    const reference = this.#at(block);
    let overlaid = this.#overlaid.get(block);
    if (reference !== PATCHED || overlaid === undefined) {
      const beneath = reference === HOLE ? 'base' : reference === ZERO ? 'zeros' : reference;
      overlaid = new OverlaidBlock(beneath);
      this.#overlaid.set(block, overlaid);
      this.#set(block, PATCHED);
    }
    overlaid.put(piece);
  }

  #at(block: number): number {
    return this.#chunks.get(Math.floor(block / BLOCKS_A_CHUNK))?.[block % BLOCKS_A_CHUNK] ?? HOLE;
  }

  #set(block: number, reference: number): void {
    const number = Math.floor(block / BLOCKS_A_CHUNK);
    let chunk = this.#chunks.get(number);
    if (chunk === undefined || chunk === ZERO_CHUNK) {
      chunk = chunk?.slice() ?? new Float64Array(BLOCKS_A_CHUNK);
      this.#chunks.set(number, chunk);
    }
    chunk[block % BLOCKS_A_CHUNK] = reference;
  }

  *#touched(): Generator<{ block: number; reference: number }, undefined> {
    const numbers = [...this.#chunks.keys()].sort((left, right) => left - right);
    for (const number of numbers) {
      const chunk = this.#chunks.get(number) as Float64Array;
      for (let index = 0; index < BLOCKS_A_CHUNK; index += 1) {
        const reference = chunk[index] as number;
        if (reference !== HOLE) yield { block: number * BLOCKS_A_CHUNK + index, reference };
      }
    }
  }
}
