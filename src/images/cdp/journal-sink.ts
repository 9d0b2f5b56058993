/** What a receiver writes of a disk's journal: records in order, and commits of what is durable. */
import { makeDirectories } from '../replica/durable-files.ts';
import { JournalInvalidError } from './errors.ts';
import { adoptJournal } from './journal-adoption.ts';
import { JournalWriter } from './journal-writer.ts';
import { type NewRecord, recordBytes } from './record.ts';
import type { JournalIdentity } from './segment.ts';

/** Small, since each resumption copies one. */
const SEGMENT_BYTES = 16 * 1024 * 1024;
const MAX_MARKER_BYTES = 255;

/** A record as it travels. */
export interface IncomingRecord extends NewRecord {
  readonly index: number;
}

/** What the catalog is to note, after all of it is durable. */
export interface DurableJournal {
  readonly nextIndex: number;
  /** Of all records of the journal. */
  readonly recordBytes: number;
  /** The newest one since the last commit; null when there was none. */
  readonly checkpoint: { readonly sequence: number; readonly atMs: number } | null;
  readonly markers: readonly { readonly sequence: number; readonly atMs: number; readonly name: string }[];
}

export interface JournalSinkOptions {
  readonly directory: string;
  readonly identity: JournalIdentity;
  readonly start: { readonly sequence: number; readonly timeUs: number };
  /** By the catalog. */
  readonly nextIndex: number;
  readonly recordBytes: number;
  /** Asked before anything is taken away. @throws when the catalog has another number of records by now */
  readonly assertCurrent: () => Promise<void>;
  /** Notes it in the catalog, fenced. */
  readonly onDurable: (durable: DurableJournal) => Promise<void>;
  readonly segmentBytes?: number;
}

/** Fits most of the port of its name in transfer/. */
export interface ReplicaJournal {
  readonly end: { readonly nextIndex: number; readonly sequence: number; readonly timeUs: number };
  readonly recordBytes: number;
  /** @throws {JournalWriteError} @throws {RangeError} for a record that is not the next one */
  append(records: readonly IncomingRecord[]): Promise<void>;
  /** Covers what was appended before the call. @throws {JournalWriteError} @throws what `onDurable` throws */
  commit(): Promise<{ nextIndex: number; recordBytes: number }>;
  close(): Promise<void>;
}

/**
 * Opens a replica's journal where the catalog says that it ends; all that is beyond is dropped.
 * @throws {JournalInvalidError} when the files are another journal's @throws {JournalDamagedError}
 */
export async function openReplicaJournal(options: JournalSinkOptions): Promise<ReplicaJournal> {
  const { directory, identity, start, nextIndex, assertCurrent, segmentBytes = SEGMENT_BYTES } = options;
  await makeDirectories(directory);
  const adopted = await adoptJournal({ directory, nextIndex, assertCurrent });
  if (adopted === null) {
    const writer = await JournalWriter.create({ directory, identity, segmentBytes, exclusive: true }, start);
    return new OpenedJournal(options, writer);
  }
  const { file, header, place } = adopted;
  const isOurs =
    header.epoch === identity.epoch &&
    header.host === identity.host &&
    header.disk === identity.disk &&
    header.virtualSizeBytes === identity.virtualSizeBytes;
  if (!isOurs) {
    await file.close();
    throw new JournalInvalidError(directory, `the segments are of disk ${header.disk} of ${header.host}`);
  }
  const resumed = { directory, identity, segmentBytes: header.segmentBytes, exclusive: true };
  return new OpenedJournal(options, JournalWriter.resume(resumed, { file, salt: header.salt, place }));
}

class OpenedJournal implements ReplicaJournal {
  readonly #writer: JournalWriter;
  readonly #onDurable: JournalSinkOptions['onDurable'];
  #end: ReplicaJournal['end'];
  #recordBytes: number;
  #checkpoint: DurableJournal['checkpoint'] = null;
  #markers: DurableJournal['markers'][number][] = [];

  constructor({ onDurable, nextIndex, recordBytes }: JournalSinkOptions, writer: JournalWriter) {
    const { sequence, timeUs } = writer.written;
    this.#writer = writer;
    this.#onDurable = onDurable;
    this.#end = { nextIndex, sequence, timeUs };
    this.#recordBytes = recordBytes;
  }

  get end(): ReplicaJournal['end'] {
    return this.#end;
  }

  get recordBytes(): number {
    return this.#recordBytes;
  }

  async append(records: readonly IncomingRecord[]): Promise<void> {
    let { nextIndex } = this.#end;
    for (const { index } of records) {
      if (index !== nextIndex) throw new RangeError(`record ${index} where ${nextIndex} was due`);
      nextIndex += 1;
    }
    // Written together; the first failure fails all that come after it.
    await Promise.all(records.map(record => this.#writer.append(record)));
    for (const record of records) this.#note(record);
  }

  async commit(): Promise<{ nextIndex: number; recordBytes: number }> {
    const { nextIndex } = this.#end;
    const noted = { nextIndex, recordBytes: this.#recordBytes };
    const [checkpoint, markers] = [this.#checkpoint, this.#markers];
    this.#checkpoint = null;
    this.#markers = [];
    await this.#writer.sync();
    await this.#onDurable({ ...noted, checkpoint, markers });
    return noted;
  }

  /** What was not committed is not made durable: the next writer drops it. */
  async close(): Promise<void> {
    await this.#writer.close();
  }

  #note(record: IncomingRecord): void {
    const { type, index, sequence, timeUs, payload } = record;
    this.#end = { nextIndex: index + 1, sequence, timeUs };
    this.#recordBytes += recordBytes(record);
    if (type !== 'checkpoint') return;
    // Rounded up: who asks for the state at this time must be given this checkpoint.
    const atMs = Math.ceil(timeUs / 1000);
    this.#checkpoint = { sequence, atMs };
    if (payload.length > 0) this.#markers.push({ sequence, atMs, name: markerName(payload) });
  }
}

/** The journal has the bytes as they are; a catalog and a terminal need words. */
function markerName(payload: Buffer): string {
  let name = payload.toString('utf8').replaceAll(/\p{Cc}/gu, ' ');
  while (Buffer.byteLength(name) > MAX_MARKER_BYTES) name = [...name].slice(0, -1).join('');
  return name;
}
