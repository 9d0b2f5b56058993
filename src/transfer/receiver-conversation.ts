/** What the receiver says and does on one connection, from the hello to the last word. */
import { mapDigest } from '../domain/content-digest.ts';
import { ReopenNeededError, SupersededError } from '../domain/errors.ts';
import { ExtentMap, ExtentMapError, MAX_ENCODED_BYTES } from '../domain/extent-map.ts';
import { compareEpochs } from '../domain/fences.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import type { FrameConnection } from './connection.ts';
import { Visitor } from './disk-registry.ts';
import { ConnectionLostError, ProtocolError, RefusedError, refusalOf, SenderLeftError } from './errors.ts';
import type { Frame } from './frames.ts';
import { answerComparison } from './incoming-comparison.ts';
import { receiveJournal } from './incoming-journal.ts';
import { decodeJournal } from './journal-messages.ts';
import { MAX_PIECE_BYTES } from './limits.ts';
import {
  type ContentWord,
  decodeCompare,
  decodeHello,
  decodeLastWord,
  decodeMapOffer,
  decodePiece,
  encodeContentWord,
  encodeLastWord,
  encodeMapWanted,
  encodeWelcome,
  type Hello,
  JOURNAL_VERSION,
  type MapOffer,
  PROTOCOL_VERSION,
} from './messages.ts';
import type { LayerSink, SessionDirectory, SessionRecord } from './ports.ts';
import type { QuietLog } from './quiet-log.ts';
import type { ReceiverContext } from './receiver-context.ts';
import { receiveStream } from './receiver-stream.ts';

/** Who is at the other end, as logs name it. */
export interface Peer {
  readonly fingerprint: string | null;
  readonly address: string;
}

/** What a connection holds at its receiver. */
export interface Place {
  /** The peer is who may bring this disk: it no longer counts among those that may be strangers. */
  known(): void;
  /** It is going to bring bytes. @throws {RefusedError} TooManyConnections */
  take(): void;
}

/** Never rejects: every failure is logged, and told to the peer where it still listens. */
export async function converse(
  connection: FrameConnection,
  peer: Peer,
  context: ReceiverContext,
  place: Place,
): Promise<void> {
  let visitor: Visitor | null = null;
  let isKnown = false;
  try {
    const helloFrame = await connection.expect(['hello'], context.limits.helloMs);
    const helloAtMs = context.nowMs();
    const hello = decodeHello(helloFrame.payload);
    visitor = new Visitor(hello, connection);
    context.registry.enter(visitor);
    const session = await context.lookup(() => admit(connection, hello, peer, context));
    isKnown = true;
    place.known();
    await receive({ visitor, hello, helloAtMs, peer, context, place }, session);
  } catch (error) {
    const note = error instanceof Error ? error.message : String(error);
    if (visitor !== null) context.registry.report(visitor, { note });
    const about = { ...peer, diskTaskUuid: visitor?.diskTaskUuid ?? null };
    await sayGoodbye(connection, error, about, isKnown ? context.log : context.strangers);
  } finally {
    if (visitor !== null) context.registry.leave(visitor);
  }
}

interface Conversation {
  readonly visitor: Visitor;
  readonly hello: Hello;
  readonly helloAtMs: number;
  readonly peer: Peer;
  readonly context: ReceiverContext;
  readonly place: Place;
}

async function receive(
  { visitor, hello, helloAtMs, peer, context, place }: Conversation,
  admitted: SessionRecord,
): Promise<void> {
  const { connection } = visitor;
  let session = admitted;
  if (session.state !== 'received' && (await context.registry.claim(visitor))) {
    // The one that was cut may have ended the disk, or a newer epoch may have been opened meanwhile.
    session = await admit(connection, hello, peer, context);
  }
  if (session.received !== null) return answerReceived(connection, session.received);
  place.take();
  context.registry.report(visitor, { note: 'the sender is connected' });
  await noteClock(session, hello, context);
  connection.allowLargeFrames();
  const maxPieceBytes = MAX_PIECE_BYTES;
  const version = Math.min(hello.version, PROTOCOL_VERSION);
  connection.send(encodeWelcome({ version, maxPieceBytes, helloAtMs, sentAtMs: context.nowMs() }));
  const word = await receiveContent(visitor, session, version, context);
  await context.directory.markReceived(session, {
    totalBytes: word.dataBytes,
    contentDigest: toHex(word.contentDigest),
  });
  context.registry.report(visitor, { durableBytes: word.dataBytes, note: null });
  context.log.info(
    { event: 'received', diskTaskUuid: hello.diskTaskUuid, dataBytes: word.dataBytes },
    'a disk is whole',
  );
  await connection.finish(encodeContentWord('received', word));
}

/** A layer or a journal, as the sender's first frame says. @returns the word to be noted and sent as RECEIVED */
async function receiveContent(
  visitor: Visitor,
  session: SessionRecord,
  version: number,
  context: ReceiverContext,
): Promise<ContentWord> {
  const { connection } = visitor;
  const journals = version >= JOURNAL_VERSION ? (['journal'] as const) : [];
  const frame = await connection.expect(['mapOffer', 'compare', ...journals, 'close']);
  if (frame.name === 'journal') {
    return receiveJournal(visitor, session, decodeJournal(frame.payload), context);
  }
  const offer = await takeOffer(frame, visitor, session, context);
  context.registry.report(visitor, { totalBytes: offer.dataBytes, note: 'opens and hashes what is there' });
  const sink = await openSink(connection, session, offer, context.directory);
  return receiveStream({ visitor, sink, dataBytes: offer.dataBytes, context });
}

