/** Sends one layer: its map, its data stream, and the digest that both ends agree on. */
import type { Log } from '../lib/log.ts';
import type { FrameConnection } from './connection.ts';
import { LayerConversation } from './layer-conversation.ts';
import { MAX_PIECE_BYTES } from './limits.ts';
import type { ContentWord, Welcome } from './messages.ts';
import { compareWithReceiver } from './outgoing-comparison.ts';
import { OutgoingLayer } from './outgoing-layer.ts';
import type { LayerSource } from './ports.ts';
import { type Cargo, type SenderOptions, type SenderProgress, type Sent, sendCargo } from './sender-loop.ts';
import type { Throttle } from './throttle.ts';

export interface SendLayerOptions extends SenderOptions {
  /** Called at most once, when the receiver has welcomed the sender. */
  readonly openSource: () => Promise<LayerSource>;
  /** True for a disk that is to be compared with what the receiver has; the source is then of the whole disk. */
  readonly compare?: boolean;
  readonly throttle: Throttle;
}

export type SentLayer = Sent;

/**
 * Sends one layer, and ends only with the receiver's word that it has all.
 * @throws as {@link sendCargo}
 */
export const sendLayer = (options: SendLayerOptions): Promise<SentLayer> =>
  sendCargo(options, new LayerCargo(options));

class LayerCargo implements Cargo {
  readonly #options: SendLayerOptions;
  readonly #log: Log;
  #source: LayerSource | null = null;
  #layer: OutgoingLayer | null = null;

  constructor(options: SendLayerOptions) {
    this.#options = options;
    this.#log = options.log;
  }

  get bytesSent(): number {
    return this.#layer?.bytesSent ?? 0;
  }

  async converse(
    connection: FrameConnection,
    welcome: Welcome,
    progress: SenderProgress,
  ): Promise<ContentWord> {
    const { throttle, diskTaskUuid } = this.#options;
    const layer = await this.#openLayer(connection, progress);
    await layer.source.assertUnchanged();
    const maxPieceBytes = Math.min(welcome.maxPieceBytes, MAX_PIECE_BYTES);
    const conversation = new LayerConversation({ connection, layer, maxPieceBytes, throttle, progress });
    const start = await conversation.offerMap();
    if (start < layer.hashedBytes) {
      const event = { event: 'sends-again', diskTaskUuid, start, sent: layer.hashedBytes };
      this.#log.debug(event, 'resumes');
    }
    return conversation.stream(start);
  }

  async close(): Promise<void> {
    await this.#source?.close();
  }

  async #openLayer(connection: FrameConnection, progress: SenderProgress): Promise<OutgoingLayer> {
    if (this.#layer !== null) return this.#layer;
    if (this.#source === null) {
      progress.note('reads the extent map');
      this.#source = await this.#options.openSource();
    }
    this.#layer = await this.#outgoing(connection, this.#source, progress);
    progress.total(this.#layer.dataBytes);
    return this.#layer;
  }

  /** What was compared stays so when the connection is made again: nothing is hashed twice. */
  async #outgoing(
    connection: FrameConnection,
    source: LayerSource,
    progress: SenderProgress,
  ): Promise<OutgoingLayer> {
    if (this.#options.compare !== true) return new OutgoingLayer(source);
    const compared = await compareWithReceiver(connection, source, note => progress.note(note));
    const { diskTaskUuid } = this.#options;
    const event = { event: 'compared', diskTaskUuid, dataBytes: compared.source.map.dataBytes };
    this.#log.info(event, compared.text);
    return new OutgoingLayer(compared.source, compared.offer);
  }
}
