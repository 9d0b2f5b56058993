/** The sender's half of a comparison: hashes the target and finds the clusters in which the receiver's base differs. */

import { type ExtentKind, type ExtentMap, ExtentMapBuilder, type MapShape } from '../domain/extent-map.ts';
import { GuestDigester, isZero } from '../domain/guest-digest.ts';
import { BLAKE3_BYTES, blake3, createXxh128 } from '../lib/digest.ts';
import { formatSize } from '../lib/sizes.ts';
import type { FrameConnection } from './connection.ts';
import { ProtocolError } from './errors.ts';
import { MAX_PIECE_BYTES } from './limits.ts';
import { type ComparedOffer, decodeCompared, decodeHashes, encodeCompare, type HashRun } from './messages.ts';
import type { LayerSource } from './ports.ts';
import { expectUnlessRefused } from './sender-conversation.ts';

export interface OutgoingComparison {
  /** What is to be sent: the differing clusters over the receiver's base, or all where it has none. */
  readonly source: LayerSource;
  /** Null where the receiver has nothing to compare with. */
  readonly offer: ComparedOffer | null;
  /** The receiver's words. */
  readonly text: string;
}

const NOTE_EVERY_MS = 1_000;

/**
 * Asks for the hashes of what the receiver has and reads the whole target beside them.
 * @throws {ConnectionLostError} @throws {ProtocolError} when the hashes are not those of every cluster in order
 */
export async function compareWithReceiver(
  connection: FrameConnection,
  source: LayerSource,
  onNote: (note: string) => void,
): Promise<OutgoingComparison> {
  onNote('waits for the hashes of what the receiver has');
  connection.send(encodeCompare(source.map));
  const incoming = new IncomingHashes(connection, source.map);
  if (!(await incoming.hasBase())) return { source, offer: null, text: (await incoming.end()).text };

  const difference = new Difference(source.map);
  let notedAtMs = performance.now();
  for await (const piece of targetPieces(source)) {
    if (connection.failure !== null) throw connection.failure;
    for (let at = 0; at < piece.length; ) {
      const run = await incoming.take(piece.length - at);
      difference.add(piece.bytes?.subarray(at, at + run.length) ?? null, run);
      at += run.length;
    }
    if (performance.now() - notedAtMs < NOTE_EVERY_MS) continue;
    notedAtMs = performance.now();
    onNote(`compares: ${formatSize(difference.offset)} of ${formatSize(source.map.virtualSizeBytes)}`);
  }
  const { token, text } = await incoming.end();
  if (token === null) throw new ProtocolError('BadFrame', 'a comparison that ended without a token');
  const { map, guestDigest } = difference.finish();
  return { source: source.withMap(map), offer: { token, guestDigest }, text };
}

/** What the receiver says of some clusters, cut to where both ends stand. */
interface BasePart {
  readonly kind: HashRun['kind'];
  /** Guest bytes. */
  readonly length: number;
  readonly hashes: Buffer;
}

/** The receiver's hashes, in any portions; every cluster must come once and in order. */
class IncomingHashes {
  readonly #connection: FrameConnection;
  readonly #shape: MapShape;
  #run: HashRun | null = null;
  /** Guest bytes of the run that were taken. */
  #offset = 0;
  #end: ReturnType<typeof decodeCompared> | null = null;

  constructor(connection: FrameConnection, shape: MapShape) {
    this.#connection = connection;
    this.#shape = shape;
  }

