/** The frame decoder and the readers of all messages. */
import { crc32 } from 'node:zlib';
import { mapDigest } from '../../../src/domain/content-digest.ts';
import { ExtentMap, ExtentMapError } from '../../../src/domain/extent-map.ts';
import { createXxh128 } from '../../../src/lib/digest.ts';
import { ProtocolError } from '../../../src/transfer/errors.ts';
import { type Frame, FrameDecoder, HEADER_BYTES, PayloadPool } from '../../../src/transfer/frames.ts';
import { decodeJournal, decodeRecords } from '../../../src/transfer/journal-messages.ts';
import {
  MAX_CONTROL_PAYLOAD_BYTES,
  MAX_SENDER_PAYLOAD_BYTES,
  MIN_PIECE_BYTES,
} from '../../../src/transfer/limits.ts';
import {
  decodeCompare,
  decodeCompared,
  decodeContentWord,
  decodeHashes,
  decodeHello,
  decodeLastWord,
  decodeMapOffer,
  decodePiece,
  decodePosition,
  decodeWelcome,
  type MapOffer,
} from '../../../src/transfer/messages.ts';
import { must, type Target } from '../campaign.ts';
import type { Random } from '../random.ts';
import { bendFrames, chunksOf, encodeBent } from './bend.ts';
import { CONVERSATIONS, type Said } from './conversations.ts';

export async function openFrameTarget(): Promise<Target> {
  const maxima = { 'most bytes held of a frame': 0, 'most frames of a case': 0 };
  return {
    name: 'frames',
    maxBufferBytes: MAX_SENDER_PAYLOAD_BYTES,
    maxCaseBytes: 2 * MAX_SENDER_PAYLOAD_BYTES,
    maxima,
    run: random => decodeBent(random, maxima),
    close: async () => {},
  };
}

function decodeBent(random: Random, maxima: Record<string, number>): string {
  const said = bendFrames(random, random.pick(CONVERSATIONS));
  const { bytes, soundBytes } = encodeBent(random, said);
  const isLarge = !random.oneIn(4);
  const most = isLarge ? MAX_SENDER_PAYLOAD_BYTES : MAX_CONTROL_PAYLOAD_BYTES;
  const decoder = new FrameDecoder(most, new PayloadPool(MAX_SENDER_PAYLOAD_BYTES, 2));
  const heard: Frame[] = [];
  let failure: unknown = null;
  for (const chunk of chunksOf(random, bytes)) {
    try {
      decoder.push(chunk, frame => heard.push(frame));
    } catch (error) {
      must(failure === null || failure === error, () => 'a decoder that failed fails in another way');
      failure = error;
      if (random.oneIn(2)) break;
    }
    must(decoder.heldBytes <= HEADER_BYTES + most, () => `${decoder.heldBytes} bytes are held`);
    maxima['most bytes held of a frame'] = Math.max(
      maxima['most bytes held of a frame'] ?? 0,
      decoder.heldBytes,
    );
  }
  maxima['most frames of a case'] = Math.max(maxima['most frames of a case'] ?? 0, heard.length);
  must(failure === null || failure instanceof ProtocolError, () => `an untyped error: ${failure}`);
  must(heard.length <= bytes.length / HEADER_BYTES, () => 'more frames than there were bytes for');
  compare(said, heard, soundBytes, most);
  const words = heard.map(frame => readMessage(frame));
  readMap(random, heard);
  if (failure instanceof ProtocolError) return failure.code;
  return words.find(word => word !== 'accepted') ?? 'accepted';
}

/** What was said before the first bent byte must have been heard, and nothing else. */
function compare(said: readonly Said[], heard: readonly Frame[], soundBytes: number, most: number): void {
  let at = 0;
  for (const [index, { name, payload }] of said.entries()) {
    at += HEADER_BYTES + payload.length;
    if (at > soundBytes || payload.length > most) return;
    const frame = heard[index];
    must(frame !== undefined, () => `frame ${index} was sound and is not heard`);
    must(
      frame.name === name && frame.payload.equals(payload),
      () => `frame ${index} was heard as another one`,
    );
  }
}

