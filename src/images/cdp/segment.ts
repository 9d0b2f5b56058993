/** The head of a journal's segment, and the names of segments. docs/formats/cdp-journal.md. */
import { join } from 'node:path';
import { isSealed, seal } from '../replica/record.ts';
import { JournalInvalidError } from './errors.ts';
import { SALT_BYTES } from './record.ts';

export const SEGMENT_HEADER_BYTES = 4096;
export const MIN_SEGMENT_BYTES = 2 * 1024 * 1024;
export const MAX_SEGMENT_BYTES = 1024 * 1024 * 1024;

const MAGIC = 'OFFSCDP\0';
const VERSION = 1;
const NAME_BYTES = 64;
const SEGMENT_NAME = /^([0-9]{8})\.cdp$/;

/** Whose journal it is. */
export interface JournalIdentity {
  /** The epoch's UUID. */
  readonly epoch: string;
  readonly host: string;
  readonly disk: string;
  readonly virtualSizeBytes: number;
}

export interface SegmentHeader extends JournalIdentity {
  readonly segment: number;
  /** The file's length. */
  readonly segmentBytes: number;
  /** The number of its first record. */
  readonly firstIndex: number;
  /** Sequence and time of the newest record before it, or of the epoch's start. */
  readonly sequence: number;
  readonly timeUs: number;
  readonly salt: Buffer;
}

/** @param segment from 0 */
export const segmentPath = (directory: string, segment: number): string =>
  join(directory, `${String(segment).padStart(8, '0')}.cdp`);

/** @returns null for any other name */
export function segmentOfName(name: string): number | null {
  const match = SEGMENT_NAME.exec(name);
  return match === null ? null : Number(match[1]);
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeUInt32LE(header.segment, 12);
  Buffer.from(header.epoch.replaceAll('-', ''), 'hex').copy(bytes, 16);
  bytes.writeBigUInt64LE(BigInt(header.segmentBytes), 32);
  bytes.writeBigUInt64LE(BigInt(header.virtualSizeBytes), 40);
  bytes.writeBigUInt64LE(BigInt(header.firstIndex), 48);
  bytes.writeBigUInt64LE(BigInt(header.sequence), 56);
  bytes.writeBigUInt64LE(BigInt(header.timeUs), 64);
  header.salt.copy(bytes, 72, 0, SALT_BYTES);
  bytes.write(header.host, 80, NAME_BYTES, 'latin1');
  bytes.write(header.disk, 80 + NAME_BYTES, NAME_BYTES, 'latin1');
  return seal(bytes);
}

/**
 * @returns null for a segment that was prepared and not begun (zeros)
 * @throws {JournalInvalidError} for anything else that is no whole head
 */
export function decodeSegmentHeader(path: string, bytes: Buffer): SegmentHeader | null {
  const head = bytes.subarray(0, SEGMENT_HEADER_BYTES);
  if (head.every(byte => byte === 0)) return null;
  if (head.length < SEGMENT_HEADER_BYTES || head.toString('latin1', 0, 8) !== MAGIC) {
    throw new JournalInvalidError(path, 'not a segment of a journal');
  }
  if (head.readUInt32LE(8) !== VERSION) {
    throw new JournalInvalidError(path, `journal of unknown version ${head.readUInt32LE(8)}`);
  }
  if (!isSealed(head)) throw new JournalInvalidError(path, 'the head of the segment is damaged');
  const numbers = [32, 40, 48, 56, 64].map(at => Number(head.readBigUInt64LE(at)));
  const [segmentBytes, virtualSizeBytes, firstIndex, sequence, timeUs] = numbers as [
    number,
    number,
    number,
    number,
    number,
  ];
  if (!numbers.every(Number.isSafeInteger) || !isSegmentSize(segmentBytes)) {
    throw new JournalInvalidError(path, 'the head of the segment has a number out of bounds');
  }
  return {
    segment: head.readUInt32LE(12),
    epoch: uuidOf(head.subarray(16, 32)),
    segmentBytes,
    virtualSizeBytes,
    firstIndex,
    sequence,
    timeUs,
    salt: Buffer.from(head.subarray(72, 72 + SALT_BYTES)),
    host: nameAt(head, 80),
    disk: nameAt(head, 80 + NAME_BYTES),
  };
}

export const isSegmentSize = (bytes: number): boolean =>
  bytes >= MIN_SEGMENT_BYTES && bytes <= MAX_SEGMENT_BYTES && bytes % 4096 === 0;

function nameAt(head: Buffer, at: number): string {
  const bytes = head.subarray(at, at + NAME_BYTES);
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end < 0 ? NAME_BYTES : end);
}

function uuidOf(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
