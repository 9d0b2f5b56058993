/** Reads ahead, hashes, and sends the data stream from one position to its end, on one connection. */
import type { FrameConnection } from './connection.ts';
import { sealFrame } from './frames.ts';
import { DATA_CONTENT_AT, encodeContentWord } from './messages.ts';
import type { OutgoingLayer } from './outgoing-layer.ts';
import type { Throttle } from './throttle.ts';

/** Pieces that are being read or sent at one time: the sender's whole memory of bytes. */
const PIECES = 4;

interface ReadPiece {
  readonly frame: Buffer;
  readonly position: number;
  readonly length: number;
  readonly read: Promise<void>;
}

export interface OutgoingStreamOptions {
  readonly connection: FrameConnection;
  readonly layer: OutgoingLayer;
  /** Where the receiver's durable prefix ends. */
  readonly start: number;
  readonly maxPieceBytes: number;
  readonly throttle: Throttle;
}

export class OutgoingStream {
  readonly #options: OutgoingStreamOptions;
  readonly #free: Buffer[] = [];
  #wake: (() => void) | null = null;
  #sentTo: number;
  #isComplete = false;

  constructor(options: OutgoingStreamOptions) {
    this.#options = options;
    this.#sentTo = options.start;
    const pieceBytes = Math.min(options.maxPieceBytes, Math.max(options.layer.dataBytes, 1));
    for (let count = 0; count < PIECES; count += 1) {
      this.#free.push(Buffer.allocUnsafe(DATA_CONTENT_AT + pieceBytes));
    }
  }

  /** The end of what was handed to the connection: no acknowledgement may lie beyond. */
  get sentTo(): number {
    return this.#sentTo;
  }

  /** True when the whole stream and FINAL were handed over. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /**
   * Resolves when FINAL was handed to the connection. A broken connection is seen by whoever reads it, who then
   * aborts the signal.
   * @throws what the source throws @throws the signal's reason; no read is under way any more
   */
  async run(signal: AbortSignal): Promise<void> {
    const { layer, start, connection } = this.#options;
    const pending: ReadPiece[] = [];
    // What was hashed and not made durable is sent again but not hashed again, and the other way round.
    let next = Math.min(start, layer.hashedBytes);
    try {
      for (;;) {
        next = this.#readAhead(pending, next);
        const piece = pending.shift();
        if (piece !== undefined) await this.#pass(piece, signal);
        else if (next < layer.dataBytes) await this.#freed(signal);
        else break;
      }
    } finally {
      await Promise.allSettled(pending.map(({ read }) => read));
    }
    await layer.source.assertUnchanged();
    signal.throwIfAborted();
    this.#isComplete = true;
    const word = { contentDigest: layer.contentDigest(), dataBytes: layer.dataBytes };
    connection.send(encodeContentWord('final', word));
  }

  #readAhead(pending: ReadPiece[], from: number): number {
    const { layer, start, maxPieceBytes, throttle } = this.#options;
    let position = from;
    while (position < layer.dataBytes) {
      const frame = this.#free.pop();
      if (frame === undefined) break;
      const isHashedOnly = position < start;
      const mostBytes = isHashedOnly ? maxPieceBytes : throttle.pieceBytes(maxPieceBytes);
      const length = Math.min(mostBytes, (isHashedOnly ? start : layer.dataBytes) - position);
      const target = frame.subarray(DATA_CONTENT_AT, DATA_CONTENT_AT + length);
      const read = layer.source.readStream(target, position);
      // It is awaited later, and others may fail first.
      read.catch(() => {});
      pending.push({ frame, position, length, read });
      position += length;
    }
    return position;
  }

  async #pass({ frame, position, length, read }: ReadPiece, signal: AbortSignal): Promise<void> {
    const { layer, start, throttle, connection } = this.#options;
    await read;
    signal.throwIfAborted();
    const whole = frame.subarray(0, DATA_CONTENT_AT + length);
    layer.hash(whole.subarray(DATA_CONTENT_AT), position);
    if (position < start) return this.#release(frame);
    await throttle.take(length, signal);
    whole.writeBigUInt64LE(BigInt(position), DATA_CONTENT_AT - 8);
    const sent = connection.write(sealFrame('data', whole));
    this.#sentTo = position + length;
    layer.bytesSent += length;
    void sent.catch(() => {}).then(() => this.#release(frame));
  }

  #release(frame: Buffer): void {
    this.#free.push(frame);
    this.#wake?.();
  }

  async #freed(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      this.#wake = () => {
        this.#wake = null;
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
    });
  }
}
