/** The receiver's whole conversation, one or two senders at a time; now and then over a real TLS connection. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { OffsiteError } from '../../../src/domain/errors.ts';
import type { Log } from '../../../src/lib/log.ts';
import { FrameConnection } from '../../../src/transfer/connection.ts';
import { DiskRegistry } from '../../../src/transfer/disk-registry.ts';
import { FrameDecoder, type FrameName, PayloadPool } from '../../../src/transfer/frames.ts';
import {
  MAX_CONTROL_PAYLOAD_BYTES,
  MAX_SENDER_PAYLOAD_BYTES,
  RECEIVER_LIMITS,
} from '../../../src/transfer/limits.ts';
import { decodeLastWord, encodeHello } from '../../../src/transfer/messages.ts';
import type { ReceiverContext } from '../../../src/transfer/receiver-context.ts';
import { converse, type Place } from '../../../src/transfer/receiver-conversation.ts';
import { must, type Target } from '../campaign.ts';
import { bendFrames, chunksOf, encodeBent } from '../frames/bend.ts';
import { CONVERSATIONS, type Conversation, DISK_TASK, EPOCH, type Said } from '../frames/conversations.ts';
import type { Random } from '../random.ts';
import { LiveReceiver } from './live-receiver.ts';
import { MemorySocket } from './memory-socket.ts';
import { type Mishap, PlannedFailure, sessionOf, WatchedDirectory } from './watched-directory.ts';

const FINGERPRINT = 'ab'.repeat(32);
const LIVE_EACH = 4096;
/** No timer decides anything in memory; queues are short, so that reading stops and goes on. */
const LIMITS = {
  ...RECEIVER_LIMITS,
  queuedBytes: 4096,
  flushBytes: 2000,
  keepAliveMs: 600_000,
  idleMs: 600_000,
};
/** A conversation that has all its input ends within so many turns of the event loop. */
const MAX_TURNS = 200;
const SAYS: readonly FrameName[] = [
  'welcome',
  'refused',
  'mapWanted',
  'start',
  'ack',
  'received',
  'keepAlive',
  'hashes',
  'compared',
];
const MISHAPS: readonly Mishap[] = [
  ...Array.from({ length: 16 }, (): Mishap => 'none'),
  'find-fails',
  'open-fails',
  'write-fails',
  'flush-fails',
  'superseded',
];

export async function openReceiverTarget(): Promise<Target> {
  const maxima = { 'most turns of a case': 0, 'cases over TLS': 0 };
  const live = await LiveReceiver.start();
  return {
    name: 'receiver',
    maxBufferBytes: MAX_SENDER_PAYLOAD_BYTES,
    // Two senders, each with a payload of the largest size and the buffers that are kept.
    maxCaseBytes: 8 * MAX_SENDER_PAYLOAD_BYTES,
    maxima,
    run: random => {
      if (!random.oneIn(LIVE_EACH)) return inMemory(random, maxima);
      maxima['cases over TLS'] += 1;
      const conversation = random.pick(CONVERSATIONS);
      const { bytes } = encodeBent(random, bendFrames(random, conversation));
      return live.take(random, bytes, conversation);
    },
    close: () => live.close(),
  };
}

interface Logged {
  readonly event?: string;
  readonly code?: string;
  readonly err?: unknown;
}

/** There is always room. */
const PLACE: Place = { known: () => undefined, take: () => undefined };

