/** What the sender of a layer says between the welcome and the receiver's last word. */
import type { FrameConnection } from './connection.ts';
import { ConnectionLostError, ProtocolError } from './errors.ts';
import { MAX_PIECE_BYTES } from './limits.ts';
import {
  type ContentWord,
  decodeContentWord,
  decodePosition,
  encodeMapOffer,
  encodePiece,
} from './messages.ts';
import type { OutgoingLayer } from './outgoing-layer.ts';
import { OutgoingStream } from './outgoing-stream.ts';
import { expectUnlessRefused } from './sender-conversation.ts';
import type { SenderProgress } from './sender-loop.ts';
import type { Throttle } from './throttle.ts';

export interface LayerConversationOptions {
  readonly connection: FrameConnection;
  readonly layer: OutgoingLayer;
  readonly maxPieceBytes: number;
  readonly throttle: Throttle;
  readonly progress: SenderProgress;
}

export class LayerConversation {
  readonly #options: LayerConversationOptions;

  constructor(options: LayerConversationOptions) {
    this.#options = options;
  }

  /** @returns the position from which the receiver wants the stream */
  async offerMap(): Promise<number> {
    const { connection, layer, progress } = this.#options;
    const { source, mapDigest, dataBytes, compared } = layer;
    const { virtualSizeBytes, clusterSizeBytes, encoded } = source.map;
    const encodedBytes = encoded.length;
    connection.send(
      encodeMapOffer({ mapDigest, virtualSizeBytes, clusterSizeBytes, encodedBytes, dataBytes, compared }),
    );
    progress.note('waits while the receiver opens its file');
    let frame = await expectUnlessRefused(connection, ['start', 'mapWanted']);
    if (frame.name === 'mapWanted') {
      for (let position = 0; position < encodedBytes; position += MAX_PIECE_BYTES) {
        const piece = encoded.subarray(position, position + MAX_PIECE_BYTES);
        await connection.write(encodePiece('map', position, piece));
      }
      frame = await expectUnlessRefused(connection, ['start']);
    }
    const start = decodePosition('start', frame.payload);
    if (start > dataBytes)
      throw new ProtocolError('BadPosition', `a start at ${start} of ${dataBytes} bytes`);
    return start;
  }

  /** @param start from {@link offerMap} */
  async stream(start: number): Promise<ContentWord> {
    const { connection, layer, maxPieceBytes, throttle, progress } = this.#options;
    progress.durable(start);
    if (start > layer.hashedBytes) progress.note('hashes what the receiver holds already');
    const stream = new OutgoingStream({ connection, layer, start, maxPieceBytes, throttle });
    const stop = new AbortController();
    const listening = this.#listen(stream, start).finally(() =>
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
  async #listen(stream: OutgoingStream, start: number): Promise<ContentWord> {
    const { connection, layer, progress } = this.#options;
    let durable = start;
    for (;;) {
      const frame = await expectUnlessRefused(connection, ['ack', 'received']);
      if (frame.name === 'ack') {
        const position = decodePosition('ack', frame.payload);
        if (position < durable || position > stream.sentTo) {
          throw new ProtocolError(
            'BadPosition',
            `an acknowledgement of ${position}, sent was ${stream.sentTo}`,
          );
        }
        durable = position;
        progress.durable(durable);
        continue;
      }
      const word = decodeContentWord('received', frame.payload);
      const isOurs = stream.isComplete && Buffer.from(layer.contentDigest()).equals(word.contentDigest);
      if (!isOurs)
        throw new ProtocolError('DigestMismatch', 'the receiver has another content than was sent');
      return word;
    }
  }
}
