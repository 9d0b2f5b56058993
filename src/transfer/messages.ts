/**
 * What the frames' payloads say. All numbers are little-endian; texts are UTF-8 after a u16 of their length.
 * A reader takes a control payload that is longer than it knows and ignores the rest, so that fields can be added.
 *
 * @see docs/transfer-protocol.md
 */
import type { Epoch } from '../contract/fence.ts';
import { UUID } from '../contract/names.ts';
import { DIGEST_BYTES } from '../domain/content-digest.ts';
import type { MapShape } from '../domain/extent-map.ts';
import { BLAKE3_BYTES } from '../lib/digest.ts';
import { ProtocolError, type Refusal } from './errors.ts';
import { HEADER_BYTES } from './frames.ts';
import { MIN_PIECE_BYTES } from './limits.ts';
import { build, encodeText, Reader, u16, u32, u64 } from './wire.ts';

/** The highest version that this build speaks. */
export const PROTOCOL_VERSION = 2;
/** The first one with journals. */
export const JOURNAL_VERSION = 2;
/** The bytes of DATA and MAP frames before their content. */
export const POSITION_BYTES = 8;
/** Where the content of a DATA frame begins in its whole frame. */
export const DATA_CONTENT_AT = HEADER_BYTES + POSITION_BYTES;

const MAGIC = Buffer.from('OFST', 'latin1');

export interface Hello {
  readonly version: number;
  readonly diskTaskUuid: string;
  readonly epoch: Epoch;
  /** Rises with each connection of a disk task's epoch. */
  readonly attempt: number;
  /** The sender's clock when it wrote the hello, milliseconds since 1970. */
  readonly sentAtMs: number;
}

export interface Welcome {
  readonly version: number;
  /** The most data bytes of one frame. */
  readonly maxPieceBytes: number;
  /** The receiver's clock when the hello came and when the welcome left. */
  readonly helloAtMs: number;
  readonly sentAtMs: number;
}

export interface MapOffer extends MapShape {
  readonly mapDigest: Uint8Array;
  readonly encodedBytes: number;
  readonly dataBytes: number;
  /** Of a disk that was compared: then the map is of the differing clusters. */
  readonly compared?: ComparedOffer | null;
}

/** What a sender says of its comparison when it offers the map that came of it. */
export interface ComparedOffer {
  /** The receiver's, of its COMPARED frame. */
  readonly token: Uint8Array;
  /** Of the whole disk as the guest sees it (domain/guest-digest.ts). */
  readonly guestDigest: Uint8Array;
}

/**
 * What the receiver's base holds from `offset` on: `zero` reads as zeros, `hashed` has a BLAKE3 for each cluster,
 * `unknown` cannot be read and is to be sent.
 */
export interface HashRun {
  readonly kind: HashRunKind;
  readonly offset: number;
  readonly clusters: number;
  /** 32 bytes a cluster; empty unless `hashed`. */
  readonly hashes: Buffer;
}
export type HashRunKind = 'zero' | 'hashed' | 'unknown';
const HASH_RUN_KINDS: readonly HashRunKind[] = ['zero', 'hashed', 'unknown'];

/** The end of the hashes. */
export interface ComparedWord {
  /** Null when the receiver has nothing to compare with: everything is to be sent. */
  readonly token: Uint8Array | null;
  /** What it was, or why there is none, in words for the operator. */
  readonly text: string;
}

export interface Piece {
  readonly position: number;
  /** Part of the frame's payload: valid as long as that is. */
  readonly bytes: Buffer;
}

/** The whole content, as one end computed it: FINAL and RECEIVED. Of a journal journal-messages.ts says what it holds. */
export interface ContentWord {
  readonly contentDigest: Uint8Array;
  readonly dataBytes: number;
}

export function encodeHello(hello: Hello): Buffer {
  return build('hello', [
    MAGIC,
    u16(hello.version),
    u16(0),
    Buffer.from(hello.diskTaskUuid.replaceAll('-', ''), 'hex'),
    u64(hello.epoch.generation),
    u64(hello.epoch.plan),
    u64(hello.epoch.openCount),
    u64(hello.attempt),
    u64(hello.sentAtMs),
  ]);
}

/** @throws {ProtocolError} BadFrame, here and in every decoder below */
export function decodeHello(payload: Buffer): Hello {
  const reader = new Reader('hello', payload);
  if (!reader.bytes(4).equals(MAGIC)) throw new ProtocolError('BadFrame', 'the hello is not one of Offsite');
  const version = reader.u16();
  reader.u16();
  const hex = reader.bytes(16).toString('hex');
  const diskTaskUuid = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  if (!UUID.test(diskTaskUuid)) throw new ProtocolError('BadFrame', 'the hello names no disk task');
  const epoch = { generation: reader.u64(), plan: reader.u64(), openCount: reader.u64() };
  return { version, diskTaskUuid, epoch, attempt: reader.u64(), sentAtMs: reader.u64() };
}

export function encodeWelcome(welcome: Welcome): Buffer {
  return build('welcome', [
    u16(welcome.version),
    u16(0),
    u32(welcome.maxPieceBytes),
    u64(welcome.helloAtMs),
    u64(welcome.sentAtMs),
  ]);
}

