/** The source site's end of one disk's data connection: connects, sends, connects again, until B has all. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ReceiverOffer, TransferProgress } from '../contract/transfer.ts';
import { ReopenNeededError } from '../domain/errors.ts';
import { toHex } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import type { FrameConnection } from './connection.ts';
import { ConnectionLostError } from './errors.ts';
import type { NodeIdentity } from './identity.ts';
import { SENDER_LIMITS, type SenderLimits } from './limits.ts';
import { encodeLastWord } from './messages.ts';
import { compareWithReceiver } from './outgoing-comparison.ts';
import { OutgoingLayer } from './outgoing-layer.ts';
import type { LayerSource } from './ports.ts';
import { type ClockReading, SenderConversation } from './sender-conversation.ts';
import { dial } from './sender-dial.ts';
import type { Throttle } from './throttle.ts';

export interface SendLayerOptions {
  readonly identity: NodeIdentity;
  readonly offer: ReceiverOffer;
  readonly diskTaskUuid: string;
  /** The first connection's number; must lie above all that earlier callers of this epoch may have used. */
  readonly attempt: number;
  /** Called at most once, when the receiver has welcomed the sender. */
  readonly openSource: () => Promise<LayerSource>;
  /** True for a disk that is to be compared with what the receiver has; the source is then of the whole disk. */
  readonly compare?: boolean;
  readonly throttle: Throttle;
  readonly signal: AbortSignal;
  /** Told at each acknowledgement, and whenever the note changes. */
  readonly onProgress: (progress: TransferProgress) => void;
  readonly log: Log;
  readonly limits?: Partial<SenderLimits>;
  /** This site's clock. */
  readonly nowMs?: () => number;
}

export interface SentLayer extends TransferProgress {
  /** What both ends computed, hexadecimal. */
  readonly contentDigest: string;
  /** Bytes of the data stream that were sent, those that came twice included. */
  readonly bytesSent: number;
  /** How many connections it took. */
  readonly connections: number;
  /** Of the last welcome; null when the receiver had all at the first hello. */
  readonly clock: ClockReading | null;
}

/** How long a stopped sender tries to say that it stops. */
const STOP_WORD_MS = 200;

/**
 * Sends one layer, and ends only with the receiver's word that it has all. Lost connections are made again;
 * what the receiver acknowledged is not sent again.
 * @throws the signal's reason, soon after it aborts; the source is closed by then
 * @throws {ReopenNeededError} when the receiver was not heard of for two minutes, or does not know the session
 * @throws {SupersededError} when a newer epoch was opened
 * @throws {PlanBrokenError} when the source changed, or the receiver's ground did
 * @throws {PeerFingerprintMismatch} when another node listens there
 * @throws {OffsiteError} with the receiver's code and words for any other refusal; worth trying again
 */
export async function sendLayer(options: SendLayerOptions): Promise<SentLayer> {
  const sender = new LayerSender(options);
  try {
    return await sender.run();
  } catch (error) {
    options.signal.throwIfAborted();
    throw error;
  } finally {
    await sender.close();
  }
}

class LayerSender {
  readonly #options: SendLayerOptions;
  readonly #limits: SenderLimits;
  readonly #where: string;
  #source: LayerSource | null = null;
  #layer: OutgoingLayer | null = null;
  #clock: ClockReading | null = null;
  #durableBytes = 0;
  #totalBytes: number | null = null;
  #connections = 0;
  #heardAtMs = performance.now();

  constructor(options: SendLayerOptions) {
    this.#options = options;
    this.#limits = { ...SENDER_LIMITS, ...options.limits };
    this.#where = `${options.offer.host}:${options.offer.port}`;
  }

  async run(): Promise<SentLayer> {
    let failures = 0;
    for (;;) {
      this.#options.signal.throwIfAborted();
      const durableBefore = this.#durableBytes;
      try {
        return await this.#connectOnce();
      } catch (error) {
        if (!(error instanceof ConnectionLostError)) throw error;
        failures = this.#durableBytes > durableBefore ? 0 : failures + 1;
        await this.#backOff(error, failures);
      }
    }
  }

