/** The receiver's data phase: frames into the sink, durable acknowledgements, the two digests. */
import { ExtentMapError } from '../domain/extent-map.ts';
import { outOfOrder } from './connection.ts';
import type { Visitor } from './disk-registry.ts';
import { ConnectionLostError, ProtocolError, SenderLeftError } from './errors.ts';
import type { Frame } from './frames.ts';
import {
  type ContentWord,
  decodeContentWord,
  decodeLastWord,
  decodePiece,
  encodePosition,
} from './messages.ts';
import type { LayerSink } from './ports.ts';
import type { ReceiverContext } from './receiver-context.ts';

/**
 * Sends START and takes the stream until both ends agree on its digest. The sink is closed in any case; what
 * was written before the connection was lost is made durable first, so that it need not come again.
 * @returns the word to be noted and sent as RECEIVED
 * @throws {ProtocolError} DigestMismatch, BadPosition, FrameOutOfOrder
 */
export async function receiveStream(parts: {
  visitor: Visitor;
  sink: LayerSink;
  dataBytes: number;
  context: ReceiverContext;
}): Promise<ContentWord> {
  const stream = new IncomingStream(parts);
  try {
    return await stream.run();
  } finally {
    await stream.close();
  }
}

class IncomingStream {
  readonly #visitor: Visitor;
  readonly #sink: LayerSink;
  readonly #dataBytes: number;
  readonly #context: ReceiverContext;
  #position: number;
  #durable: number;
  #flushedAtMs = performance.now();
  #sinkFailed = false;

  constructor(parts: Parameters<typeof receiveStream>[0]) {
    this.#visitor = parts.visitor;
    this.#sink = parts.sink;
    this.#dataBytes = parts.dataBytes;
    this.#context = parts.context;
    this.#position = parts.sink.durableBytes;
    this.#durable = parts.sink.durableBytes;
  }

  async run(): Promise<ContentWord> {
    const { connection } = this.#visitor;
    const { flushBytes, flushIdleMs, flushMs } = this.#context.limits;
    if (this.#position > this.#dataBytes || (this.#sink.dataBytes ?? this.#dataBytes) !== this.#dataBytes) {
      throw new ExtentMapError(`${this.#dataBytes} data bytes were offered; the map has another number`);
    }
    connection.send(encodePosition('start', this.#position));
    this.#report('receives');
    for (;;) {
      this.#throwIfCut();
      const unflushed = this.#position - this.#durable;
      const isLate = unflushed > 0 && performance.now() - this.#flushedAtMs >= flushMs;
      if (unflushed >= flushBytes || isLate) await this.#flush();
      const frame = unflushed > 0 ? await connection.receiveWithin(flushIdleMs) : await connection.receive();
      if (frame === null) await this.#flush();
      else if (frame.name === 'data') await this.#write(frame);
      else if (frame.name === 'final') return await this.#finish(decodeContentWord('final', frame.payload));
      else if (frame.name === 'close') throw new SenderLeftError(decodeLastWord(frame.payload));
      else throw outOfOrder(frame.name, ['data', 'final', 'close']);
    }
  }

  async close(): Promise<void> {
    const { log } = this.#context;
    const { diskTaskUuid } = this.#visitor;
    try {
      if (!this.#sinkFailed && this.#position > this.#durable) await this.#flush();
    } catch (err) {
      log.warn({ event: 'flush-failed', diskTaskUuid, err }, 'the last bytes could not be made durable');
    }
    try {
      await this.#sink.close();
    } catch (err) {
      log.warn({ event: 'close-failed', diskTaskUuid, err }, 'a replica file could not be closed');
    }
  }

  async #write(frame: Frame): Promise<void> {
    const { position, bytes } = decodePiece('data', frame.payload);
    if (position !== this.#position) {
      throw new ProtocolError('BadPosition', `data at ${position} where ${this.#position} was due`);
    }
    if (position + bytes.length > this.#dataBytes) {
      throw new ProtocolError('BadPosition', `data beyond the stream's ${this.#dataBytes} bytes`);
    }
    await this.#guarded(() => this.#sink.write(bytes, position));
    this.#position += bytes.length;
    this.#visitor.connection.release(frame);
  }

  async #flush(): Promise<void> {
    this.#durable = await this.#guarded(() => this.#sink.flush());
    this.#flushedAtMs = performance.now();
    this.#visitor.connection.send(encodePosition('ack', this.#durable));
    this.#report('receives');
  }

  async #finish(theirs: ContentWord): Promise<ContentWord> {
    if (this.#position !== this.#dataBytes || theirs.dataBytes !== this.#dataBytes) {
      throw new ProtocolError('BadPosition', `the end at ${this.#position} of ${this.#dataBytes} data bytes`);
    }
    const contentDigest = Buffer.from(await this.#guarded(() => this.#sink.finish()));
    this.#durable = this.#position;
    this.#throwIfCut();
    if (contentDigest.equals(theirs.contentDigest)) return { contentDigest, dataBytes: this.#dataBytes };
    await this.#guarded(async () => this.#sink.discard?.());
    this.#durable = 0;
    this.#position = 0;
    throw new ProtocolError(
      'DigestMismatch',
      'what was written is not what the sender read; it is sent anew',
    );
  }

  /** What waits in the queue of a cut connection is not written any more. */
  #throwIfCut(): void {
    const { isCut, connection } = this.#visitor;
    if (isCut) throw connection.failure ?? new ConnectionLostError('the connection was cut');
  }

  /** After a failure the sink is only closed. */
  async #guarded<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      this.#sinkFailed = true;
      throw error;
    }
  }

  #report(note: string): void {
    this.#context.registry.report(this.#visitor, {
      durableBytes: this.#durable,
      totalBytes: this.#dataBytes,
      note,
    });
  }
}