export function decodeWelcome(payload: Buffer): Welcome {
  const reader = new Reader('welcome', payload);
  const version = reader.u16();
  reader.u16();
  const maxPieceBytes = reader.u32();
  if (maxPieceBytes < MIN_PIECE_BYTES) {
    throw new ProtocolError('BadFrame', `a welcome that takes only ${maxPieceBytes} bytes at once`);
  }
  return { version, maxPieceBytes, helloAtMs: reader.u64(), sentAtMs: reader.u64() };
}

/** REFUSED by the receiver, CLOSE by the sender: one layout. */
export function encodeLastWord(name: 'refused' | 'close', { code, text, retryable }: Refusal): Buffer {
  return build(name, [u16(retryable ? 1 : 0), encodeText(code), encodeText(text)]);
}

export function decodeLastWord(payload: Buffer): Refusal {
  const reader = new Reader('refused', payload);
  const retryable = reader.u16() !== 0;
  return { retryable, code: reader.text(), text: reader.text() };
}

export function encodeMapOffer(offer: MapOffer): Buffer {
  return build('mapOffer', [
    offer.mapDigest,
    u64(offer.virtualSizeBytes),
    u32(offer.clusterSizeBytes),
    u32(offer.encodedBytes),
    u64(offer.dataBytes),
    ...(offer.compared == null ? [] : [offer.compared.token, offer.compared.guestDigest]),
  ]);
}

export function decodeMapOffer(payload: Buffer): MapOffer {
  const reader = new Reader('mapOffer', payload);
  return {
    mapDigest: Buffer.from(reader.bytes(DIGEST_BYTES)),
    virtualSizeBytes: reader.u64(),
    clusterSizeBytes: reader.u32(),
    encodedBytes: reader.u32(),
    dataBytes: reader.u64(),
    ...(reader.rest() >= 2 * DIGEST_BYTES && { compared: readComparedOffer(reader) }),
  };
}

const readComparedOffer = (reader: Reader): ComparedOffer => ({
  token: Buffer.from(reader.bytes(DIGEST_BYTES)),
  guestDigest: Buffer.from(reader.bytes(DIGEST_BYTES)),
});

/** COMPARE: the disk's size, and the clusters to hash. */
export const encodeCompare = ({ virtualSizeBytes, clusterSizeBytes }: MapShape): Buffer =>
  build('compare', [u64(virtualSizeBytes), u32(clusterSizeBytes)]);

export function decodeCompare(payload: Buffer): MapShape {
  const reader = new Reader('compare', payload);
  return { virtualSizeBytes: reader.u64(), clusterSizeBytes: reader.u32() };
}

export const encodeHashes = ({ kind, offset, clusters, hashes }: HashRun): Buffer =>
  build('hashes', [u64(offset), u32(clusters), u32(HASH_RUN_KINDS.indexOf(kind)), hashes]);

/** @returns `hashes` as part of the payload */
export function decodeHashes(payload: Buffer): HashRun {
  const reader = new Reader('hashes', payload);
  const offset = reader.u64();
  const clusters = reader.u32();
  const kind = HASH_RUN_KINDS[reader.u32()];
  if (kind === undefined || clusters === 0) {
    throw new ProtocolError('BadFrame', 'a hashes frame of no kind or no clusters');
  }
  return { kind, offset, clusters, hashes: reader.bytes(kind === 'hashed' ? clusters * BLAKE3_BYTES : 0) };
}

/** COMPARED: flags (bit 0: there is a base), the token, a text. */
export const encodeCompared = ({ token, text }: ComparedWord): Buffer =>
  build('compared', [u16(token === null ? 0 : 1), token ?? Buffer.alloc(DIGEST_BYTES), encodeText(text)]);

export function decodeCompared(payload: Buffer): ComparedWord {
  const reader = new Reader('compared', payload);
  const hasBase = (reader.u16() & 1) === 1;
  const token = Buffer.from(reader.bytes(DIGEST_BYTES));
  return { token: hasBase ? token : null, text: reader.text() };
}

export const encodeMapWanted = (): Buffer => build('mapWanted', []);

export const encodeKeepAlive = (): Buffer => build('keepAlive', []);

/** Position of the encoded map, or of the data stream, and the bytes from there on. */
export const encodePiece = (name: 'map' | 'data', position: number, bytes: Uint8Array): Buffer =>
  build(name, [u64(position), bytes]);

export function decodePiece(name: 'map' | 'data', payload: Buffer): Piece {
  const reader = new Reader(name, payload);
  const position = reader.u64();
  if (payload.length === POSITION_BYTES) throw new ProtocolError('BadFrame', `a ${name} frame without bytes`);
  return { position, bytes: payload.subarray(POSITION_BYTES) };
}

/** START and ACK: a position of the data stream. */
export const encodePosition = (name: 'start' | 'ack', position: number): Buffer =>
  build(name, [u64(position)]);

export const decodePosition = (name: 'start' | 'ack', payload: Buffer): number =>
  new Reader(name, payload).u64();

export const encodeContentWord = (name: 'final' | 'received', word: ContentWord): Buffer =>
  build(name, [word.contentDigest, u64(word.dataBytes)]);

export function decodeContentWord(name: 'final' | 'received', payload: Buffer): ContentWord {
  const reader = new Reader(name, payload);
  return { contentDigest: Buffer.from(reader.bytes(DIGEST_BYTES)), dataBytes: reader.u64() };
}
