/** The state of a disk at one point of its CDP journal, as a thin qcow2 overlay over the journal's base. */
import type { ExtentMap } from '../../domain/extent-map.ts';
import { writeImageInAnyOrder } from '../overlay.ts';
import type { BackingFile } from '../qcow2/layout.ts';
import { JournalInvalidError } from './errors.ts';
import { JournalReader } from './journal-reader.ts';
import type { OverlaidBlock } from './overlaid-block.ts';
import { composed, PayloadReader, type ReadBase } from './payload-reader.ts';
import { type JournalRecord, RECORD_HEADER_BYTES } from './record.ts';
import { type PayloadPlace, placeOf, REPLAY_BLOCK_BYTES, ReplayIndex } from './replay-index.ts';
import { segmentPath } from './segment.ts';

export interface Replay {
  readonly index: ReplayIndex;
  /** The newest checkpoint that is part of it; null when it stands at the journal's base. */
  readonly checkpoint: { readonly sequence: number; readonly timeUs: number; readonly marker: string } | null;
}

/**
 * Reads a journal up to the checkpoint of this sequence.
 * @throws {JournalDamagedError} when it is damaged before that, or ends before it
 * @throws {JournalInvalidError} when a record lies beyond the disk
 */
export async function readReplay(
  directory: string,
  input: { readonly virtualSizeBytes: number; readonly untilSequence: number; readonly signal?: AbortSignal },
): Promise<Replay> {
  const { virtualSizeBytes, untilSequence, signal } = input;
  const index = new ReplayIndex(virtualSizeBytes);
  const reader = await JournalReader.open(directory);
  let checkpoint: Replay['checkpoint'] = null;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const records = await reader.next();
      // Whoever names a checkpoint knows that the records before it were durable.
      if (records.length === 0) await reader.assertEnd(reader.place.index + 1);
      for (const record of records) {
        if (record.sequence > untilSequence) return { index, checkpoint };
        if (record.type === 'checkpoint') {
          const { sequence, timeUs, payload } = record;
          checkpoint = { sequence, timeUs, marker: payload.toString('utf8') };
          if (sequence === untilSequence) return { index, checkpoint };
        } else applyRecord(index, record, directory);
      }
    }
  } finally {
    await reader.close();
  }
}

/** Puts a write, zero or discard into the index. @throws {JournalInvalidError} for one beyond the disk */
export function applyRecord(index: ReplayIndex, record: JournalRecord, directory: string): void {
  const { type, offset, length, segment, hostOffset } = record;
  if (type !== 'end' && offset + length > index.virtualSizeBytes) {
    const path = segmentPath(directory, segment);
    throw new JournalInvalidError(path, `record ${record.index} lies beyond the end of the disk`);
  }
  if (type === 'write') index.put(offset, length, placeOf(segment, hostOffset + RECORD_HEADER_BYTES));
  else if (type === 'zero' || type === 'discard') index.put(offset, length, null);
}

export interface ReplayImageInput {
  /** The new file; its directory must exist, and no file of this name. */
  readonly path: string;
  readonly directory: string;
  readonly index: ReplayIndex;
  readonly base: BackingFile;
  /** For blocks of which only a part was written. */
  readonly readBase: ReadBase;
  readonly signal?: AbortSignal;
}

/**
 * Writes the overlay, fsynced; its name appears when all is there. It takes as long as the journal, not the disk: the
 * journal is read once, in its own order, and each block goes to its place.
 * @throws {FileExistsError} @throws {LayoutError} @throws {DiskFullError}
 */
export async function writeReplayImage(input: ReplayImageInput): Promise<void> {
  const { path, directory, index, base, readBase, signal } = input;
  const map = index.map();
  const plan = planOf(index);
  await writeImageInAnyOrder({ path, map, backing: base }, async put => {
    const reader = new PayloadReader(directory);
    try {
      for (const at of plan.order) {
        signal?.throwIfAborted();
        const length = lengthOf(map, plan.blocks[at] as number);
        const bytes = await reader.read(plan.places[at] as PayloadPlace, length);
        await put(bytes, at * REPLAY_BLOCK_BYTES);
      }
      for (const { at, block, overlaid } of plan.overlaid) {
        const bytes = await composed(overlaid, block, lengthOf(map, block), reader, readBase);
        await put(bytes, at * REPLAY_BLOCK_BYTES);
      }
    } finally {
      await reader.close();
    }
  });
}

interface Plan {
  /** The data blocks of the disk, by their number in the data stream. */
  readonly blocks: Float64Array;
  readonly places: Float64Array;
  /** Numbers of whole blocks in the order of the journal. */
  readonly order: Uint32Array;
  readonly overlaid: readonly {
    readonly at: number;
    readonly block: number;
    readonly overlaid: OverlaidBlock;
  }[];
}

function planOf(index: ReplayIndex): Plan {
  let count = 0;
  for (const _ of index.dataBlocks()) count += 1;
  const blocks = new Float64Array(count);
  const places = new Float64Array(count);
  const whole: number[] = [];
  const overlaid: Plan['overlaid'][number][] = [];
  let at = 0;
  for (const { block, source } of index.dataBlocks()) {
    blocks[at] = block;
    if (typeof source === 'number') {
      places[at] = source;
      whole.push(at);
    } else overlaid.push({ at, block, overlaid: source });
    at += 1;
  }
  const order = Uint32Array.from(whole).sort(
    (left, right) => (places[left] as number) - (places[right] as number),
  );
  return { blocks, places, order, overlaid };
}

/** The disk's last block may be short. */
const lengthOf = ({ virtualSizeBytes }: ExtentMap, block: number): number =>
  Math.min(REPLAY_BLOCK_BYTES, virtualSizeBytes - block * REPLAY_BLOCK_BYTES);
