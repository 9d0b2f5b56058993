/** A hostile receiver against the sender: nothing is read or sent but what was asked for, and it ends with a reason. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { OffsiteError } from '../../../src/domain/errors.ts';
import {
  type Frame,
  FrameDecoder,
  type FrameName,
  HEADER_BYTES,
  PayloadPool,
} from '../../../src/transfer/frames.ts';
import { MAX_CONTROL_PAYLOAD_BYTES, MAX_SENDER_PAYLOAD_BYTES } from '../../../src/transfer/limits.ts';
import {
  decodeContentWord,
  decodeMapOffer,
  decodePiece,
  decodePosition,
} from '../../../src/transfer/messages.ts';
import type { OutgoingLayer } from '../../../src/transfer/outgoing-layer.ts';
import { must, type Target } from '../campaign.ts';
import { bendFrames, chunksOf, encodeBent } from '../frames/bend.ts';
import { CONVERSATIONS, type Conversation, type Said } from '../frames/conversations.ts';
import type { Random } from '../random.ts';
import { MemorySocket } from '../receiver/memory-socket.ts';
import { LiveSender } from './live-sender.ts';
import { runSender } from './run-sender.ts';
import { recordScripts, type Script } from './scripts.ts';
import { WatchedSource } from './watched-source.ts';

const LIVE_EACH = 4096;
const MAX_TURNS = 400;
/** A sender that says nothing for so many turns waits for the receiver. */
const QUIET_TURNS = 2;
const SAYS: readonly FrameName[] = [
  'hello',
  'compare',
  'mapOffer',
  'map',
  'data',
  'final',
  'close',
  'keepAlive',
];

export async function openSenderTarget(): Promise<Target> {
  const scripts = await recordScripts();
  const live = await LiveSender.start();
  const maxima = { 'most turns of a case': 0, 'cases over TLS': 0 };
  return {
    name: 'sender',
    // A comparison reads the target through two buffers of this size.
    maxBufferBytes: 2 * 2 ** 20,
    maxCaseBytes: 8 * 2 ** 20,
    maxima,
    run(random) {
      const script = pickScript(random, scripts);
      if (!random.oneIn(LIVE_EACH)) return inMemory(random, script, maxima);
      maxima['cases over TLS'] += 1;
      const { bytes } = encodeBent(random, bend(random, script));
      return live.meet(random, bytes, script);
    },
    close: () => live.close(),
  };
}

/** Comparisons ask for large buffers: they are fewer. */
function pickScript(random: Random, scripts: readonly Script[]): Script {
  const isCompared = random.oneIn(6);
  return random.pick(scripts.filter(script => script.isCompared === isCompared));
}

const bend = (random: Random, { frames }: Script): Said[] =>
  bendFrames(random, { ...(CONVERSATIONS[0] as Conversation), frames });

async function inMemory(random: Random, script: Script, maxima: Record<string, number>): Promise<string> {
  const socket = new MemorySocket();
  const source = new WatchedSource(script.map, script.disk);
  const durable: number[] = [];
  let layer: OutgoingLayer | null = null;
  let outcome: string | null = null;
  let failure: unknown = null;
  const running = runSender(socket, source, script.isCompared, {
    onLayer: opened => {
      layer = opened;
    },
    onDurable: bytes => durable.push(bytes),
  }).then(
    () => {
      outcome = 'accepted';
    },
    error => {
      failure = error;
      outcome = error instanceof OffsiteError ? error.code : 'untyped';
    },
  );
  const said = bend(random, script);
  const { bytes } = encodeBent(random, said);
  let turns = 0;
  // Frame by frame, so that each finds the sender where it belongs; or all at once, in any chunks.
  const isHasty = random.oneIn(4);
  for (const part of isHasty ? chunksOf(random, bytes) : portionsOf(said, bytes)) {
    if (!isHasty) turns += await untilQuiet(socket, () => outcome !== null);
    socket.bring(part);
    must(turns < MAX_TURNS, () => 'the sender goes on speaking');
  }
  turns += await untilQuiet(socket, () => outcome !== null);
  socket.bringEnd();
  for (; outcome === null; turns += 1) {
    must(turns < MAX_TURNS, () => `the sender still runs after ${turns} turns`);
    await nextTurn();
  }
  await running;
  maxima['most turns of a case'] = Math.max(maxima['most turns of a case'] ?? 0, turns);
  if (outcome === 'untyped') throw failure;
  must(socket.destroyed, () => 'the connection was left open');
  must(source.notices.isClosed, () => 'the source was left open');
  checkWords(socket, bytes, layer, durable, outcome === 'accepted');
  checkReads(source, layer, script);
  return outcome;
}

/** Cut where the frames ended before their bytes were bent. */
function* portionsOf(said: readonly Said[], bytes: Buffer): Generator<Buffer, undefined> {
  let at = 0;
  for (const { payload } of said) {
    const end = Math.min(bytes.length, at + HEADER_BYTES + payload.length);
    if (end > at) yield bytes.subarray(at, end);
    at = end;
  }
  if (at < bytes.length) yield bytes.subarray(at);
}

