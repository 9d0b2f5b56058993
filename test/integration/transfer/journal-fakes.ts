/** Journals in memory at both ends of a connection. */
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  JournalCut,
  JournalIdentity,
  JournalSink,
  JournalSource,
  TransferRecord,
} from '../../../src/transfer/ports.ts';

export const EPOCH_UUID = '0b9ff0cf-2c2a-4f0e-9a36-5f0a4f9f2a11';

export const IDENTITY: JournalIdentity = {
  epochUuid: EPOCH_UUID,
  host: 'web-01',
  disk: 'vda',
  virtualSizeBytes: 1 << 30,
  start: { sequence: 100, timeUs: 1_700_000_000_000_000 },
};

/** Record `index` of a journal in which each tenth record is a checkpoint. */
export function recordOf(index: number, payloadBytes = 512): TransferRecord {
  const sequence = IDENTITY.start.sequence + 2 * index + 1;
  const timeUs = IDENTITY.start.timeUs + 1000 * index;
  if (index % 10 === 9) {
    const payload = Buffer.from(index % 50 === 49 ? `before-${index}` : '');
    return { type: 'checkpoint', index, sequence, timeUs, offset: 0, length: payload.length, payload };
  }
  const offset = (index % 1000) * 4096;
  if (index % 10 === 4) {
    return { type: 'discard', index, sequence, timeUs, offset, length: 65_536, payload: Buffer.alloc(0) };
  }
  const payload = Buffer.alloc(payloadBytes, index);
  return { type: 'write', index, sequence, timeUs, offset, length: payload.length, payload };
}

export const recordsOf = (count: number, from = 0, payloadBytes = 512): TransferRecord[] =>
  Array.from({ length: count }, (_, at) => recordOf(from + at, payloadBytes));

/** As a journal counts them. */
export const storedBytesOf = (records: readonly TransferRecord[]): number =>
  records.reduce((sum, { payload }) => sum + 72 + Math.ceil(payload.length / 8) * 8, 0);

/** A journal that grows while it is read; the window ends when it is told so. */
export class MemoryJournalSource implements JournalSource {
  readonly identity = IDENTITY;
  readonly records: TransferRecord[] = [];
  readonly starts: JournalCut[] = [];
  /** Records that were handed out, those that came twice included. */
  given = 0;
  isDrained = false;
  isOver = false;
  isClosed = false;
  /** Thrown when all records were given. */
  fault: Error | null = null;
  batch = 7;

  constructor(records: readonly TransferRecord[] = [], isOver = true) {
    this.records.push(...records);
    this.isOver = isOver;
  }

  async *read(from: JournalCut, signal: AbortSignal): AsyncGenerator<readonly TransferRecord[], undefined> {
    this.starts.push(from);
    for (let at = from.nextIndex; ; ) {
      signal.throwIfAborted();
      const records = this.records.slice(at, at + this.batch);
      at += records.length;
      this.given += records.length;
      this.isDrained = records.length === 0;
      if (records.length > 0) yield records;
      else if (this.fault !== null) throw this.fault;
      else if (this.isOver) return;
      else await sleep(2, undefined, { signal });
    }
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }
}

/** A journal that survives its sinks; what was not committed is lost when a sink is opened anew. */
export class MemoryJournal {
  readonly records: TransferRecord[] = [];
  /** Of each sink that was opened: the first record it wanted. */
  readonly starts: number[] = [];
  readonly commits: number[] = [];
  committed = 0;
  appended = 0;
  openSinks = 0;
  onAppend: () => void | Promise<void> = () => {};
  onCommit: () => void | Promise<void> = () => {};
  takeOver: (error: Error) => void = () => {};

  open(): JournalSink {
    this.records.length = this.committed;
    this.starts.push(this.committed);
    this.openSinks += 1;
    const { promise, resolve } = Promise.withResolvers<Error>();
    this.takeOver = resolve;
    return new MemorySink(this, promise);
  }

  get recordBytes(): number {
    return storedBytesOf(this.records);
  }
}

class MemorySink implements JournalSink {
  readonly takenOver: Promise<Error>;
  readonly #journal: MemoryJournal;
  #isAppending = false;
  #isCommitting = false;
  #isClosed = false;

  constructor(journal: MemoryJournal, takenOver: Promise<Error>) {
    this.#journal = journal;
    this.takenOver = takenOver;
  }

  get end() {
    const { sequence, timeUs } = this.#journal.records.at(-1) ?? IDENTITY.start;
    return { nextIndex: this.#journal.records.length, sequence, timeUs };
  }

  get recordBytes(): number {
    return this.#journal.recordBytes;
  }

  async append(records: readonly TransferRecord[]): Promise<void> {
    if (this.#isAppending || this.#isClosed) throw new Error('appends overlap, or come after the close');
    this.#isAppending = true;
    try {
      await this.#journal.onAppend();
      for (const record of records) {
        if (record.index !== this.#journal.records.length) throw new Error('a record that is not the next');
        this.#journal.records.push({ ...record, payload: Buffer.from(record.payload) });
        this.#journal.appended += 1;
      }
    } finally {
      this.#isAppending = false;
    }
  }

  async commit(): Promise<{ nextIndex: number; recordBytes: number }> {
    if (this.#isCommitting || this.#isClosed) throw new Error('commits overlap, or come after the close');
    this.#isCommitting = true;
    try {
      const { nextIndex } = this.end;
      const { recordBytes } = this;
      await this.#journal.onCommit();
      this.#journal.committed = nextIndex;
      this.#journal.commits.push(nextIndex);
      return { nextIndex, recordBytes };
    } finally {
      this.#isCommitting = false;
    }
  }

  async close(): Promise<void> {
    if (this.#isAppending || this.#isCommitting || this.#isClosed) throw new Error('closed while it works');
    this.#isClosed = true;
    this.#journal.openSinks -= 1;
  }
}