/** Its lack makes a time wrong, never a transfer fail. */
async function noteClock(
  session: SessionRecord,
  { sentAtMs, diskTaskUuid }: Hello,
  { directory, log }: ReceiverContext,
): Promise<void> {
  await directory.noteSourceClock?.(session, sentAtMs).catch(err => {
    log.warn(
      { event: 'clock-not-noted', diskTaskUuid, err },
      "how far the source's clock is off was not noted",
    );
  });
}

/** @throws {RefusedError} @throws {SupersededError} @throws {ReopenNeededError} */
async function admit(
  connection: FrameConnection,
  hello: Hello,
  peer: Peer,
  { directory, strangers }: ReceiverContext,
): Promise<SessionRecord> {
  // Whoever left while it waited is not looked up.
  if (connection.failure !== null) throw connection.failure;
  if (hello.version < 1)
    throw new RefusedError('UnsupportedVersion', `version ${hello.version} is not spoken here`);
  const session = await directory.find(hello.diskTaskUuid).catch(error => {
    strangers.warn({ event: 'session-lookup-failed', err: error }, 'the sessions cannot be looked up');
    // A stranger is not told what is broken here.
    throw new Error('the receiver cannot look up its sessions now');
  });
  if (session === null)
    throw new ReopenNeededError(`no session of the disk task ${hello.diskTaskUuid} is open here`);
  if (peer.fingerprint !== session.senderFingerprint) {
    throw new RefusedError('NotAdmitted', 'this session is open for another node');
  }
  const order = compareEpochs(hello.epoch, session.epoch);
  if (order < 0) throw new SupersededError('a newer session of this disk task was opened');
  if (order > 0) throw new ReopenNeededError('the session of this epoch is not known here');
  if (session.state === 'closed') throw new ReopenNeededError('the session was closed by the replica site');
  return session;
}

async function answerReceived(
  connection: FrameConnection,
  received: NonNullable<SessionRecord['received']>,
): Promise<void> {
  const contentDigest = Buffer.from(received.contentDigest, 'hex');
  await connection.finish(encodeContentWord('received', { contentDigest, dataBytes: received.totalBytes }));
}

/** A disk that is compared has its hashes before. */
async function takeOffer(
  first: Frame,
  visitor: Visitor,
  session: SessionRecord,
  context: ReceiverContext,
): Promise<MapOffer> {
  const { connection } = visitor;
  let frame = first;
  if (frame.name === 'compare') {
    await answerComparison(visitor, session, decodeCompare(frame.payload), context);
    frame = await connection.expect(['mapOffer', 'close']);
  }
  if (frame.name === 'close') throw new SenderLeftError(decodeLastWord(frame.payload));
  const offer = decodeMapOffer(frame.payload);
  if (offer.encodedBytes > MAX_ENCODED_BYTES) throw new ExtentMapError('the extent map is too large');
  return offer;
}

/** Finds the map here, or fetches it, and opens the sink over it. START is sent by the stream. */
async function openSink(
  connection: FrameConnection,
  session: SessionRecord,
  offer: MapOffer,
  directory: SessionDirectory,
): Promise<LayerSink> {
  const resumed = await directory.resumeSink(session, offer.mapDigest, offer.compared);
  if (resumed !== null) return resumed;
  connection.send(encodeMapWanted());
  const map = await takeMap(connection, offer);
  return directory.openSink(session, map, offer.compared);
}

/** @throws {ProtocolError} @throws {ExtentMapError} */
async function takeMap(connection: FrameConnection, offer: MapOffer): Promise<ExtentMap> {
  let encoded = Buffer.allocUnsafe(Math.min(offer.encodedBytes, MAX_PIECE_BYTES));
  let taken = 0;
  while (taken < offer.encodedBytes) {
    const frame = await connection.expect(['map', 'close']);
    if (frame.name === 'close') throw new SenderLeftError(decodeLastWord(frame.payload));
    const { position, bytes } = decodePiece('map', frame.payload);
    if (position !== taken || taken + bytes.length > offer.encodedBytes) {
      throw new ProtocolError('BadPosition', `map bytes at ${position} where ${taken} was due`);
    }
    if (taken + bytes.length > encoded.length) encoded = grown(encoded, taken, offer.encodedBytes);
    bytes.copy(encoded, taken);
    taken += bytes.length;
    connection.release(frame);
  }
  const map = ExtentMap.decode(offer, encoded.subarray(0, taken));
  if (!Buffer.from(mapDigest(map, createXxh128)).equals(offer.mapDigest)) {
    throw new ProtocolError('MapDigestMismatch', 'the extent map is not the one that was offered');
  }
  if (map.dataBytes !== offer.dataBytes) {
    throw new ExtentMapError(`the map holds ${map.dataBytes} data bytes, ${offer.dataBytes} were offered`);
  }
  return map;
}

/** Grows with what came, not with what was announced; and the pieces may be of one byte each. */
function grown(bytes: Buffer<ArrayBuffer>, usedBytes: number, maxBytes: number): Buffer<ArrayBuffer> {
  const larger = Buffer.allocUnsafe(Math.min(maxBytes, 2 * bytes.length + MAX_PIECE_BYTES));
  bytes.copy(larger, 0, 0, usedBytes);
  return larger;
}

async function sayGoodbye(
  connection: FrameConnection,
  error: unknown,
  about: object,
  log: Log | QuietLog,
): Promise<void> {
  if (error instanceof ConnectionLostError || error instanceof SenderLeftError) {
    log.info({ event: 'sender-gone', ...about }, error.message);
    connection.destroy(error.message);
    return;
  }
  const refusal = refusalOf(error);
  log.warn({ event: 'refused', ...about, code: refusal.code, err: error }, `refused: ${refusal.text}`);
  await connection.finish(encodeLastWord('refused', refusal));
}
