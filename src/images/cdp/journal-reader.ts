/** Reads a CDP journal, also one that is being written. docs/formats/cdp-journal.md. */
import { type FileHandle, readdir } from 'node:fs/promises';
import { openOrNull, readFully } from '../replica/durable-files.ts';
import { JournalDamagedError, JournalInvalidError, type JournalPlace } from './errors.ts';
import {
  decodeRecordHeader,
  type JournalRecord,
  MAX_PAYLOAD_BYTES,
  payloadBytes,
  payloadChecksum,
  RECORD_HEADER_BYTES,
  RECORD_MAGIC,
  recordBytes,
} from './record.ts';
import {
  decodeSegmentHeader,
  type JournalIdentity,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  segmentOfName,
  segmentPath,
} from './segment.ts';

/** A record always fits, so that one read is enough for the next record. */
const CHUNK_BYTES = 4 * MAX_PAYLOAD_BYTES;
const RECORD_ALIGNMENT = 8;
/** Of a journal that is being written: where little is new, little is read. */
const SMALL_CHUNK_BYTES = 64 * 1024;
const MAGIC = Buffer.alloc(4);
MAGIC.writeUInt32LE(RECORD_MAGIC, 0);

interface OpenSegment {
  readonly file: FileHandle;
  readonly header: SegmentHeader;
}

export class JournalReader {
  readonly #directory: string;
  #place: JournalPlace;
  #segmentEnd: JournalPlace | null = null;
  #open: OpenSegment | null = null;
  /** Of the first segment that was opened. */
  #identity: JournalIdentity | null = null;
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #readBytes = SMALL_CHUNK_BYTES;

  private constructor(directory: string, place: JournalPlace) {
    this.#directory = directory;
    this.#place = place;
  }

  /** @param from a place that this journal's reader or writer gave */
  static at(directory: string, from: JournalPlace): JournalReader {
    return new JournalReader(directory, from);
  }

  /** At the oldest record that is kept. @throws {JournalInvalidError} when there is no journal */
  static async open(directory: string): Promise<JournalReader> {
    const segment = (await segmentsOf(directory))[0];
    const header = segment === undefined ? null : await readHeader(directory, segment);
    if (segment === undefined || header === null) {
      throw new JournalInvalidError(directory, 'there is no journal');
    }
    return new JournalReader(directory, startOf(header));
  }

  /** The end of what was read. */
  get place(): JournalPlace {
    return this.#place;
  }

  /** The place of the end record that was read last, null before the first. */
  get segmentEnd(): JournalPlace | null {
    return this.#segmentEnd;
  }