function readMessage({ name, payload }: Frame): string {
  must(crc32(payload) >= 0, () => 'a payload that is no buffer');
  try {
    switch (name) {
      case 'hello': {
        const hello = decodeHello(payload);
        must(/^[0-9a-f-]{36}$/.test(hello.diskTaskUuid), () => `a disk task ${hello.diskTaskUuid}`);
        break;
      }
      case 'welcome':
        must(decodeWelcome(payload).maxPieceBytes >= MIN_PIECE_BYTES, () => 'a welcome without room');
        break;
      case 'refused':
      case 'close': {
        const { code, text } = decodeLastWord(payload);
        must(!/\p{Cc}/u.test(code + text), () => 'a text with control characters');
        must(code.length + text.length <= 2048, () => 'a text too long');
        break;
      }
      case 'mapOffer':
        must(Number.isSafeInteger(decodeMapOffer(payload).dataBytes), () => 'an offer of no size');
        break;
      case 'compare':
        must(Number.isSafeInteger(decodeCompare(payload).virtualSizeBytes), () => 'a disk of no size');
        break;
      case 'hashes': {
        const { kind, clusters, hashes } = decodeHashes(payload);
        must(hashes.length === (kind === 'hashed' ? clusters * 32 : 0), () => 'hashes of another number');
        break;
      }
      case 'compared': {
        const { token, text } = decodeCompared(payload);
        must(token === null || token.length === 16, () => 'a token of another length');
        must(!/\p{Cc}/u.test(text), () => 'a text with control characters');
        break;
      }
      case 'map':
      case 'data':
        must(decodePiece(name, payload).bytes.length > 0, () => 'an empty piece');
        break;
      case 'journal':
        must(/^[0-9a-f-]{36}$/.test(decodeJournal(payload).epochUuid), () => 'an epoch without a name');
        break;
      case 'records':
        for (const record of decodeRecords(payload)) {
          must(record.payload.length <= payload.length, () => 'a payload longer than its frame');
        }
        break;
      case 'start':
      case 'ack':
        must(decodePosition(name, payload) >= 0, () => 'a negative position');
        break;
      case 'final':
      case 'received':
        must(
          decodeContentWord(name, payload).contentDigest.length === 16,
          () => 'a digest of another length',
        );
        break;
      default:
    }
    return 'accepted';
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    throw error;
  }
}

/** Takes the map frames that came as one map, of the shape that was offered or of another. */
function readMap(random: Random, heard: readonly Frame[]): void {
  const pieces = heard.filter(({ name, payload }) => name === 'map' && payload.length > 8);
  if (pieces.length === 0) return;
  const encoded = Buffer.concat(pieces.map(({ payload }) => payload.subarray(8)));
  if (random.oneIn(4)) encoded[random.below(encoded.length)] = random.u32();
  try {
    const shape = shapeOf(random, heard);
    const map = ExtentMap.decode(shape, encoded);
    let end = 0;
    let dataBytes = 0;
    for (const { offset, length, kind } of map) {
      must(offset === end && length > 0, () => 'a map with a gap');
      end += length;
      if (kind === 'data') dataBytes += length;
    }
    must(end === shape.virtualSizeBytes && dataBytes === map.dataBytes, () => 'a map of another length');
    must(mapDigest(map, createXxh128).length === 16, () => 'a digest of another length');
  } catch (error) {
    if (!(error instanceof ExtentMapError) && !(error instanceof ProtocolError)) throw error;
  }
}

function shapeOf(
  random: Random,
  heard: readonly Frame[],
): Pick<MapOffer, 'virtualSizeBytes' | 'clusterSizeBytes'> {
  const offer = heard.find(({ name }) => name === 'mapOffer');
  if (offer !== undefined && !random.oneIn(6)) return decodeMapOffer(offer.payload);
  return {
    virtualSizeBytes: random.pick([0, 512, 4708, 2 ** 40, 2 ** 53 - 1]),
    clusterSizeBytes: random.pick([0, 1, 512, 513, 4096, 2 ** 21, 2 ** 22]),
  };
}
