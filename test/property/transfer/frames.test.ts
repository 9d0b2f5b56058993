import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProtocolError } from '../../../src/transfer/errors.ts';
import {
  encodeFrame,
  FRAME_TYPES,
  type Frame,
  FrameDecoder,
  type FrameName,
  HEADER_BYTES,
  PayloadPool,
} from '../../../src/transfer/frames.ts';
import {
  decodeContentWord,
  decodeHello,
  decodeLastWord,
  decodeMapOffer,
  decodePiece,
  decodePosition,
  decodeWelcome,
  encodeContentWord,
  encodeHello,
  encodeLastWord,
  encodeMapOffer,
  encodePiece,
  encodePosition,
  encodeWelcome,
} from '../../../src/transfer/messages.ts';

const MOST_BYTES = 4096;
const names = Object.keys(FRAME_TYPES) as FrameName[];
const frame = fc.record({
  name: fc.constantFrom(...names),
  payload: fc.uint8Array({ maxLength: MOST_BYTES }),
});
const number = fc.maxSafeNat();
const digest = fc.uint8Array({ minLength: 16, maxLength: 16 });

/** Feeds a stream in pieces; gives what came out, the error, and the most that was held. */
function decode(stream: Buffer, pieceBytes: number) {
  const decoder = new FrameDecoder(MOST_BYTES, new PayloadPool(MOST_BYTES, 2));
  const frames: { name: FrameName; payload: Buffer }[] = [];
  let heldBytes = 0;
  let error: unknown = null;
  for (let at = 0; at < stream.length && error === null; at += pieceBytes) {
    try {
      decoder.push(stream.subarray(at, at + pieceBytes), ({ name, payload }: Frame) =>
        frames.push({ name, payload: Buffer.from(payload) }),
      );
    } catch (caught) {
      error = caught;
    }
    heldBytes = Math.max(heldBytes, decoder.heldBytes);
  }
  return { frames, error, heldBytes };
}

describe('frames', () => {
  test('come out as they went in, however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 8 }),
        fc.integer({ min: 1, max: 9000 }),
        (sent, pieceBytes) => {
          const stream = Buffer.concat(sent.map(({ name, payload }) => encodeFrame(name, payload)));
          const { frames, error, heldBytes } = decode(stream, pieceBytes);
          expect(error).toBeNull();
          expect(frames).toEqual(sent.map(({ name, payload }) => ({ name, payload: Buffer.from(payload) })));
          expect(heldBytes).toBeLessThanOrEqual(MOST_BYTES + HEADER_BYTES);
        },
      ),
    );
  });

  test('with any one byte changed give a typed error, or are never whole', () => {
    const change = fc.record({ at: fc.nat(), by: fc.integer({ min: 1, max: 255 }) });
    fc.assert(
      fc.property(fc.array(frame, { minLength: 1, maxLength: 3 }), change, (sent, { at, by }) => {
        const stream = Buffer.concat(sent.map(({ name, payload }) => encodeFrame(name, payload)));
        const index = at % stream.length;
        stream.writeUInt8((stream.readUInt8(index) + by) % 256, index);
        const { frames, error } = decode(stream, 1000);
        expect(error).toBeInstanceOf(ProtocolError);
        expect(error).toMatchObject({ code: 'BadChecksum' });
        expect(frames.length).toBeLessThan(sent.length);
      }),
      { numRuns: 300 },
    );
  });

  test('made of noise give a typed error and hold nothing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: HEADER_BYTES, maxLength: 200 }), noise => {
        const { frames, error, heldBytes } = decode(Buffer.from(noise), 7);
        expect(frames).toEqual([]);
        expect(error).toBeInstanceOf(ProtocolError);
        expect(heldBytes).toBeLessThanOrEqual(HEADER_BYTES);
      }),
    );
  });
});

describe('messages', () => {
  const payloadOf = (whole: Buffer): Buffer => whole.subarray(HEADER_BYTES);
  const epoch = fc.record({ generation: number, plan: number, openCount: number });
  const text = fc.string({ unit: 'grapheme', maxLength: 2000 });

  test('are read as they were written', () => {
    const hello = fc.record({
      version: fc.nat(65535),
      diskTaskUuid: fc.uuid(),
      epoch,
      attempt: number,
      sentAtMs: number,
    });
    fc.assert(fc.property(hello, it => void expect(decodeHello(payloadOf(encodeHello(it)))).toEqual(it)));
    const welcome = fc.record({
      version: fc.nat(65535),
      maxPieceBytes: fc.integer({ min: 4096, max: 2 ** 32 - 1 }),
      helloAtMs: number,
      sentAtMs: number,
    });
    fc.assert(
      fc.property(welcome, it => void expect(decodeWelcome(payloadOf(encodeWelcome(it)))).toEqual(it)),
    );
    const offer = fc.record({
      mapDigest: digest.map(bytes => Buffer.from(bytes)),
      virtualSizeBytes: number,
      clusterSizeBytes: fc.nat(),
      encodedBytes: fc.nat(),
      dataBytes: number,
    });
    fc.assert(
      fc.property(offer, it => void expect(decodeMapOffer(payloadOf(encodeMapOffer(it)))).toEqual(it)),
    );
    fc.assert(
      fc.property(number, fc.uint8Array({ minLength: 1 }), (position, bytes) => {
        const piece = decodePiece('data', payloadOf(encodePiece('data', position, bytes)));
        expect(piece).toEqual({ position, bytes: Buffer.from(bytes) });
        expect(decodePosition('ack', payloadOf(encodePosition('ack', position)))).toBe(position);
      }),
    );
    fc.assert(
      fc.property(digest, number, (bytes, dataBytes) => {
        const word = { contentDigest: Buffer.from(bytes), dataBytes };
        expect(decodeContentWord('final', payloadOf(encodeContentWord('final', word)))).toEqual(word);
      }),
    );
  });

  test('of refusal keep their beginning, without control characters, whatever the text', () => {
    fc.assert(
      fc.property(fc.boolean(), text, (retryable, words) => {
        const frameBytes = encodeLastWord('refused', { code: 'PlanBroken', text: words, retryable });
        const read = decodeLastWord(payloadOf(frameBytes));
        expect(read.retryable).toBe(retryable);
        expect(read.code).toBe('PlanBroken');
        expect(frameBytes.length).toBeLessThan(1200);
        const expected = Buffer.from(words)
          .toString()
          .replaceAll(/\p{Cc}/gu, ' ');
        expect(expected.startsWith(read.text)).toBe(true);
        if (Buffer.byteLength(words) <= 1024) expect(read.text).toBe(expected);
      }),
    );
  });

  test('made of noise or cut short give a typed error or a value, never another error', () => {
    const decoders = [
      decodeHello,
      decodeWelcome,
      decodeLastWord,
      decodeMapOffer,
      (payload: Buffer) => decodePiece('map', payload),
      (payload: Buffer) => decodePosition('start', payload),
      (payload: Buffer) => decodeContentWord('received', payload),
    ];
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.constantFrom(...decoders), (noise, decoder) => {
        try {
          decoder(Buffer.from(noise));
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
          expect(error).toMatchObject({ code: 'BadFrame' });
        }
      }),
      { numRuns: 1000 },
    );
  });
});
