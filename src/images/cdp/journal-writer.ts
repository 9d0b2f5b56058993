/** Appends to a CDP journal: records in order, group commit, segments one after the other. docs/formats/cdp-journal.md. */
import { randomBytes } from 'node:crypto';
import { writeSync, writevSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { effect, effectSync } from '../../lib/fault-points.ts';
import { makeDirectories, syncDirectory, writeFully } from '../replica/durable-files.ts';
import { type JournalPlace, JournalWriteError } from './errors.ts';
import { PreparedSegment } from './prepared-segment.ts';
import {
  encodeRecordHeader,
  MAX_MARKER_BYTES,
  MAX_PAYLOAD_BYTES,
  type NewRecord,
  payloadChecksum,
  RECORD_HEADER_BYTES,
  type RecordType,
  recordBytes,
  SALT_BYTES,
} from './record.ts';
import {
  encodeSegmentHeader,
  isSegmentSize,
  type JournalIdentity,
  SEGMENT_HEADER_BYTES,
  segmentPath,
} from './segment.ts';

export interface JournalWriterOptions {
  readonly directory: string;
  readonly identity: JournalIdentity;
  /** A multiple of 4096 from 2 MiB to 1 GiB. */
  readonly segmentBytes: number;
  /** Where another writer may have been taken for dead: a segment of its making is never written to. */
  readonly exclusive?: boolean;
  /** Writes records in this thread: less delay for each, and all of the process waits while the system lets it wait. */
  readonly inThread?: boolean;
}

interface Waiting {
  readonly record: NewRecord;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const MAX_BATCH_BUFFERS = 900;
const MAX_BATCH_BYTES = 8 * 1024 * 1024;
const ZEROS = Buffer.alloc(8);

/**
 * One writer a journal. After the first error nothing more is written, and every later call fails with it:
 * what the file holds is then a prefix of what was appended.
 */
export class JournalWriter {
  readonly #options: JournalWriterOptions;
  readonly #waiting: Waiting[] = [];
  #file: FileHandle;
  #salt: Buffer;
  #next: PreparedSegment;
  /** The end of what was written, and of what is durable. */
  #written: JournalPlace;
  #durable: JournalPlace;
  /** The newest record that was appended, written or not. */
  #newest: { sequence: number; timeUs: number };
  #pumping: Promise<void> | null = null;
  #syncing: Promise<void> | null = null;
  #failure: JournalWriteError | null = null;

  private constructor(options: JournalWriterOptions, file: FileHandle, salt: Buffer, at: JournalPlace) {
    this.#options = options;
    this.#file = file;
    this.#salt = salt;
    this.#written = at;
    this.#durable = at;
    this.#newest = at;
    this.#next = preparedSegment(options, at.segment + 1);
  }

  /**
   * Begins a journal in a directory of its own, durably.
   * @param start what every record of the epoch comes after
   */
  static async create(
    options: JournalWriterOptions,
    start: { readonly sequence: number; readonly timeUs: number },
  ): Promise<JournalWriter> {
    const { directory, segmentBytes } = options;
    if (!isSegmentSize(segmentBytes)) throw new RangeError(`no size for a segment: ${segmentBytes}`);
    await makeDirectories(directory);
    const file = await preparedSegment(options, 0).take();
    const at = { segment: 0, hostOffset: SEGMENT_HEADER_BYTES, index: 0, ...start };
    const salt = await begin(options, file, at);
    return new JournalWriter(options, file, salt, at);
  }

  /** Goes on after a tail that {@link openTail} found; the file's rest was zeroed there. */
  static resume(
    options: JournalWriterOptions,
    tail: { readonly file: FileHandle; readonly salt: Buffer; readonly place: JournalPlace },
  ): JournalWriter {
    return new JournalWriter(options, tail.file, tail.salt, tail.place);
  }

  /** The end of what the file holds; the page cache may have it alone. */
  get written(): JournalPlace {
    return this.#written;
  }

  /** The end of what survives a power cut. */
  get durable(): JournalPlace {
    return this.#durable;
  }

  /**
   * Resolves when the record is written, not when it is durable. Records are written in the order of the calls.
   * @throws {JournalWriteError}
   */
  append(record: NewRecord): Promise<void> {
    checkRecord(record, this.#newest);
    this.#newest = { sequence: record.sequence, timeUs: record.timeUs };
    return new Promise((resolve, reject) => {
      this.#waiting.push({ record, resolve, reject });
      this.#pumping ??= this.#pump();
    });
  }

  /**
   * Makes all that was appended before the call durable; calls at the same time share their fdatasync.
   * @returns {@link durable} @throws {JournalWriteError}
   */
  async sync(): Promise<JournalPlace> {
    await this.#pumping;
    this.#assertSound();
    const { index } = this.#written;
    while (this.#durable.index < index) {
      this.#syncing ??= this.#syncFile().finally(() => {
        this.#syncing = null;
      });
      await this.#syncing;
      this.#assertSound();
    }
    return this.#durable;
  }

  /** Makes all durable and lets go of the files. */
  async close(): Promise<void> {
    try {
      await this.sync();
    } finally {
      await this.#file.close();
      await this.#next.discard();
    }
  }

  async #pump(): Promise<void> {
    // What is appended in the same turn is written together.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#writeSome();
    this.#pumping = null;
  }

  async #writeSome(): Promise<void> {
    const batch = this.#takeBatch();
    try {
      this.#assertSound();
      await (batch.length === 0 ? this.#rollOver() : this.#write(batch));
      for (const { resolve } of batch) resolve();
    } catch (error) {
      this.#fail(error);
      for (const { reject } of [...batch, ...this.#waiting.splice(0)]) reject(this.#failure);
    }
  }

  /** Takes what fits into this segment, with room left for its end; empty when the segment is full. */
  #takeBatch(): Waiting[] {
    const { segmentBytes } = this.#options;
    let end = this.#written.hostOffset;
    let count = 0;
    for (const { record } of this.#waiting) {
      const after = end + recordBytes(record);
      if (after + RECORD_HEADER_BYTES > segmentBytes || (count + 1) * 3 > MAX_BATCH_BUFFERS) break;
      if (count > 0 && after - this.#written.hostOffset > MAX_BATCH_BYTES) break;
      end = after;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  async #write(batch: readonly Waiting[]): Promise<void> {
    const buffers: Buffer[] = [];
    let { index } = this.#written;
    for (const { record } of batch) {
      buffers.push(this.#header(record.type, record, index), record.payload);
      buffers.push(ZEROS.subarray(0, -record.payload.length & 7));
      index += 1;
    }
    const lengthBytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    const at = this.#written.hostOffset;
    if (this.#options.inThread === true) writeRecordsNow(this.#file, buffers, lengthBytes, at);
    else await writeRecords(this.#file, buffers, lengthBytes, at);
    const { sequence, timeUs } = (batch.at(-1) as Waiting).record;
    const hostOffset = this.#written.hostOffset + lengthBytes;
    this.#written = { ...this.#written, hostOffset, index, sequence, timeUs };
  }

  #header(type: RecordType, record: Omit<NewRecord, 'type'>, index: number): Buffer {
    const { segment, hostOffset } = this.#durable;
    const durableOffset = segment === this.#written.segment ? hostOffset : SEGMENT_HEADER_BYTES;
    const checksum = payloadChecksum(record.payload);
    return encodeRecordHeader(
      { ...record, type, index, durableOffset, payloadChecksum: checksum },
      this.#salt,
    );
  }

  /** Ends this segment, durably, before the next has a head: a head says that all before it was durable. */
  async #rollOver(): Promise<void> {
    const { sequence, timeUs, index } = this.#written;
    const end = { sequence, timeUs, offset: 0, length: 0, payload: Buffer.alloc(0) };
    const header = this.#header('end', end, index);
    await writeFully('journal.end.write', this.#file, header, this.#written.hostOffset);
    await this.#syncing;
    await effect('journal.end.fdatasync', () => this.#file.datasync());
    const file = await this.#next.take();
    const at: JournalPlace = {
      segment: this.#written.segment + 1,
      hostOffset: SEGMENT_HEADER_BYTES,
      index,
      sequence,
      timeUs,
    };
    this.#salt = await begin(this.#options, file, at);
    await this.#file.close();
    this.#file = file;
    this.#written = at;
    this.#durable = at;
    this.#next = preparedSegment(this.#options, at.segment + 1);
    this.#next.prepare();
  }

  async #syncFile(): Promise<void> {
    const place = this.#written;
    try {
      await effect('journal.records.fdatasync', () => this.#file.datasync());
    } catch (error) {
      // After a failed fsync the kernel may have dropped the pages: nothing that follows could be trusted.
      this.#fail(error);
      return;
    }
    if (place.index > this.#durable.index) this.#durable = place;
  }

  #fail(error: unknown): void {
    this.#failure ??=
      error instanceof JournalWriteError ? error : new JournalWriteError(this.#options.directory, error);
  }

  #assertSound(): void {
    if (this.#failure !== null) throw this.#failure;
  }
}

const preparedSegment = ({ directory, segmentBytes, exclusive }: JournalWriterOptions, segment: number) =>
  new PreparedSegment(segmentPath(directory, segment), segmentBytes, exclusive);

/** Writes and syncs the head of a segment, and its name. @returns its salt */
async function begin(
  { directory, identity, segmentBytes }: JournalWriterOptions,
  file: FileHandle,
  { segment, index, sequence, timeUs }: JournalPlace,
): Promise<Buffer> {
  const salt = randomBytes(SALT_BYTES);
  const head = { ...identity, segment, segmentBytes, firstIndex: index, sequence, timeUs, salt };
  await writeFully('journal.head.write', file, encodeSegmentHeader(head), 0);
  await effect('journal.head.fdatasync', () => file.datasync());
  await syncDirectory(directory, 'journal.head.syncDirectory');
  return salt;
}

/** Writes records; a write that the disk's end cut short is gone on with, and fails there. */
function writeRecords(
  file: FileHandle,
  buffers: readonly Buffer[],
  lengthBytes: number,
  hostOffset: number,
): Promise<void> {
  return effect('journal.records.write', async () => {
    let { bytesWritten: done } = await file.writev(buffers, hostOffset);
    if (done === lengthBytes) return;
    const all = Buffer.concat(buffers);
    while (done < lengthBytes) {
      const { bytesWritten } = await file.write(all, done, lengthBytes - done, hostOffset + done);
      done += bytesWritten;
    }
  });
}

/** As {@link writeRecords}, in this thread. */
function writeRecordsNow(
  { fd }: FileHandle,
  buffers: readonly Buffer[],
  lengthBytes: number,
  hostOffset: number,
): void {
  effectSync('journal.records.writeNow', () => {
    let done = writevSync(fd, buffers, hostOffset);
    if (done === lengthBytes) return;
    const all = Buffer.concat(buffers);
    while (done < lengthBytes) done += writeSync(fd, all, done, lengthBytes - done, hostOffset + done);
  });
}

function checkRecord(record: NewRecord, newest: { sequence: number; timeUs: number }): void {
  const { type, length, payload, sequence, timeUs } = record;
  const expected = type === 'write' || type === 'checkpoint' ? length : 0;
  const limit = type === 'checkpoint' ? MAX_MARKER_BYTES : MAX_PAYLOAD_BYTES;
  if (payload.length !== expected || payload.length > limit) {
    throw new RangeError(`a ${type} of ${length} bytes with a payload of ${payload.length}`);
  }
  if (sequence <= newest.sequence || timeUs < newest.timeUs) {
    throw new RangeError(
      `sequence ${sequence} at ${timeUs} us after ${newest.sequence} at ${newest.timeUs} us`,
    );
  }
}