async function inMemory(random: Random, maxima: Record<string, number>): Promise<string> {
  const conversation = random.pick(CONVERSATIONS);
  const mishap = random.pick(MISHAPS);
  const directory = directoryOf(random, conversation, mishap);
  const logged: Logged[] = [];
  const note = (fields: object): void => void logged.push(fields);
  const log: Log = { debug: note, info: note, warn: note, error: note };
  const context: ReceiverContext = {
    ...{ directory, registry: new DiskRegistry(), limits: LIMITS, log, strangers: log, nowMs: () => 1 },
    lookup: work => work(),
  };
  const sockets: MemorySocket[] = [];
  let running = 0;
  const begin = (said: readonly Said[]): void => {
    const socket = new MemorySocket();
    sockets.push(socket);
    const connection = new FrameConnection(socket.asSocket, LIMITS, context.nowMs);
    running += 1;
    const peer = { fingerprint: random.oneIn(40) ? 'cd'.repeat(32) : FINGERPRINT, address: 'memory' };
    void converse(connection, peer, context, PLACE).finally(() => (running -= 1));
    for (const chunk of chunksOf(random, encodeBent(random, said).bytes)) socket.bring(chunk);
  };
  begin(bendFrames(random, conversation));
  if (random.oneIn(5)) {
    for (let turns = random.below(3); turns > 0; turns -= 1) await nextTurn();
    begin(bendFrames(random, withAttempt(conversation, random)));
  }
  let turns = 0;
  for (; running > 0; turns += 1) {
    must(turns < MAX_TURNS, () => `a conversation still runs after ${turns} turns`);
    await nextTurn();
    if (turns >= 1) for (const socket of sockets) if (!socket.isWaiting) socket.bringEnd();
  }
  maxima['most turns of a case'] = Math.max(maxima['most turns of a case'] ?? 0, turns);
  must(directory.openSinks === 0, () => 'a sink was left open');
  must(directory.openBases === 0, () => 'what a disk is compared with was left open');
  for (const socket of sockets) {
    must(socket.destroyed, () => 'a connection was left open');
    listen(socket);
  }
  return outcomeOf(logged, directory);
}

function directoryOf(random: Random, { map }: Conversation, mishap: Mishap): WatchedDirectory {
  if (random.oneIn(30)) return new WatchedDirectory(null, null, mishap);
  const state = random.oneIn(10) ? random.pick(['received', 'closed'] as const) : 'open';
  const openCount = random.oneIn(12) ? random.below(3) : EPOCH.openCount;
  const session = sessionOf(DISK_TASK, { ...EPOCH, openCount }, FINGERPRINT, state);
  return new WatchedDirectory(session, random.oneIn(4) ? map : null, mishap);
}

/** The same disk task, connected once more. */
function withAttempt(conversation: Conversation, random: Random): Conversation {
  const attempt = conversation.hello.attempt + random.below(3) - 1;
  const payload = encodeHello({ ...conversation.hello, attempt }).subarray(16);
  return { ...conversation, frames: [{ name: 'hello', payload }, ...conversation.frames.slice(1)] };
}

/** What the receiver said must be sound frames of a receiver, and nothing behind the last word. */
function listen(socket: MemorySocket): void {
  const heard: FrameName[] = [];
  const decoder = new FrameDecoder(MAX_CONTROL_PAYLOAD_BYTES, new PayloadPool(MAX_CONTROL_PAYLOAD_BYTES, 0));
  for (const bytes of socket.written) {
    decoder.push(bytes, ({ name, payload }) => {
      heard.push(name);
      if (name === 'refused') must(decodeLastWord(payload).code.length > 0, () => 'a refusal without a code');
    });
  }
  must(decoder.heldBytes === 0, () => 'the receiver sent half a frame');
  must(
    heard.every(name => SAYS.includes(name)),
    () => `the receiver said ${heard.join(', ')}`,
  );
  const last = heard.findIndex(name => name === 'refused' || name === 'received');
  must(
    last < 0 || last === heard.length - 1,
    () => `the receiver went on after its last word: ${heard.join(', ')}`,
  );
  must(heard.filter(name => name === 'start').length <= 1, () => 'START was said twice');
}

/** How the first sender fared; every refusal must be typed, or have been planned. */
function outcomeOf(logged: readonly Logged[], directory: WatchedDirectory): string {
  for (const { event, err } of logged) {
    if (event === 'close-failed') must(false, () => `a sink could not be closed: ${err}`);
    if (err === undefined || err instanceof OffsiteError || err instanceof PlannedFailure) continue;
    if (directory.finds > 0 && err instanceof Error && /cannot look up its sessions/.test(err.message))
      continue;
    throw err;
  }
  const end = logged.find(
    ({ event }) => event === 'refused' || event === 'sender-gone' || event === 'received',
  );
  if (end?.event === 'received' || (end === undefined && directory.received === null)) return 'accepted';
  return end?.code ?? end?.event ?? 'accepted';
}