  async close(): Promise<void> {
    const { log, diskTaskUuid } = this.#options;
    await this.#source?.close().catch(err => {
      log.warn({ event: 'source-close-failed', diskTaskUuid, err }, 'a source could not be closed');
    });
  }

  async #connectOnce(): Promise<SentLayer> {
    const { identity, offer, diskTaskUuid, attempt, signal, throttle, log, nowMs = Date.now } = this.#options;
    this.#report(`connects to the receiver at ${this.#where}`);
    const connection = await dial(identity, offer, this.#limits, signal);
    this.#connections += 1;
    this.#heardAtMs = performance.now();
    const onStop = (): void => {
      const word = { code: 'Stopped', text: 'it was told to stop', retryable: true };
      void connection.finish(encodeLastWord('close', word), STOP_WORD_MS);
    };
    signal.addEventListener('abort', onStop, { once: true });
    if (signal.aborted) onStop();
    const conversation = new SenderConversation(connection, {
      hello: { diskTaskUuid, epoch: offer.epoch, attempt: attempt + this.#connections - 1 },
      openLayer: () => this.#openLayer(connection),
      throttle,
      nowMs,
      log,
      onNote: note => this.#report(note),
      onDurable: durableBytes => this.#onDurable(durableBytes),
    });
    try {
      const word = await conversation.run();
      this.#durableBytes = word.dataBytes;
      this.#totalBytes = word.dataBytes;
      this.#report(null);
      return this.#result(toHex(word.contentDigest), conversation.clock);
    } finally {
      this.#clock = conversation.clock ?? this.#clock;
      this.#heardAtMs = Math.max(this.#heardAtMs, connection.lastFrameAtMs);
      signal.removeEventListener('abort', onStop);
      if (!signal.aborted) connection.destroy('the sender ended the connection');
      await connection.closed;
    }
  }

  async #openLayer(connection: FrameConnection): Promise<OutgoingLayer> {
    if (this.#layer !== null) return this.#layer;
    if (this.#source === null) {
      this.#report('reads the extent map');
      this.#source = await this.#options.openSource();
    }
    this.#layer = await this.#outgoing(connection, this.#source);
    this.#totalBytes = this.#layer.dataBytes;
    return this.#layer;
  }

  /** What was compared stays so when the connection is made again: nothing is hashed twice. */
  async #outgoing(connection: FrameConnection, source: LayerSource): Promise<OutgoingLayer> {
    if (this.#options.compare !== true) return new OutgoingLayer(source);
    const compared = await compareWithReceiver(connection, source, note => this.#report(note));
    const { diskTaskUuid, log } = this.#options;
    log.info({ event: 'compared', diskTaskUuid, dataBytes: compared.source.map.dataBytes }, compared.text);
    return new OutgoingLayer(compared.source, compared.offer);
  }

  async #backOff(error: ConnectionLostError, failures: number): Promise<void> {
    const { log, diskTaskUuid, signal } = this.#options;
    const { unreachableMs, backoffMinMs, backoffMaxMs } = this.#limits;
    const silentMs = performance.now() - this.#heardAtMs;
    if (silentMs >= unreachableMs) {
      const seconds = Math.round(silentMs / 1000);
      const text = `nothing was heard of the receiver at ${this.#where} for ${seconds} s: ${error.message}`;
      throw new ReopenNeededError(text, { cause: error });
    }
    log.info({ event: 'connection-lost', diskTaskUuid, where: this.#where, failures }, error.message);
    this.#report(`waits for the receiver at ${this.#where}: ${error.message}`);
    // Disks that lost their connections together should not come back in step.
    const delayMs = Math.min(backoffMinMs * 2 ** failures, backoffMaxMs) * (0.75 + Math.random() / 4);
    await sleep(Math.min(delayMs, unreachableMs - silentMs), undefined, { signal });
  }

  #onDurable(durableBytes: number): void {
    this.#durableBytes = durableBytes;
    this.#report(null);
  }

  #report(note: string | null): void {
    const { diskTaskUuid, onProgress } = this.#options;
    onProgress({ diskTaskUuid, durableBytes: this.#durableBytes, totalBytes: this.#totalBytes, note });
  }

  #result(contentDigest: string, clock: ClockReading | null): SentLayer {
    return {
      diskTaskUuid: this.#options.diskTaskUuid,
      durableBytes: this.#durableBytes,
      totalBytes: this.#totalBytes,
      note: null,
      contentDigest,
      bytesSent: this.#layer?.bytesSent ?? 0,
      connections: this.#connections,
      clock: clock ?? this.#clock,
    };
  }
}
