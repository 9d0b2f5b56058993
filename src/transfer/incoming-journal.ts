/** The receiver's half of a journal: records into the sink, commits beside them, and the word about the end. */

import { outOfOrder } from './connection.ts';
import type { Visitor } from './disk-registry.ts';
import { ConnectionLostError, ProtocolError, SenderLeftError } from './errors.ts';
import type { Frame } from './frames.ts';
import { decodeRecords, encodeJournalAck, encodeJournalStart, journalDigest } from './journal-messages.ts';
import { type ContentWord, decodeContentWord, decodeLastWord } from './messages.ts';
import type { JournalIdentity, JournalSink, SessionRecord, TransferRecord } from './ports.ts';
import type { ReceiverContext } from './receiver-context.ts';

/**
 * Opens the journal, says which record is wanted first, and takes records until the sender says the end. The sink is
 * closed in any case; what was appended before the connection was lost is committed first.
 * @returns the word to be noted and sent as RECEIVED: its length is that of all records of the journal
 * @throws {ProtocolError} BadPosition, BadFrame, FrameOutOfOrder, DigestMismatch
 */
export async function receiveJournal(
  visitor: Visitor,
  session: SessionRecord,
  identity: JournalIdentity,
  context: ReceiverContext,
): Promise<ContentWord> {
  context.registry.report(visitor, { note: 'opens the journal' });
  const sink = await context.directory.openJournal(session, identity);
  const journal = new IncomingJournal({ visitor, sink, identity, context });
  try {
    return await journal.run();
  } finally {
    await journal.close();
  }
}

