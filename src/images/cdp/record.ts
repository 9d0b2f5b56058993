/** One record of a CDP journal. docs/formats/cdp-journal.md. */
import { xxh3Of } from '../../lib/digest.ts';

export const RECORD_HEADER_BYTES = 72;
/** A longer write becomes several records. */
export const MAX_PAYLOAD_BYTES = 1024 * 1024;
export const MAX_MARKER_BYTES = 255;
export const SALT_BYTES = 8;
/** `OREC`, as the first four bytes of a record. */
export const RECORD_MAGIC = 0x4345524f;

const TYPES = { write: 1, zero: 2, discard: 3, checkpoint: 4, end: 5 } as const;
export type RecordType = keyof typeof TYPES;
const NAMES = new Map<number, RecordType>(
  (Object.entries(TYPES) as [RecordType, number][]).map(([name, code]) => [code, name]),
);

/** What a recorder or a sender hands over; the journal adds the number. */
export interface NewRecord {
  readonly type: Exclude<RecordType, 'end'>;
  /** The host's total order over all disks: rises with each record of the epoch. */
  readonly sequence: number;
  /** Microseconds since 1970 on the recorder's clock, never falling. */
  readonly timeUs: number;
  /** Guest bytes; 0 for a checkpoint. */
  readonly offset: number;
  /** Guest bytes; the marker's length in bytes for a checkpoint. */
  readonly length: number;
  /** The bytes written, or the marker's name in UTF-8; empty for the others. */
  readonly payload: Buffer;
}

export interface RecordHeader {
  readonly type: RecordType;
  /** The record's number in its journal, from 0 and without a gap; an end has that of the record after it. */
  readonly index: number;
  readonly sequence: number;
  readonly timeUs: number;
  readonly offset: number;
  readonly length: number;
  /** Up to where this segment was durable when the record was written. */
  readonly durableOffset: number;
  /** xxh3-64 of the payload; zeros for an empty one. */
  readonly payloadChecksum: Buffer;
}

export interface JournalRecord extends RecordHeader {
  readonly payload: Buffer;
  /** Where the header lies. */
  readonly segment: number;
  readonly hostOffset: number;
}

const HAS_PAYLOAD = new Set<RecordType>(['write', 'checkpoint']);
const NO_CHECKSUM = Buffer.alloc(8);

/** Bytes of payload that follow the header. */
export const payloadBytes = ({ type, length }: Pick<RecordHeader, 'type' | 'length'>): number =>
  HAS_PAYLOAD.has(type) ? length : 0;

/** Header, payload, and zeros up to a multiple of 8. */
export const recordBytes = (header: Pick<RecordHeader, 'type' | 'length'>): number =>
  RECORD_HEADER_BYTES + Math.ceil(payloadBytes(header) / 8) * 8;

export const payloadChecksum = (payload: Buffer): Buffer =>
  payload.length === 0 ? NO_CHECKSUM : xxh3Of(payload);

/** @param salt the segment's, which nobody outside can guess: no guest can write what looks like a header */
export function encodeRecordHeader(header: RecordHeader, salt: Buffer): Buffer {
  const bytes = Buffer.alloc(RECORD_HEADER_BYTES);
  bytes.writeUInt32LE(RECORD_MAGIC, 0);
  bytes.writeUInt8(TYPES[header.type], 4);
  bytes.writeBigUInt64LE(BigInt(header.index), 8);
  bytes.writeBigUInt64LE(BigInt(header.sequence), 16);
  bytes.writeBigUInt64LE(BigInt(header.timeUs), 24);
  bytes.writeBigUInt64LE(BigInt(header.offset), 32);
  bytes.writeBigUInt64LE(BigInt(header.length), 40);
  bytes.writeUInt32LE(header.durableOffset, 48);
  header.payloadChecksum.copy(bytes, 56);
  checksumOf(bytes, salt).copy(bytes, 64);
  return bytes;
}

/**
 * @param bytes at least {@link RECORD_HEADER_BYTES}
 * @returns null unless it is a whole header of this segment, within the format's bounds
 */
export function decodeRecordHeader(bytes: Buffer, salt: Buffer): RecordHeader | null {
  const head = bytes.subarray(0, RECORD_HEADER_BYTES);
  if (head.length < RECORD_HEADER_BYTES || head.readUInt32LE(0) !== RECORD_MAGIC) return null;
  if (!checksumOf(head, salt).equals(head.subarray(64))) return null;
  const type = NAMES.get(head.readUInt8(4));
  if (type === undefined) return null;
  const index = numberAt(head, 8);
  const sequence = numberAt(head, 16);
  const timeUs = numberAt(head, 24);
  const offset = numberAt(head, 32);
  const length = numberAt(head, 40);
  const areSafe =
    Number.isSafeInteger(index) && Number.isSafeInteger(sequence) && Number.isSafeInteger(timeUs);
  if (!areSafe || !Number.isSafeInteger(offset + length)) return null;
  const limit = type === 'checkpoint' ? MAX_MARKER_BYTES : MAX_PAYLOAD_BYTES;
  if (HAS_PAYLOAD.has(type) && length > limit) return null;
  const durableOffset = head.readUInt32LE(48);
  return {
    type,
    index,
    sequence,
    timeUs,
    offset,
    length,
    durableOffset,
    payloadChecksum: Buffer.from(head.subarray(56, 64)),
  };
}

/** The header's first 64 bytes and the salt: the salt stands where the checksum will be. */
function checksumOf(header: Buffer, salt: Buffer): Buffer {
  header.copy(hashed, 0, 0, 64);
  salt.copy(hashed, 64, 0, SALT_BYTES);
  return xxh3Of(hashed);
}
/** Used again for each header: there are millions. */
const hashed = Buffer.alloc(RECORD_HEADER_BYTES);

/** Without a bigint, of which each record would leave five. What is no safe integer is above them all. */
const numberAt = (bytes: Buffer, at: number): number =>
  bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
