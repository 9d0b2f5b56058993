/** What a disk reads as while its journal grows: the base, and above it every record that is in the file. */
import { JournalReader } from './journal-reader.ts';
import { composed, PayloadReader, type ReadBase } from './payload-reader.ts';
import { applyRecord } from './replay.ts';
import { REPLAY_BLOCK_BYTES, ReplayIndex } from './replay-index.ts';

/** Reads of a guest jump. */
const WINDOW_BYTES = 64 * 1024;

/** The index grows with what was written, so it is only made when somebody reads. */
export class LiveState {
  readonly #directory: string;
  readonly #virtualSizeBytes: number;
  readonly #readBase: ReadBase;
  #opened: {
    readonly reader: JournalReader;
    readonly index: ReplayIndex;
    readonly payloads: PayloadReader;
  } | null = null;
  /** One read at a time: they share the window, and the reader. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(directory: string, virtualSizeBytes: number, readBase: ReadBase) {
    this.#directory = directory;
    this.#virtualSizeBytes = virtualSizeBytes;
    this.#readBase = readBase;
  }

  /** Fills `target` with guest bytes. Sees all that the journal's writer had written before the call. */
  read(target: Buffer, offset: number): Promise<void> {
    const done = this.#turn.then(() => this.#read(target, offset));
    this.#turn = done.catch(() => {});
    return done;
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#opened?.reader.close();
    await this.#opened?.payloads.close();
    this.#opened = null;
  }

  async #read(target: Buffer, offset: number): Promise<void> {
    const { index, payloads } = await this.#upToDate();
    await this.#readBase(target, offset);
    const end = offset + target.length;
    for (let block = Math.floor(offset / REPLAY_BLOCK_BYTES); block * REPLAY_BLOCK_BYTES < end; block += 1) {
      const source = index.sourceOf(block);
      if (source === 'base') continue;
      const start = block * REPLAY_BLOCK_BYTES;
      const length = Math.min(REPLAY_BLOCK_BYTES, this.#virtualSizeBytes - start);
      const [from, until] = [Math.max(start, offset), Math.min(start + length, end)];
      const part = target.subarray(from - offset, until - offset);
      if (source === 'zeros') part.fill(0);
      else if (typeof source === 'number') {
        (await payloads.read(source + (from - start), until - from)).copy(part);
      } else {
        const bytes = await composed(source, block, length, payloads, this.#readBase);
        bytes.copy(part, 0, from - start, until - start);
      }
    }
  }

  async #upToDate() {
    this.#opened ??= {
      reader: await JournalReader.open(this.#directory),
      index: new ReplayIndex(this.#virtualSizeBytes),
      payloads: new PayloadReader(this.#directory, WINDOW_BYTES),
    };
    const { reader, index, payloads } = this.#opened;
    for (let records = await reader.next(); records.length > 0; records = await reader.next()) {
      for (const record of records) applyRecord(index, record, this.#directory);
      // A window that ends within what was written since would be taken for the segment's end.
      payloads.forget();
    }
    return { index, payloads };
  }
}
