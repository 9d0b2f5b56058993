/** What the sender says and does on one connection, from the hello to the receiver's last word. */
import type { Log } from '../lib/log.ts';
import { type FrameConnection, outOfOrder } from './connection.ts';
import { ConnectionLostError, errorOfRefusal, ProtocolError, refusalOf } from './errors.ts';
import type { Frame, FrameName } from './frames.ts';
import { MAX_PIECE_BYTES } from './limits.ts';
import {
  type ContentWord,
  decodeContentWord,
  decodeLastWord,
  decodePosition,
  decodeWelcome,
  encodeHello,
  encodeLastWord,
  encodeMapOffer,
  encodePiece,
  type Hello,
  PROTOCOL_VERSION,
  type Welcome,
} from './messages.ts';
import type { OutgoingLayer } from './outgoing-layer.ts';
import { OutgoingStream } from './outgoing-stream.ts';
import type { Throttle } from './throttle.ts';

/** The two sites' clocks, compared in the hello. */
export interface ClockReading {
  /** The receiver's clock minus the sender's; wrong by at most half of the round trip. */
  readonly offsetMs: number;
  readonly roundTripMs: number;
}

export interface SenderConversationOptions {
  readonly hello: Pick<Hello, 'diskTaskUuid' | 'epoch' | 'attempt'>;
  /** Opens the layer the first time; gives the same one later. */
  readonly openLayer: () => Promise<OutgoingLayer>;
  readonly throttle: Throttle;
  /** This site's clock, as the hello tells it. */
  readonly nowMs: () => number;
  readonly log: Log;
  readonly onNote: (note: string) => void;
  readonly onDurable: (durableBytes: number) => void;
}

export class SenderConversation {
  readonly #connection: FrameConnection;
  readonly #options: SenderConversationOptions;
  #clock: ClockReading | null = null;