/** @returns the turns that it took */
async function untilQuiet(socket: MemorySocket, hasEnded: () => boolean): Promise<number> {
  let turns = 0;
  let quiet = 0;
  for (let heard = -1; quiet < QUIET_TURNS && !hasEnded() && turns < MAX_TURNS; turns += 1) {
    quiet = socket.written.length === heard ? quiet + 1 : 0;
    heard = socket.written.length;
    await nextTurn();
  }
  return turns;
}

/** All that the sender said: sound frames, the layer's own bytes, from where the receiver wanted them. */
function checkWords(
  socket: MemorySocket,
  brought: Buffer,
  layer: OutgoingLayer | null,
  durable: readonly number[],
  isAccepted: boolean,
): void {
  const heard = framesOf(socket.written, MAX_SENDER_PAYLOAD_BYTES);
  const wanted = framesOf([brought], MAX_CONTROL_PAYLOAD_BYTES, true);
  must(heard[0]?.name === 'hello', () => 'the sender did not begin with its hello');
  must(
    heard.every(({ name }) => SAYS.includes(name)),
    () => `the sender said ${heard.map(({ name }) => name).join(', ')}`,
  );
  const closed = heard.findIndex(({ name }) => name === 'close');
  must(closed < 0 || closed === heard.length - 1, () => 'the sender went on after its last word');
  const data = heard.filter(({ name }) => name === 'data');
  const map = heard.filter(({ name }) => name === 'map');
  const has = (name: FrameName): boolean => wanted.some(frame => frame.name === name);
  must(heard.length === 1 || has('welcome') || closed === 1, () => 'more than a hello without a welcome');
  must(map.length === 0 || has('mapWanted'), () => 'a map that nobody wanted');
  must(data.length === 0 || has('start'), () => 'data that nobody wanted');
  const offer = heard.find(({ name }) => name === 'mapOffer');
  if (offer === undefined || layer === null) {
    must(data.length + map.length === 0, () => 'data or a map without an offer');
    return;
  }
  const { source, dataBytes } = layer;
  must(decodeMapOffer(offer.payload).dataBytes === dataBytes, () => 'an offer of another layer');
  checkPieces('map', map, source.map.encoded, 0);
  if (data.length > 0) {
    const starts = wanted.filter(({ name }) => name === 'start').map(startOf);
    const first = decodePiece('data', (data[0] as Frame).payload).position;
    must(starts.includes(first), () => `data from ${first}, where ${starts.join(' or ')} was wanted`);
    checkPieces('data', data, (source as WatchedSource).streamAt(0, dataBytes), first);
  }
  for (const [index, bytes] of durable.entries()) {
    must(bytes >= (durable[index - 1] ?? 0) && bytes <= dataBytes, () => `durable ${durable.join(', ')}`);
  }
  if (!isAccepted) return;
  const received = wanted.filter(({ name }) => name === 'received').map(({ payload }) => payload);
  // Before a map was offered the receiver's word alone counts: it had all.
  const digest = heard.some(({ name }) => name === 'final') ? Buffer.from(layer.contentDigest()) : null;
  must(
    received.some(
      payload => digest === null || digest.equals(decodeContentWord('received', payload).contentDigest),
    ),
    () => 'it ended well without the right digest',
  );
}

/** A START that cannot be read names no position. */
function startOf({ payload }: Frame): number {
  try {
    return decodePosition('start', payload);
  } catch {
    return -1;
  }
}

function checkPieces(name: 'map' | 'data', frames: readonly Frame[], whole: Uint8Array, first: number): void {
  let due = first;
  for (const { payload } of frames) {
    const { position, bytes } = decodePiece(name, payload);
    must(position === due, () => `a ${name} piece at ${position} where ${due} was due`);
    must(
      bytes.equals(whole.subarray(position, position + bytes.length)),
      () => `a ${name} piece of other bytes, at ${position}`,
    );
    due += bytes.length;
  }
  must(due <= whole.length, () => `${name} beyond its end`);
}

/** Once for the comparison, once for the stream. */
function checkReads(
  { notices }: WatchedSource,
  layer: OutgoingLayer | null,
  { map, isCompared }: Script,
): void {
  const most = (isCompared ? map.dataBytes : 0) + (layer?.dataBytes ?? 0);
  must(notices.readBytes <= most, () => `${notices.readBytes} bytes were read, where ${most} are enough`);
  must(notices.reading === 0, () => 'a read was left under way');
}

/** @param isBent ends at the first byte that no frame can have */
function framesOf(parts: readonly Buffer[], most: number, isBent = false): Frame[] {
  const frames: Frame[] = [];
  const decoder = new FrameDecoder(most, new PayloadPool(most, 0));
  try {
    for (const part of parts) decoder.push(part, frame => frames.push(frame));
  } catch (error) {
    if (!isBent) throw error;
  }
  must(isBent || decoder.heldBytes === 0, () => 'the sender sent half a frame');
  return frames;
}