  async hasBase(): Promise<boolean> {
    if (this.#shape.virtualSizeBytes > 0) await this.#next();
    return this.#run !== null;
  }

  /** @param most guest bytes, to the end of a cluster */
  async take(most: number): Promise<BasePart> {
    if (this.#run === null) await this.#next();
    if (this.#run === null) throw new ProtocolError('BadFrame', `the hashes end at ${this.#offset}`);
    const { kind, offset, clusters, hashes } = this.#run;
    const { clusterSizeBytes, virtualSizeBytes } = this.#shape;
    const end = Math.min(offset + clusters * clusterSizeBytes, virtualSizeBytes);
    const length = Math.min(most, end - this.#offset);
    const first = (this.#offset - offset) / clusterSizeBytes;
    const last = first + Math.ceil(length / clusterSizeBytes);
    this.#offset += length;
    if (this.#offset === end) this.#run = null;
    return { kind, length, hashes: hashes.subarray(first * BLAKE3_BYTES, last * BLAKE3_BYTES) };
  }

  async end(): Promise<ReturnType<typeof decodeCompared>> {
    if (this.#end === null && this.#run === null) await this.#next();
    if (this.#end === null) throw new ProtocolError('BadPosition', 'hashes beyond the end of the disk');
    return this.#end;
  }

  async #next(): Promise<void> {
    const frame = await expectUnlessRefused(this.#connection, ['hashes', 'compared']);
    if (frame.name === 'compared') {
      this.#end = decodeCompared(frame.payload);
      return;
    }
    const run = decodeHashes(frame.payload);
    const { clusterSizeBytes, virtualSizeBytes } = this.#shape;
    const leftClusters = Math.ceil((virtualSizeBytes - this.#offset) / clusterSizeBytes);
    if (run.offset !== this.#offset || run.clusters > leftClusters) {
      throw new ProtocolError('BadPosition', `hashes at ${run.offset} where ${this.#offset} was due`);
    }
    this.#run = run;
  }
}

/** Puts the map of the differing clusters and the digest of the whole disk together. */
class Difference {
  readonly #clusterSizeBytes: number;
  readonly #map: ExtentMapBuilder;
  readonly #digester: GuestDigester;
  readonly #zeroHashes = new Map<number, Buffer>();

  constructor(shape: MapShape) {
    this.#clusterSizeBytes = shape.clusterSizeBytes;
    this.#map = new ExtentMapBuilder(shape);
    this.#digester = new GuestDigester(shape.virtualSizeBytes, createXxh128);
  }

  get offset(): number {
    return this.#digester.taken;
  }

  /** @param bytes the target's, of whole clusters; null where it reads as zeros */
  add(bytes: Buffer | null, part: BasePart): void {
    if (bytes === null && part.kind !== 'hashed') {
      this.#map.add(part.kind === 'zero' ? 'hole' : 'zero', part.length);
      this.#digester.zeros(part.length);
      return;
    }
    for (let at = 0; at < part.length; at += this.#clusterSizeBytes) {
      const length = Math.min(this.#clusterSizeBytes, part.length - at);
      const cluster = bytes?.subarray(at, at + length) ?? null;
      const hashAt = (at / this.#clusterSizeBytes) * BLAKE3_BYTES;
      const hash = part.hashes.subarray(hashAt, hashAt + BLAKE3_BYTES);
      this.#map.add(
        this.#kindOf(cluster === null || isZero(cluster) ? null : cluster, length, part, hash),
        length,
      );
    }
    if (bytes === null) this.#digester.zeros(part.length);
    else this.#digester.update(bytes);
  }

  finish(): { map: ExtentMap; guestDigest: Uint8Array } {
    return { map: this.#map.build(), guestDigest: this.#digester.finish() };
  }

  /** `hole` where the base shows the same. @param bytes null for zeros */
  #kindOf(bytes: Buffer | null, length: number, { kind }: BasePart, hash: Buffer): ExtentKind {
    if (bytes === null) {
      if (kind === 'zero' || (kind === 'hashed' && this.#zeroHash(length).equals(hash))) return 'hole';
      return 'zero';
    }
    return kind === 'hashed' && blake3(bytes).equals(hash) ? 'hole' : 'data';
  }

  #zeroHash(length: number): Buffer {
    const known = this.#zeroHashes.get(length) ?? blake3(Buffer.alloc(length));
    this.#zeroHashes.set(length, known);
    return known;
  }
}

interface TargetPiece {
  readonly length: number;
  /** Valid until the next but one piece; null where the target reads as zeros. */
  readonly bytes: Buffer | null;
}

/** The whole target in order, in pieces of whole clusters; the next is read while one is hashed. */
async function* targetPieces(source: LayerSource): AsyncGenerator<TargetPiece, undefined> {
  const buffers = [Buffer.allocUnsafe(MAX_PIECE_BYTES * 2), Buffer.allocUnsafe(MAX_PIECE_BYTES * 2)];
  let ahead: { piece: TargetPiece; read: Promise<void> } | null = null;
  try {
    for (const { length, position } of pieceRanges(source.map)) {
      const buffer = buffers.reverse()[0] as Buffer;
      const bytes = position === null ? null : buffer.subarray(0, length);
      const read = bytes === null ? Promise.resolve() : source.readStream(bytes, position ?? 0);
      // Awaited later; the piece before may fail first.
      read.catch(() => {});
      const before = ahead;
      ahead = { piece: { length, bytes }, read };
      if (before === null) continue;
      await before.read;
      yield before.piece;
    }
    if (ahead !== null) {
      await ahead.read;
      yield ahead.piece;
    }
  } finally {
    await ahead?.read.catch(() => {});
  }
}

/** Where the pieces lie; `position` is that in the data stream, null for what reads as zeros. */
function* pieceRanges(map: ExtentMap): Generator<{ length: number; position: number | null }, undefined> {
  const pieceBytes = Math.max(MAX_PIECE_BYTES, map.clusterSizeBytes);
  let position = 0;
  for (const { kind, length } of map) {
    if (kind !== 'data') {
      yield { length, position: null };
      continue;
    }
    for (let at = 0; at < length; at += pieceBytes) {
      const take = Math.min(pieceBytes, length - at);
      yield { length: take, position: position };
      position += take;
    }
  }
}