  constructor(connection: FrameConnection, options: SenderConversationOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /** Null before the welcome. */
  get clock(): ClockReading | null {
    return this.#clock;
  }

  /**
   * @returns the receiver's word that it has all
   * @throws {ConnectionLostError} when it is worth connecting again; all else is not for this class to mend
   */
  async run(): Promise<ContentWord> {
    try {
      return await this.#talk();
    } catch (error) {
      if (error instanceof ConnectionLostError) throw await this.#lastWordOr(error);
      // The operator at the other site sees why, too.
      await this.#connection.finish(encodeLastWord('close', refusalOf(error)));
      throw error;
    }
  }

  async #talk(): Promise<ContentWord> {
    const answer = await this.#sayHello();
    if ('contentDigest' in answer) return answer;
    const layer = await this.#options.openLayer();
    await layer.source.assertUnchanged();
    const start = await this.#offerMap(layer);
    if (start < layer.hashedBytes) {
      const { diskTaskUuid } = this.#options.hello;
      this.#options.log.debug(
        { event: 'sends-again', diskTaskUuid, start, sent: layer.hashedBytes },
        'resumes',
      );
    }
    this.#options.onDurable(start);
    if (start > layer.hashedBytes) this.#options.onNote('hashes what the receiver holds already');
    const maxPieceBytes = Math.min(answer.maxPieceBytes, MAX_PIECE_BYTES);
    return this.#stream(layer, start, maxPieceBytes);
  }

  async #sayHello(): Promise<Welcome | ContentWord> {
    const { nowMs } = this.#options;
    const sentAtMs = nowMs();
    this.#connection.send(encodeHello({ version: PROTOCOL_VERSION, ...this.#options.hello, sentAtMs }));
    const frame = await this.#expect(['welcome', 'received']);
    if (frame.name === 'received') return decodeContentWord('received', frame.payload);
    const answeredAtMs = nowMs();
    const welcome = decodeWelcome(frame.payload);
    if (welcome.version !== PROTOCOL_VERSION) {
      throw new ProtocolError('BadFrame', `the receiver speaks version ${welcome.version}`);
    }
    this.#clock = {
      offsetMs: (welcome.helloAtMs - sentAtMs + (welcome.sentAtMs - answeredAtMs)) / 2,
      roundTripMs: answeredAtMs - sentAtMs - (welcome.sentAtMs - welcome.helloAtMs),
    };
    return welcome;
  }

  /** @returns the position from which the receiver wants the stream */
  async #offerMap({ source, mapDigest, dataBytes, compared }: OutgoingLayer): Promise<number> {
    const { virtualSizeBytes, clusterSizeBytes, encoded } = source.map;
    const encodedBytes = encoded.length;
    this.#connection.send(
      encodeMapOffer({ mapDigest, virtualSizeBytes, clusterSizeBytes, encodedBytes, dataBytes, compared }),
    );
    this.#options.onNote('waits while the receiver opens its file');
    let frame = await this.#expect(['start', 'mapWanted']);
    if (frame.name === 'mapWanted') {
      for (let position = 0; position < encodedBytes; position += MAX_PIECE_BYTES) {
        const piece = encoded.subarray(position, position + MAX_PIECE_BYTES);
        await this.#connection.write(encodePiece('map', position, piece));
      }
      frame = await this.#expect(['start']);
    }
    const start = decodePosition('start', frame.payload);
    if (start > dataBytes)
      throw new ProtocolError('BadPosition', `a start at ${start} of ${dataBytes} bytes`);
    return start;
  }

  async #stream(layer: OutgoingLayer, start: number, maxPieceBytes: number): Promise<ContentWord> {
    const connection = this.#connection;
    const { throttle } = this.#options;
    const stream = new OutgoingStream({ connection, layer, start, maxPieceBytes, throttle });
    const stop = new AbortController();
    const listening = this.#listen(layer, stream, start).finally(() =>
      stop.abort(new ConnectionLostError('the conversation is over')),
    );
    listening.catch(() => {});
    try {
      await stream.run(stop.signal);
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    }
    return listening;
  }

  /** Takes the receiver's words while the stream goes out. */
  async #listen(layer: OutgoingLayer, stream: OutgoingStream, start: number): Promise<ContentWord> {
    let durable = start;
    for (;;) {
      const frame = await this.#expect(['ack', 'received']);
      if (frame.name === 'ack') {
        const position = decodePosition('ack', frame.payload);
        if (position < durable || position > stream.sentTo) {
          throw new ProtocolError(
            'BadPosition',
            `an acknowledgement of ${position}, sent was ${stream.sentTo}`,
          );
        }
        durable = position;
        this.#options.onDurable(durable);
        continue;
      }
      const word = decodeContentWord('received', frame.payload);
      const isOurs = stream.isComplete && Buffer.from(layer.contentDigest()).equals(word.contentDigest);
      if (!isOurs)
        throw new ProtocolError('DigestMismatch', 'the receiver has another content than was sent');
      return word;
    }
  }

  #expect(names: readonly FrameName[]): Promise<Frame> {
    return expectUnlessRefused(this.#connection, names);
  }

  /** A refusal may have come just before the connection broke. */
  async #lastWordOr(lost: ConnectionLostError): Promise<Error> {
    try {
      for (;;) await this.#expect(['ack', 'start', 'mapWanted', 'hashes', 'compared', 'received']);
    } catch (error) {
      return error instanceof ConnectionLostError ? lost : (error as Error);
    }
  }
}

/** The next frame. @throws what a refusal says, in place of the frames that were expected */
export async function expectUnlessRefused(
  connection: FrameConnection,
  names: readonly FrameName[],
): Promise<Frame> {
  const frame = await connection.receive();
  if (frame.name === 'refused') throw errorOfRefusal(decodeLastWord(frame.payload));
  if (!names.includes(frame.name)) throw outOfOrder(frame.name, [...names, 'refused']);
  return frame;
}
