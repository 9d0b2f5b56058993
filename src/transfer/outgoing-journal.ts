/** The records of a journal on their way out over one connection, beside what the receiver says of them. */
import type { FrameConnection } from './connection.ts';
import { ConnectionLostError, ProtocolError } from './errors.ts';
import {
  decodeJournalAck,
  decodeJournalStart,
  encodeRecords,
  type JournalStart,
  journalDigest,
  sentBytesOf,
} from './journal-messages.ts';
import { MAX_PIECE_BYTES } from './limits.ts';
import { type ContentWord, decodeContentWord, encodeContentWord } from './messages.ts';
import type { JournalCut, JournalSource, TransferRecord } from './ports.ts';
import { expectUnlessRefused } from './sender-conversation.ts';
import type { SenderProgress } from './sender-loop.ts';
import type { Throttle } from './throttle.ts';

/** So often a journal that rests is told to be all there. */
const CAUGHT_UP_MS = 1_000;
/** Frames that are being sent at one time. */
const FRAMES = 4;

export interface OutgoingJournalOptions {
  readonly connection: FrameConnection;
  readonly source: JournalSource;
  readonly throttle: Throttle;
  readonly progress: SenderProgress;
  readonly onSent: (bytes: number) => void;
  /** This site's clock. */
  readonly nowMs: () => number;
}

export class OutgoingJournal {
  readonly #options: OutgoingJournalOptions;
  readonly #inFlight = new Set<Promise<void>>();
  #sent: JournalCut = { nextIndex: 0, sequence: 0 };
  #acknowledged = 0;
  /** Of what is not acknowledged yet, the oldest first: the end of each frame, and its newest record's time. */
  readonly #pending: { readonly nextIndex: number; readonly timeUs: number }[] = [];
  #finalDigest: Uint8Array | null = null;
  #onAcknowledged: (() => void) | null = null;

  constructor(options: OutgoingJournalOptions) {
    this.#options = options;
  }

  /** @returns the receiver's word that it has all @throws what the source throws, when all before is acknowledged */
  async run(): Promise<ContentWord> {
    const { connection } = this.#options;
    const start = decodeJournalStart((await expectUnlessRefused(connection, ['start'])).payload);
    this.#sent = { nextIndex: start.nextIndex, sequence: start.sequence };
    this.#acknowledged = start.nextIndex;
    this.#options.progress.durable(start.recordBytes);
    const stop = new AbortController();
    const listening = this.#listen(start).finally(() =>
      stop.abort(new ConnectionLostError('the conversation is over')),
    );
    listening.catch(() => {});
    const rest = setInterval(() => this.#tellRest(), CAUGHT_UP_MS);
    try {
      await this.#send(stop.signal);
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      clearInterval(rest);
    }
    return listening;
  }

  #tellRest(): void {
    const { source, progress, nowMs } = this.#options;
    if (source.isDrained && this.#acknowledged === this.#sent.nextIndex) progress.caughtUp?.(nowMs());
  }

  async #send(signal: AbortSignal): Promise<void> {
    const { source, connection } = this.#options;
    try {
      for await (const records of source.read(this.#sent, signal)) await this.#sendRecords(records, signal);
    } catch (error) {
      signal.throwIfAborted();
      // What lies before a damaged place is not to be lost with it.
      await this.#allAcknowledged(signal);
      throw error;
    }
    signal.throwIfAborted();
    this.#finalDigest = journalDigest(source.identity, this.#sent);
    const { nextIndex } = this.#sent;
    connection.send(encodeContentWord('final', { contentDigest: this.#finalDigest, dataBytes: nextIndex }));
  }

  async #sendRecords(records: readonly TransferRecord[], signal: AbortSignal): Promise<void> {
    const { throttle, onSent } = this.#options;
    for (let from = 0; from < records.length; ) {
      const count = countThatFits(records, from, throttle.pieceBytes(MAX_PIECE_BYTES));
      const batch = records.slice(from, from + count);
      const frame = encodeRecords(batch);
      await throttle.take(frame.length, signal);
      signal.throwIfAborted();
      const last = batch.at(-1) as TransferRecord;
      this.#sent = { nextIndex: last.index + 1, sequence: last.sequence };
      this.#pending.push({ nextIndex: last.index + 1, timeUs: last.timeUs });
      onSent(frame.length);
      await this.#write(frame);
      from += count;
    }
  }

  /** A broken connection is seen by {@link #listen}. */
  async #write(frame: Buffer): Promise<void> {
    const sent = this.#options.connection
      .write(frame)
      .catch(() => {})
      .then(() => void this.#inFlight.delete(sent));
    this.#inFlight.add(sent);
    if (this.#inFlight.size >= FRAMES) await Promise.race(this.#inFlight);
  }

  async #allAcknowledged(signal: AbortSignal): Promise<void> {
    while (this.#acknowledged < this.#sent.nextIndex) {
      await new Promise<void>((resolve, reject) => {
        this.#onAcknowledged = resolve;
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
    }
  }

  /** Takes the receiver's words while the records go out. */
  async #listen(start: JournalStart): Promise<ContentWord> {
    const { connection, progress } = this.#options;
    let { recordBytes } = start;
    for (;;) {
      const frame = await expectUnlessRefused(connection, ['ack', 'received']);
      if (frame.name === 'received') return this.#checked(decodeContentWord('received', frame.payload));
      const ack = decodeJournalAck(frame.payload);
      const isPossible =
        ack.nextIndex >= this.#acknowledged &&
        ack.nextIndex <= this.#sent.nextIndex &&
        ack.recordBytes >= recordBytes;
      if (!isPossible) {
        const text = `an acknowledgement of record ${ack.nextIndex}, sent was ${this.#sent.nextIndex}`;
        throw new ProtocolError('BadPosition', text);
      }
      this.#acknowledged = ack.nextIndex;
      recordBytes = ack.recordBytes;
      progress.durable(recordBytes);
      this.#noteTime();
      this.#onAcknowledged?.();
    }
  }

  /** The receiver has all that was written up to the newest record that it acknowledged. */
  #noteTime(): void {
    let timeUs: number | null = null;
    while ((this.#pending[0]?.nextIndex ?? Number.POSITIVE_INFINITY) <= this.#acknowledged) {
      timeUs = this.#pending.shift()?.timeUs ?? null;
    }
    if (timeUs !== null) this.#options.progress.caughtUp?.(timeUs / 1000);
  }

  #checked(word: ContentWord): ContentWord {
    if (this.#finalDigest !== null && Buffer.from(this.#finalDigest).equals(word.contentDigest)) return word;
    throw new ProtocolError('DigestMismatch', 'the receiver has another journal than was sent');
  }
}

/** How many records from `from` on make a frame of at most `mostBytes`; at least one. */
function countThatFits(records: readonly TransferRecord[], from: number, mostBytes: number): number {
  let count = 0;
  let bytes = 0;
  for (let at = from; at < records.length; at += 1) {
    bytes += sentBytesOf(records[at] as TransferRecord);
    if (count > 0 && bytes > mostBytes) break;
    count += 1;
  }
  return count;
}