class IncomingJournal {
  readonly #visitor: Visitor;
  readonly #sink: JournalSink;
  readonly #identity: JournalIdentity;
  readonly #context: ReceiverContext;
  #committed: { nextIndex: number; recordBytes: number };
  #committedAtMs = performance.now();
  #committing: Promise<void> | null = null;
  /** Of the sink, or that another connection took the journal over. */
  #failure: unknown = null;
  /** Set while a frame is waited for. */
  #interrupt: ((error: unknown) => void) | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(parts: {
    visitor: Visitor;
    sink: JournalSink;
    identity: JournalIdentity;
    context: ReceiverContext;
  }) {
    this.#visitor = parts.visitor;
    this.#sink = parts.sink;
    this.#identity = parts.identity;
    this.#context = parts.context;
    this.#committed = { nextIndex: parts.sink.end.nextIndex, recordBytes: parts.sink.recordBytes };
    void parts.sink.takenOver.then(error => this.#fail(error));
  }

  async run(): Promise<ContentWord> {
    const { connection } = this.#visitor;
    const { sequence } = this.#sink.end;
    connection.send(encodeJournalStart({ ...this.#committed, sequence }));
    this.#report();
    for (;;) {
      const frame = await this.#nextFrame();
      if (frame.name === 'records') await this.#append(frame);
      else if (frame.name === 'final') return await this.#finish(decodeContentWord('final', frame.payload));
      else if (frame.name === 'close') throw new SenderLeftError(decodeLastWord(frame.payload));
      else throw outOfOrder(frame.name, ['records', 'final', 'close']);
    }
  }

  async close(): Promise<void> {
    const { log } = this.#context;
    const { diskTaskUuid } = this.#visitor;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#commitAll();
    if (this.#uncommitted > 0) {
      const event = { event: 'flush-failed', diskTaskUuid, err: this.#failure };
      log.warn(event, 'the last records could not be made durable');
    }
    try {
      await this.#sink.close();
    } catch (err) {
      log.warn({ event: 'close-failed', diskTaskUuid, err }, 'a journal could not be closed');
    }
  }

  /** Records that were appended and are not known to be committed. */
  get #uncommitted(): number {
    return this.#sink.end.nextIndex - this.#committed.nextIndex;
  }

  /** As the connection's, but for what ends the journal from another side. */
  #nextFrame(): Promise<Frame> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) return reject(this.#failure);
      const { isCut, connection } = this.#visitor;
      if (isCut) return reject(connection.failure ?? new ConnectionLostError('the connection was cut'));
      this.#interrupt = reject;
      connection
        .receive()
        .then(resolve, reject)
        .finally(() => {
          this.#interrupt = null;
        });
    });
  }

  async #append(frame: Frame): Promise<void> {
    const records = decodeRecords(frame.payload);
    this.#assertNext(records);
    await this.#guarded(() => this.#sink.append(records));
    this.#visitor.connection.release(frame);
    const { flushBytes, flushMs } = this.#context.limits;
    const isUrgent =
      records.some(({ type }) => type === 'checkpoint') ||
      this.#sink.recordBytes - this.#committed.recordBytes >= flushBytes ||
      performance.now() - this.#committedAtMs >= flushMs;
    if (isUrgent) this.#commitBeside();
    else this.#commitLater();
  }

  /** Only checkpoints are points: what comes without one can wait a moment. */
  #commitLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      if (this.#uncommitted > 0) this.#commitBeside();
    }, this.#context.limits.flushIdleMs);
  }

  /** While one commit runs the next records are appended; they are the next one's. */
  #commitBeside(): void {
    if (this.#committing !== null || this.#failure !== null) return;
    this.#committing = this.#commit()
      .catch(error => this.#fail(error))
      .finally(() => {
        this.#committing = null;
        if (this.#uncommitted > 0) this.#commitBeside();
      });
  }

  /** Until nothing is left, or the first failure. */
  async #commitAll(): Promise<void> {
    if (this.#uncommitted > 0) this.#commitBeside();
    while (this.#committing !== null) await this.#committing;
  }

  async #commit(): Promise<void> {
    this.#committedAtMs = performance.now();
    this.#committed = await this.#guarded(() => this.#sink.commit());
    this.#visitor.connection.send(encodeJournalAck(this.#committed));
    this.#report();
  }

  async #finish(theirs: ContentWord): Promise<ContentWord> {
    const { nextIndex, sequence } = this.#sink.end;
    if (theirs.dataBytes !== nextIndex) {
      const text = `the end at record ${theirs.dataBytes} where ${nextIndex} was due`;
      throw new ProtocolError('BadPosition', text);
    }
    const contentDigest = Buffer.from(journalDigest(this.#identity, { nextIndex, sequence }));
    if (!contentDigest.equals(theirs.contentDigest)) {
      throw new ProtocolError('DigestMismatch', 'the journal here is not the one that the sender reads');
    }
    await this.#commitAll();
    if (this.#failure !== null) throw this.#failure;
    return { contentDigest, dataBytes: this.#committed.recordBytes };
  }

  /** @throws {ProtocolError} unless these are the records that come next, each within the disk */
  #assertNext(records: readonly TransferRecord[]): void {
    let { nextIndex, sequence, timeUs } = this.#sink.end;
    for (const record of records) {
      if (record.index !== nextIndex) {
        throw new ProtocolError('BadPosition', `record ${record.index} where ${nextIndex} was due`);
      }
      if (record.sequence <= sequence || record.timeUs < timeUs) {
        const text = `record ${record.index}: sequence or time goes back from ${sequence} at ${timeUs} us`;
        throw new ProtocolError('BadPosition', text);
      }
      const end = record.offset + record.length;
      const isInside =
        record.type === 'checkpoint' ? record.offset === 0 : end <= this.#identity.virtualSizeBytes;
      if (!isInside) {
        const text = `record ${record.index}: a ${record.type} beyond the disk's end`;
        throw new ProtocolError('BadPosition', text);
      }
      nextIndex += 1;
      ({ sequence, timeUs } = record);
    }
  }

  /** After a failure the sink is only closed. */
  async #guarded<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#interrupt?.(this.#failure);
  }

  #report(): void {
    const { recordBytes } = this.#committed;
    this.#context.registry.report(this.#visitor, { durableBytes: recordBytes, note: 'receives' });
  }
}
