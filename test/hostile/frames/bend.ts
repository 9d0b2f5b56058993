/** Bends a conversation: its order, its payloads, its headers, its bytes. */
import { crc32 } from 'node:zlib';
import { encodeFrame, FRAME_TYPES, type FrameName, HEADER_BYTES } from '../../../src/transfer/frames.ts';
import type { Random } from '../random.ts';
import { type Conversation, type Said, STRAYS } from './conversations.ts';

const NAMES = Object.keys(FRAME_TYPES) as FrameName[];
const NUMBERS = [
  0n,
  1n,
  2n,
  7n,
  511n,
  512n,
  513n,
  4096n,
  65_535n,
  65_536n,
  2n ** 20n,
  2n ** 21n,
  2n ** 26n,
  2n ** 26n + 1n,
];
const LIMITS = [
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 52n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];
const LENGTHS = [0, 1, 7, 8, 9, 15, 16, 4095, 4096, 4097, 2 ** 20 + 48, 2 ** 20 + 49, 2 ** 31, 2 ** 32 - 1];

/** @returns other frames in the order in which they are said; the sound ones are left as they are */
export function bendFrames(random: Random, { frames }: Conversation): Said[] {
  const bent = [...frames];
  const times = random.pick([0, 1, 1, 1, 2, 3, 6]);
  for (let left = times; left > 0; left -= 1) bendOnce(random, bent);
  return bent;
}

function bendOnce(random: Random, frames: Said[]): void {
  const at = random.below(Math.max(frames.length, 1));
  switch (random.below(9)) {
    case 0:
      frames.splice(at, 1 + random.below(3));
      return;
    case 1:
      frames.splice(at, 0, random.pick(STRAYS));
      return;
    case 2:
      frames.splice(at, 0, ...frames.slice(at, at + 1 + random.below(3)));
      return;
    case 3:
      frames.splice(at, 0, ...frames.splice(random.below(frames.length || 1), 1));
      return;
    case 4:
      frames.length = at;
      return;
    case 5: {
      const frame = frames[at];
      if (frame !== undefined) frames[at] = { ...frame, name: random.pick(NAMES) };
      return;
    }
    default: {
      const frame = frames[at];
      if (frame !== undefined) frames[at] = { ...frame, payload: bendPayload(random, frame.payload) };
    }
  }
}

function bendPayload(random: Random, sound: Buffer): Buffer {
  const payload = Buffer.from(sound);
  const limit = Math.max(1, Math.min(payload.length, 64));
  switch (random.below(6)) {
    case 0:
      if (payload.length > 0) payload[random.below(limit)] = random.u32();
      return payload;
    case 1:
      return payload.subarray(0, random.below(payload.length + 1));
    case 2:
      return Buffer.concat([payload, random.bytes(random.below(64))]);
    case 3:
      return random.bytes(random.below(100));
    default:
      return withNumber(random, payload);
  }
}

/** Numbers stand on multiples of 4 behind the first 4 bytes, or behind a digest. */
function withNumber(random: Random, payload: Buffer): Buffer {
  const value = random.oneIn(3) ? random.pick(LIMITS) : random.pick(NUMBERS);
  const at = random.below(Math.max(1, Math.min(16, Math.floor(payload.length / 4)))) * 4;
  if (at + 8 <= payload.length && random.oneIn(2)) payload.writeBigUInt64LE(value, at);
  else if (at + 4 <= payload.length) payload.writeUInt32LE(Number(value & 0xffff_ffffn), at);
  return payload;
}

/** The bytes on the wire, and how many of the first are those of sound frames. */
export interface BentStream {
  readonly bytes: Buffer;
  /** Bytes before this are whole frames as `said`. */
  readonly soundBytes: number;
}

export function encodeBent(random: Random, said: readonly Said[]): BentStream {
  const encoded = said.map(({ name, payload }) => encodeFrame(name, payload));
  const whole = Buffer.concat(encoded);
  if (!random.oneIn(3)) return { bytes: whole, soundBytes: whole.length };
  return bendBytes(random, whole, encoded);
}

function bendBytes(random: Random, whole: Buffer, encoded: readonly Buffer[]): BentStream {
  const at = random.below(whole.length + 1);
  switch (random.below(5)) {
    case 0:
      return { bytes: whole.subarray(0, at), soundBytes: at };
    case 1:
      return {
        bytes: Buffer.concat([whole.subarray(0, at), random.bytes(random.below(80)), whole.subarray(at)]),
        soundBytes: at,
      };
    case 2:
      if (at < whole.length) whole[at] = (whole[at] ?? 0) ^ (1 << random.below(8));
      return { bytes: whole, soundBytes: at };
    case 3:
      return {
        bytes: Buffer.concat([whole.subarray(0, at), whole.subarray(at + 1 + random.below(40))]),
        soundBytes: at,
      };
    default:
      return bendHeader(random, whole, encoded);
  }
}

/** Changes one frame's header, mostly with the checksum that belongs to it. */
function bendHeader(random: Random, whole: Buffer, encoded: readonly Buffer[]): BentStream {
  const index = random.below(encoded.length);
  const at = encoded.slice(0, index).reduce((sum, frame) => sum + frame.length, 0);
  if (at + HEADER_BYTES > whole.length) return { bytes: whole, soundBytes: whole.length };
  const header = whole.subarray(at, at + HEADER_BYTES);
  const kind = random.below(4);
  if (kind === 0) header.writeUInt32LE(random.pick(LENGTHS), 0);
  if (kind === 1) header[4] = random.below(20);
  if (kind === 2) header[5 + random.below(3)] = random.u32();
  if (kind === 3) header.writeUInt32LE(random.u32(), 8);
  if (!random.oneIn(4)) header.writeUInt32LE(crc32(header.subarray(0, 12)), 12);
  return { bytes: whole, soundBytes: at };
}

/** Cuts a stream into the chunks in which it arrives. */
export function* chunksOf(random: Random, bytes: Buffer): Generator<Buffer, undefined> {
  const most = random.pick([1, 5, 16, 17, 100, 1460, 16_384, 65_536]);
  // Single bytes only where they are few.
  const least = bytes.length > 2_000 && most < 100 ? 100 : 1;
  for (let at = 0; at < bytes.length; ) {
    const length = Math.max(least, 1 + random.below(most));
    yield bytes.subarray(at, at + length);
    at += length;
  }
}
