/**
 * What the frames of a journal say: JOURNAL and RECORDS of the sender, START and ACK of the receiver, and the word
 * that both ends have of the end.
 *
 * @see docs/transfer-protocol.md
 */
import { IDENT } from '../contract/names.ts';
import { createXxh128 } from '../lib/digest.ts';
import { ProtocolError } from './errors.ts';
import { HEADER_BYTES, sealFrame } from './frames.ts';
import { MAX_PIECE_BYTES } from './limits.ts';
import type { JournalIdentity, TransferRecord } from './ports.ts';
import { build, encodeText, Reader, u64 } from './wire.ts';

/** The bytes of a record in a RECORDS frame before its payload. */
const RECORD_HEAD_BYTES = 40;
const MAX_MARKER_BYTES = 255;
const TYPES = ['write', 'zero', 'discard', 'checkpoint'] as const;

/** How far a receiver's journal is durable, by its catalog: ACK. */
export interface JournalPosition {
  /** The number of the next record. */
  readonly nextIndex: number;
  /** Bytes of all records before, as journals count them. */
  readonly recordBytes: number;
}

/** START: where the receiver wants the records from. */
export interface JournalStart extends JournalPosition {
  /** Of the newest record before, or of the epoch's start. */
  readonly sequence: number;
}

export function encodeJournal(identity: JournalIdentity): Buffer {
  return build('journal', [
    Buffer.from(identity.epochUuid.replaceAll('-', ''), 'hex'),
    u64(identity.virtualSizeBytes),
    u64(identity.start.sequence),
    u64(identity.start.timeUs),
    encodeText(identity.host),
    encodeText(identity.disk),
  ]);
}

/** @throws {ProtocolError} BadFrame, here and in every decoder below */
export function decodeJournal(payload: Buffer): JournalIdentity {
  const reader = new Reader('journal', payload);
  const hex = reader.bytes(16).toString('hex');
  const epochUuid = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  const virtualSizeBytes = reader.u64();
  const start = { sequence: reader.u64(), timeUs: reader.u64() };
  const host = reader.text();
  const disk = reader.text();
  if (!IDENT.test(host) || !IDENT.test(disk)) {
    throw new ProtocolError('BadFrame', 'a journal of a host or disk without a name');
  }
  return { epochUuid, host, disk, virtualSizeBytes, start };
}

export const encodeJournalStart = ({ nextIndex, recordBytes, sequence }: JournalStart): Buffer =>
  build('start', [u64(nextIndex), u64(recordBytes), u64(sequence)]);

export function decodeJournalStart(payload: Buffer): JournalStart {
  const reader = new Reader('start', payload);
  return { nextIndex: reader.u64(), recordBytes: reader.u64(), sequence: reader.u64() };
}

export const encodeJournalAck = ({ nextIndex, recordBytes }: JournalPosition): Buffer =>
  build('ack', [u64(nextIndex), u64(recordBytes)]);

export function decodeJournalAck(payload: Buffer): JournalPosition {
  const reader = new Reader('ack', payload);
  return { nextIndex: reader.u64(), recordBytes: reader.u64() };
}

/** So many bytes of a RECORDS frame a record takes. */
export const sentBytesOf = (record: Pick<TransferRecord, 'payload'>): number =>
  RECORD_HEAD_BYTES + record.payload.length;

/** A sealed RECORDS frame. @param records at least one, without a gap in their numbers */
export function encodeRecords(records: readonly TransferRecord[]): Buffer {
  const payloadBytes = records.reduce((sum, record) => sum + sentBytesOf(record), 8);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payloadBytes);
  let at = frame.writeBigUInt64LE(BigInt(records[0]?.index ?? 0), HEADER_BYTES);
  for (const { type, sequence, timeUs, offset, length, payload } of records) {
    at = frame.writeBigUInt64LE(BigInt(TYPES.indexOf(type) + 1), at);
    for (const value of [sequence, timeUs, offset, length]) at = frame.writeBigUInt64LE(BigInt(value), at);
    at += payload.copy(frame, at);
  }
  return sealFrame('records', frame);
}

/** @returns at least one record; the payloads are parts of the frame's */
export function decodeRecords(payload: Buffer): readonly TransferRecord[] {
  const reader = new Reader('records', payload);
  const first = reader.u64();
  const records: TransferRecord[] = [];
  while (reader.rest() > 0) records.push(readRecord(reader, first + records.length));
  if (records.length === 0) throw new ProtocolError('BadFrame', 'a records frame without records');
  if (!Number.isSafeInteger(first + records.length)) {
    throw new ProtocolError('BadFrame', 'a records frame with a number beyond 2^53');
  }
  return records;
}

function readRecord(reader: Reader, index: number): TransferRecord {
  const type = TYPES[reader.u64() - 1];
  if (type === undefined) throw new ProtocolError('BadFrame', 'a record of a type that is not known');
  const [sequence, timeUs] = [reader.u64(), reader.u64()];
  const [offset, length] = [reader.u64(), reader.u64()];
  const hasPayload = type === 'write' || type === 'checkpoint';
  const limit = type === 'checkpoint' ? MAX_MARKER_BYTES : MAX_PIECE_BYTES;
  if (hasPayload && length > limit) {
    throw new ProtocolError('BadFrame', `a ${type} of ${length} bytes; at most ${limit} are possible`);
  }
  return { type, index, sequence, timeUs, offset, length, payload: reader.bytes(hasPayload ? length : 0) };
}

/** What both ends must agree on at the end of a window: whose journal, and where it stands. */
export function journalDigest(
  { epochUuid, disk }: Pick<JournalIdentity, 'epochUuid' | 'disk'>,
  end: { readonly nextIndex: number; readonly sequence: number },
): Uint8Array {
  const hash = createXxh128();
  hash.update(Buffer.from(`offsite journal\n${epochUuid}\n${disk}\n${end.nextIndex}\n${end.sequence}\n`));
  return hash.digest();
}