  /**
   * The next records, some MiB at most. None at the present end, be it torn or being written: later calls go on there.
   * @param most so many at most, ends of segments included
   * @throws {JournalInvalidError} for a file that is no segment of this journal
   */
  async next(most = Number.POSITIVE_INFINITY): Promise<readonly JournalRecord[]> {
    for (;;) {
      this.#open ??= await this.#openSegment();
      if (this.#open === null) return [];
      const records = await this.#read(this.#open, most);
      if (records.at(-1)?.type !== 'end') return records;
      await this.#leaveSegment();
      if (records.length > 1) return records.slice(0, -1);
    }
  }

  /**
   * To be asked where {@link next} has no more, of a journal that nobody writes.
   * @param durableIndex records before this are known to have been durable
   * @throws {JournalDamagedError} when the end is not the torn tail of a writer that died
   */
  async assertEnd(durableIndex = 0): Promise<void> {
    const from = this.#place;
    const to = (await this.#firstDurableBehind()) ?? (await this.#firstOfLaterSegment());
    if (to === null && from.index >= durableIndex) return;
    throw new JournalDamagedError(segmentPath(this.#directory, from.segment), from, to);
  }

  async close(): Promise<void> {
    await this.#open?.file.close();
    this.#open = null;
  }

  /** The records of one chunk, which is the larger the more the last one held. */
  async #read({ file, header }: OpenSegment, most: number): Promise<JournalRecord[]> {
    for (;;) {
      const target = this.#chunk.subarray(0, this.#readBytes);
      const readBytes = await readFully(file, target, this.#place.hostOffset);
      const isWhole = this.#readBytes === CHUNK_BYTES || readBytes < this.#readBytes;
      const isBegun = readBytes >= 4 && target.readUInt32LE(0) === RECORD_MAGIC;
      if (!isBegun) {
        this.#readBytes = SMALL_CHUNK_BYTES;
        return [];
      }
      // One copy for all: the payloads are parts of it, and the chunk is read into again.
      const bytes = Buffer.from(target.subarray(0, readBytes));
      const before = this.#place.hostOffset;
      const records = this.#take(bytes, header.salt, most);
      const usedBytes = this.#place.hostOffset - before;
      if (usedBytes > readBytes / 2 || records.length === 0) {
        this.#readBytes = Math.min(CHUNK_BYTES, 4 * this.#readBytes);
      } else this.#readBytes = SMALL_CHUNK_BYTES;
      // What is not a whole record here may be one in a larger chunk.
      if (records.length > 0 || isWhole) return records;
    }
  }

  async #openSegment(): Promise<OpenSegment | null> {
    const { segment, index } = this.#place;
    const path = segmentPath(this.#directory, segment);
    const file = await openOrNull(path, 'r');
    if (file === null) return null;
    try {
      const header = await headerOf(path, file, segment);
      if (header === null || header.firstIndex > index) {
        await file.close();
        return null;
      }
      this.#identity ??= header;
      if (!isSameJournal(header, this.#identity)) {
        throw new JournalInvalidError(path, 'the segment is one of another journal');
      }
      return { file, header };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async #leaveSegment(): Promise<void> {
    await this.close();
    this.#place = { ...this.#place, segment: this.#place.segment + 1, hostOffset: SEGMENT_HEADER_BYTES };
  }

  /** The whole records at the start of `bytes`; the payloads are parts of it. */
  #take(bytes: Buffer, salt: Buffer, most: number): JournalRecord[] {
    const records: JournalRecord[] = [];
    let at = 0;
    for (;;) {
      if (records.length >= most) return records;
      const record = recordAt(bytes, at, salt, this.#place);
      if (record === null) return records;
      if (record.type === 'end') this.#segmentEnd = this.#place;
      const lengthBytes = recordBytes(record);
      at += lengthBytes;
      this.#place = {
        segment: this.#place.segment,
        hostOffset: this.#place.hostOffset + lengthBytes,
        index: record.type === 'end' ? record.index : record.index + 1,
        sequence: record.sequence,
        timeUs: record.timeUs,
      };
      records.push(record);
      if (record.type === 'end') return records;
    }
  }

  /** A later record of this segment that says that the place was durable when it was written. */
  async #firstDurableBehind(): Promise<JournalPlace | null> {
    this.#open ??= await this.#openSegment();
    if (this.#open === null) return null;
    const { file, header } = this.#open;
    const { hostOffset, index, segment } = this.#place;
    for (let at = hostOffset; ; at += CHUNK_BYTES - RECORD_HEADER_BYTES) {
      const readBytes = await readFully(file, this.#chunk, at);
      const bytes = this.#chunk.subarray(0, readBytes);
      for (let hit = bytes.indexOf(MAGIC); hit >= 0; hit = bytes.indexOf(MAGIC, hit + 1)) {
        // Records begin at multiples of 8: a guest that writes the magic everywhere costs half as much.
        if ((at + hit) % RECORD_ALIGNMENT !== 0) continue;
        const found = decodeRecordHeader(bytes.subarray(hit), header.salt);
        if (found !== null && found.index >= index && found.durableOffset > hostOffset) {
          const { sequence, timeUs } = found;
          return { segment, hostOffset: at + hit, index: found.index, sequence, timeUs };
        }
      }
      if (readBytes < CHUNK_BYTES) return null;
    }
  }

  /** A segment is begun only when all before it is durable. */
  async #firstOfLaterSegment(): Promise<JournalPlace | null> {
    for (const segment of await segmentsOf(this.#directory)) {
      if (segment <= this.#place.segment) continue;
      const header = await readHeader(this.#directory, segment);
      if (header !== null) return startOf(header);
    }
    return null;
  }
}

const isSameJournal = (one: JournalIdentity, other: JournalIdentity): boolean =>
  one.epoch === other.epoch &&
  one.host === other.host &&
  one.disk === other.disk &&
  one.virtualSizeBytes === other.virtualSizeBytes;

/** The record at `at`, if it is whole and the one that comes next. */
function recordAt(bytes: Buffer, at: number, salt: Buffer, before: JournalPlace): JournalRecord | null {
  const header = decodeRecordHeader(bytes.subarray(at), salt);
  if (header === null || header.index !== before.index) return null;
  const isEnd = header.type === 'end';
  if (isEnd ? header.sequence !== before.sequence : header.sequence <= before.sequence) return null;
  if (header.timeUs < before.timeUs) return null;
  const start = at + RECORD_HEADER_BYTES;
  const end = start + payloadBytes(header);
  if (end > bytes.length) return null;
  const payload = bytes.subarray(start, end);
  if (!payloadChecksum(payload).equals(header.payloadChecksum)) return null;
  const { segment, hostOffset } = before;
  return { ...header, payload, segment, hostOffset };
}

/** The numbers of the segments in a journal's directory, rising. */
export async function segmentsOf(directory: string): Promise<readonly number[]> {
  const names = await readdir(directory);
  return names
    .map(segmentOfName)
    .filter(segment => segment !== null)
    .sort((left, right) => left - right);
}

/** The place of a segment's first record. */
export const startOf = ({ segment, firstIndex, sequence, timeUs }: SegmentHeader): JournalPlace => ({
  segment,
  hostOffset: SEGMENT_HEADER_BYTES,
  index: firstIndex,
  sequence,
  timeUs,
});

/** @returns null when the segment is not begun, or is not there */
export async function readHeader(directory: string, segment: number): Promise<SegmentHeader | null> {
  const path = segmentPath(directory, segment);
  const file = await openOrNull(path, 'r');
  if (file === null) return null;
  try {
    return await headerOf(path, file, segment);
  } finally {
    await file.close();
  }
}

/** @throws {JournalInvalidError} also when the head is that of a segment of another name */
async function headerOf(path: string, file: FileHandle, segment: number): Promise<SegmentHeader | null> {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES);
  const readBytes = await readFully(file, bytes, 0);
  try {
    const header = decodeSegmentHeader(path, bytes.subarray(0, readBytes));
    if (header !== null && header.segment !== segment) {
      throw new JournalInvalidError(path, `the head is that of segment ${header.segment}`);
    }
    return header;
  } catch (error) {
    // A head is durable before the first record: one that is torn has nothing behind it.
    if (bytes.subarray(SEGMENT_HEADER_BYTES).every(byte => byte === 0)) return null;
    throw error;
  }
}
