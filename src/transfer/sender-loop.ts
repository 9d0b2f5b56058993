/** The source site's end of one disk's data connection: connects, talks, connects again, until B has all. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ReceiverOffer, TransferProgress } from '../contract/transfer.ts';
import { ReopenNeededError } from '../domain/errors.ts';
import { toHex } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import type { FrameConnection } from './connection.ts';
import { ConnectionLostError } from './errors.ts';
import type { NodeIdentity } from './identity.ts';
import { SENDER_LIMITS, type SenderLimits } from './limits.ts';
import { type ContentWord, encodeLastWord, type Welcome } from './messages.ts';
import { type ClockReading, SenderConversation } from './sender-conversation.ts';
import { dial } from './sender-dial.ts';

/** What every sender is told, whatever it brings. */
export interface SenderOptions {
  readonly identity: NodeIdentity;
  readonly offer: ReceiverOffer;
  readonly diskTaskUuid: string;
  /** The first connection's number; must lie above all that earlier callers of this epoch may have used. */
  readonly attempt: number;
  readonly signal: AbortSignal;
  /** Told at each acknowledgement, and whenever the note changes. */
  readonly onProgress: (progress: TransferProgress) => void;
  readonly log: Log;
  readonly limits?: Partial<SenderLimits>;
  /** This site's clock. */
  readonly nowMs?: () => number;
}

/** What is brought: a layer or a journal. It outlives connections, and goes on where the last one ended. */
export interface Cargo {
  /** Bytes that were sent, those that came twice included. */
  readonly bytesSent: number;
  /**
   * All that is said between the receiver's welcome and its last word.
   * @returns the receiver's word that it has all
   * @throws {ConnectionLostError} when it is worth connecting again; all else is not for the sender to mend
   */
  converse(connection: FrameConnection, welcome: Welcome, progress: SenderProgress): Promise<ContentWord>;
  close(): Promise<void>;
}

/** How a cargo tells how far it is. */
export interface SenderProgress {
  note(text: string | null): void;
  /** So much the receiver has acknowledged. */
  durable(bytes: number): void;
  total(bytes: number | null): void;
  /** At this time, by this site's clock, the receiver had all that there was. */
  caughtUp?(atMs: number): void;
}

export interface Sent extends TransferProgress {
  /** What both ends computed, hexadecimal. */
  readonly contentDigest: string;
  /** Bytes of content that were sent, those that came twice included. */
  readonly bytesSent: number;
  /** How many connections it took. */
  readonly connections: number;
  /** Of the last welcome; null when the receiver had all at the first hello. */
  readonly clock: ClockReading | null;
}

/** How long a stopped sender tries to say that it stops. */
const STOP_WORD_MS = 200;

/**
 * Ends only with the receiver's word that it has all. Lost connections are made again; what the receiver acknowledged
 * is not sent again. The cargo is closed in any case.
 * @throws the signal's reason, soon after it aborts
 * @throws {ReopenNeededError} when the receiver was not heard of for two minutes, or does not know the session
 * @throws {SupersededError} when a newer epoch was opened
 * @throws {PlanBrokenError} when the source changed, or the receiver's ground did
 * @throws {PeerFingerprintMismatch} when another node listens there
 * @throws {OffsiteError} with the receiver's code and words for any other refusal; worth trying again
 */
export async function sendCargo(options: SenderOptions, cargo: Cargo): Promise<Sent> {
  try {
    return await new Sender(options, cargo).run();
  } catch (error) {
    options.signal.throwIfAborted();
    throw error;
  } finally {
    const { log, diskTaskUuid } = options;
    await cargo.close().catch(err => {
      log.warn({ event: 'source-close-failed', diskTaskUuid, err }, 'a source could not be closed');
    });
  }
}

class Sender {
  readonly #options: SenderOptions;
  readonly #cargo: Cargo;
  readonly #limits: SenderLimits;
  readonly #where: string;
  readonly #progress: SenderProgress;
  #clock: ClockReading | null = null;
  #durableBytes = 0;
  #caughtUpAtMs: number | null = null;
  #totalBytes: number | null = null;
  #connections = 0;
  #heardAtMs = performance.now();

  constructor(options: SenderOptions, cargo: Cargo) {
    this.#options = options;
    this.#cargo = cargo;
    this.#limits = { ...SENDER_LIMITS, ...options.limits };
    this.#where = `${options.offer.host}:${options.offer.port}`;
    this.#progress = {
      note: text => this.#report(text),
      durable: bytes => {
        this.#durableBytes = bytes;
        this.#report(null);
      },
      total: bytes => {
        this.#totalBytes = bytes;
      },
      caughtUp: atMs => {
        this.#caughtUpAtMs = Math.max(atMs, this.#caughtUpAtMs ?? 0);
        this.#report(null);
      },
    };
  }

  async run(): Promise<Sent> {
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

  async #connectOnce(): Promise<Sent> {
    const { identity, offer, diskTaskUuid, attempt, signal, nowMs = Date.now } = this.#options;
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
      converse: welcome => this.#cargo.converse(connection, welcome, this.#progress),
      nowMs,
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

  #report(note: string | null): void {
    const { diskTaskUuid, onProgress } = this.#options;
    const caughtUp = this.#caughtUpAtMs === null ? {} : { caughtUpAtMs: this.#caughtUpAtMs };
    const [durableBytes, totalBytes] = [this.#durableBytes, this.#totalBytes];
    onProgress({ diskTaskUuid, durableBytes, totalBytes, note, ...caughtUp });
  }

  #result(contentDigest: string, clock: ClockReading | null): Sent {
    return {
      diskTaskUuid: this.#options.diskTaskUuid,
      durableBytes: this.#durableBytes,
      totalBytes: this.#totalBytes,
      note: null,
      contentDigest,
      bytesSent: this.#cargo.bytesSent,
      connections: this.#connections,
      clock: clock ?? this.#clock,
    };
  }
}
