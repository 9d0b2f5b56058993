/**
 * The frame: 16 bytes of header, then the payload. All numbers are little-endian.
 *
 *   0  u32  length of the payload
 *   4  u8   type
 *   5  u8   zero, 6 u16 zero
 *   8  u32  crc32 of the payload
 *  12  u32  crc32 of the header's first 12 bytes
 *
 * @see docs/transfer-protocol.md
 */
import { crc32 } from 'node:zlib';
import { ProtocolError } from './errors.ts';

export const HEADER_BYTES = 16;

export const FRAME_TYPES = {
  hello: 1,
  welcome: 2,
  refused: 3,
  mapOffer: 4,
  mapWanted: 5,
  map: 6,
  start: 7,
  data: 8,
  ack: 9,
  final: 10,
  received: 11,
  keepAlive: 12,
  close: 13,
  compare: 14,
  hashes: 15,
  compared: 16,
  journal: 17,
  records: 18,
} as const;

export type FrameName = keyof typeof FRAME_TYPES;

const NAMES = new Map<number, FrameName>(
  Object.entries(FRAME_TYPES).map(([name, type]) => [type, name as FrameName]),
);

/** A whole frame whose checksums were right. */
export interface Frame {
  readonly name: FrameName;
  /** Valid until it is released to the pool that it came from. */
  readonly payload: Buffer;
}

/** Fills the first 16 bytes of `frame`; what follows them is the payload. */
export function sealFrame(name: FrameName, frame: Buffer): Buffer {
  frame.writeUInt32LE(frame.length - HEADER_BYTES, 0);
  frame.writeUInt32LE(FRAME_TYPES[name], 4);
  frame.writeUInt32LE(crc32(frame.subarray(HEADER_BYTES)), 8);
  frame.writeUInt32LE(crc32(frame.subarray(0, 12)), 12);
  return frame;
}

/** @param frame sealed here */
export function nameOfFrame(frame: Buffer): FrameName {
  const name = NAMES.get(frame.readUInt8(4));
  if (name === undefined) throw new RangeError(`no frame has the type ${frame.readUInt8(4)}`);
  return name;
}

/** A frame of its own, header and payload in one buffer. */
export function encodeFrame(name: FrameName, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  frame.set(payload, HEADER_BYTES);
  return sealFrame(name, frame);
}

/** Where a decoder's payloads live. Large ones are used again, since a transfer brings thousands. */
export class PayloadPool {
  readonly #largeBytes: number;
  readonly #keep: number;
  readonly #free: ArrayBufferLike[] = [];

  /** @param largeBytes the size of the buffers that are kept, at most `keep` of them */
  constructor(largeBytes: number, keep: number) {
    this.#largeBytes = largeBytes;
    this.#keep = keep;
  }

  take(sizeBytes: number): Buffer {
    if (sizeBytes < this.#largeBytes / 16 || sizeBytes > this.#largeBytes)
      return Buffer.allocUnsafe(sizeBytes);
    const memory = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#largeBytes).buffer;
    return Buffer.from(memory, 0, sizeBytes);
  }

  release(payload: Buffer): void {
    const isLarge = payload.buffer.byteLength === this.#largeBytes && payload.byteOffset === 0;
    if (isLarge && this.#free.length < this.#keep) this.#free.push(payload.buffer);
  }
}

/**
 * Cuts a byte stream into frames. Holds at most one header and one payload of `maxPayloadBytes`.
 * After an error it takes nothing more.
 */
export class FrameDecoder {
  /** May be changed between frames: a peer that has not said hello is allowed little. */
  maxPayloadBytes: number;
  readonly #pool: PayloadPool;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #name: FrameName = 'keepAlive';
  #expectedCrc = 0;
  #payload: Buffer | null = null;
  #payloadBytes = 0;
  #crc = 0;
  #failure: ProtocolError | null = null;

  constructor(maxPayloadBytes: number, pool: PayloadPool) {
    this.maxPayloadBytes = maxPayloadBytes;
    this.#pool = pool;
  }

  /** Bytes held of a frame that is not whole yet, its announced payload included. */
  get heldBytes(): number {
    return this.#headerBytes + (this.#payload?.length ?? 0);
  }

  /** @throws {ProtocolError} FrameTooLarge, BadChecksum, UnknownFrame, BadFrame */
  push(chunk: Buffer, onFrame: (frame: Frame) => void): void {
    if (this.#failure !== null) throw this.#failure;
    let at = 0;
    while (at < chunk.length) {
      at += this.#payload === null ? this.#takeHeader(chunk, at) : this.#takePayload(chunk, at);
      if (this.#payload !== null && this.#payloadBytes === this.#payload.length) {
        onFrame({ name: this.#name, payload: this.#endPayload(this.#payload) });
      }
    }
  }

  #takeHeader(chunk: Buffer, at: number): number {
    const taken = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - at);
    chunk.copy(this.#header, this.#headerBytes, at, at + taken);
    this.#headerBytes += taken;
    if (this.#headerBytes === HEADER_BYTES) this.#startPayload();
    return taken;
  }

  #startPayload(): void {
    const header = this.#header;
    if (header.readUInt32LE(12) !== crc32(header.subarray(0, 12))) {
      throw this.#fail(new ProtocolError('BadChecksum', "a frame header's checksum is wrong"));
    }
    const length = header.readUInt32LE(0);
    const name = NAMES.get(header.readUInt8(4));
    if (header.readUIntLE(5, 3) !== 0) {
      throw this.#fail(new ProtocolError('BadFrame', 'a frame header sets bits that must be zero'));
    }
    if (name === undefined) {
      throw this.#fail(new ProtocolError('UnknownFrame', `the frame type ${header.readUInt8(4)} is unknown`));
    }
    if (length > this.maxPayloadBytes) {
      const text = `a ${name} frame of ${length} bytes; at most ${this.maxPayloadBytes} are taken here`;
      throw this.#fail(new ProtocolError('FrameTooLarge', text));
    }
    this.#name = name;
    this.#expectedCrc = header.readUInt32LE(8);
    this.#headerBytes = 0;
    this.#payload = this.#pool.take(length);
    this.#payloadBytes = 0;
    this.#crc = 0;
  }

  #takePayload(chunk: Buffer, at: number): number {
    const payload = this.#payload as Buffer;
    const taken = Math.min(payload.length - this.#payloadBytes, chunk.length - at);
    const piece = chunk.subarray(at, at + taken);
    payload.set(piece, this.#payloadBytes);
    this.#crc = crc32(piece, this.#crc);
    this.#payloadBytes += taken;
    return taken;
  }

  #endPayload(payload: Buffer): Buffer {
    this.#payload = null;
    if (this.#crc !== this.#expectedCrc) {
      this.#pool.release(payload);
      throw this.#fail(new ProtocolError('BadChecksum', `the checksum of a ${this.#name} frame is wrong`));
    }
    return payload;
  }

  #fail(error: ProtocolError): ProtocolError {
    this.#failure = error;
    this.#payload = null;
    this.#headerBytes = 0;
    return error;
  }
}
