/** The parts that payloads are made of. All numbers are little-endian; texts are UTF-8 after a u16 of their length. */
import { ProtocolError } from './errors.ts';
import { encodeFrame, type FrameName } from './frames.ts';

const MAX_TEXT_BYTES = 1024;

/** A frame of these parts. */
export const build = (name: FrameName, parts: readonly Uint8Array[]): Buffer =>
  encodeFrame(name, Buffer.concat(parts));

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** A text too long is cut, at a whole character. */
export function encodeText(text: string): Buffer {
  let bytes = Buffer.from(text, 'utf8');
  if (bytes.length > MAX_TEXT_BYTES) {
    let end = MAX_TEXT_BYTES;
    while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
    bytes = bytes.subarray(0, end);
  }
  return Buffer.concat([u16(bytes.length), bytes]);
}

/** Takes a payload apart from its start. Each call throws a ProtocolError BadFrame where there is too little. */
export class Reader {
  readonly #name: FrameName;
  readonly #payload: Buffer;
  #at = 0;

  constructor(name: FrameName, payload: Buffer) {
    this.#name = name;
    this.#payload = payload;
  }

  bytes(count: number): Buffer {
    const end = this.#at + count;
    if (end > this.#payload.length)
      throw new ProtocolError('BadFrame', `a ${this.#name} frame that is too short`);
    const bytes = this.#payload.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  /** How many bytes were not read yet. */
  rest(): number {
    return this.#payload.length - this.#at;
  }

  u16(): number {
    return this.bytes(2).readUInt16LE();
  }

  u32(): number {
    return this.bytes(4).readUInt32LE();
  }

  u64(): number {
    const value = this.bytes(8).readBigUInt64LE();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new ProtocolError('BadFrame', `a ${this.#name} frame with a number beyond 2^53`);
    }
    return Number(value);
  }

  /** Control characters become spaces: the text reaches logs and terminals. */
  text(): string {
    const length = this.u16();
    if (length > MAX_TEXT_BYTES)
      throw new ProtocolError('BadFrame', `a ${this.#name} frame with too long a text`);
    return this.bytes(length)
      .toString('utf8')
      .replaceAll(/\p{Cc}/gu, ' ');
  }
}
