/** Sessions and sinks in memory that notice every call which must not come. */
import type { Epoch } from '../../../src/contract/fence.ts';
import { ContentDigester, mapDigest } from '../../../src/domain/content-digest.ts';
import { PlanBrokenError, SupersededError } from '../../../src/domain/errors.ts';
import type { ExtentMap, MapShape } from '../../../src/domain/extent-map.ts';
import { createXxh128, toHex } from '../../../src/lib/digest.ts';
import { journalDigest } from '../../../src/transfer/journal-messages.ts';
import type {
  CompareBase,
  JournalIdentity,
  JournalSink,
  LayerSink,
  SessionDirectory,
  SessionRecord,
  TransferRecord,
} from '../../../src/transfer/ports.ts';
import { must } from '../campaign.ts';
import { JOURNAL, TOKEN } from '../frames/conversations.ts';

const NO_HASHES = Buffer.alloc(0);

/** What a directory does besides what it should. */
export type Mishap = 'none' | 'find-fails' | 'open-fails' | 'write-fails' | 'flush-fails' | 'superseded';

/** A failure that a case has planned. */
export class PlannedFailure extends Error {
  readonly code = 'ENOSPC';
}

export class WatchedDirectory implements SessionDirectory {
  readonly #session: SessionRecord | null;
  readonly #resumes: ExtentMap | null;
  readonly #mishap: Mishap;
  openSinks = 0;
  openBases = 0;
  writtenBytes = 0;
  received: { totalBytes: number; contentDigest: string } | null = null;
  /** Of the last sink that finished. */
  finished: { totalBytes: number; contentDigest: string } | null = null;
  finds = 0;

  /** @param resumes a map that is stored already, with nothing of its data */
  constructor(session: SessionRecord | null, resumes: ExtentMap | null, mishap: Mishap) {
    this.#session = session;
    this.#resumes = resumes;
    this.#mishap = mishap;
  }

  async find(diskTaskUuid: string): Promise<SessionRecord | null> {
    this.finds += 1;
    if (this.#mishap === 'find-fails') throw new PlannedFailure('the catalog does not answer');
    return this.#session?.diskTaskUuid === diskTaskUuid ? this.#session : null;
  }

  async openBase(session: SessionRecord, shape: MapShape): Promise<CompareBase | { none: string }> {
    this.#mustBeOurs(session);
    must(shape.virtualSizeBytes > 0 && shape.clusterSizeBytes >= 512, () => 'a comparison of no disk');
    if (this.#mishap === 'open-fails') return { none: 'there is nothing to compare with' };
    this.openBases += 1;
    let hasEnded = false;
    return {
      text: 'the base',
      async *runs() {
        yield { kind: 'hashed', offset: 0, clusters: 2, hashes: Buffer.from(new Uint8Array(64)) };
        yield { kind: 'unknown', offset: 2 * shape.clusterSizeBytes, clusters: 1, hashes: NO_HASHES };
        hasEnded = true;
      },
      settle: async () => {
        must(hasEnded, () => 'a comparison was settled before its end');
        return { token: TOKEN, text: 'the base' };
      },
      close: async () => {
        this.openBases -= 1;
      },
    };
  }

  async resumeSink(session: SessionRecord, digest: Uint8Array): Promise<LayerSink | null> {
    this.#mustBeOurs(session);
    must(digest.length === 16, () => `a map digest of ${digest.length} bytes`);
    if (this.#resumes === null) return null;
    return toHex(mapDigest(this.#resumes, createXxh128)) === toHex(digest) ? this.#open(this.#resumes) : null;
  }

  async openSink(session: SessionRecord, map: ExtentMap): Promise<LayerSink> {
    this.#mustBeOurs(session);
    if (this.#mishap === 'open-fails') throw new PlannedFailure('no room');
    return this.#open(map);
  }

  async openJournal(session: SessionRecord, identity: JournalIdentity): Promise<JournalSink> {
    this.#mustBeOurs(session);
    for (const key of ['epochUuid', 'host', 'disk', 'virtualSizeBytes'] as const) {
      if (identity[key] !== JOURNAL[key]) throw new PlanBrokenError(`the journal is of another ${key}`);
    }
    if (this.#mishap === 'open-fails') throw new PlannedFailure('no room');
    this.openSinks += 1;
    must(this.openSinks === 1, () => 'two sinks are open at once');
    return new WatchedJournal(this.#mishap, ended => {
      this.openSinks -= 1;
      this.finished = ended;
    });
  }

  async markReceived(
    session: SessionRecord,
    received: { totalBytes: number; contentDigest: string },
  ): Promise<void> {
    this.#mustBeOurs(session);
    must(this.openSinks === 0, () => 'received while a sink is open');
    must(
      received.totalBytes === this.finished?.totalBytes &&
        received.contentDigest === this.finished.contentDigest,
      () => 'received is another content than the one that was written',
    );
    if (this.#mishap === 'superseded') throw new SupersededError('a newer epoch was opened');
    this.received = received;
  }

  #mustBeOurs(session: SessionRecord): void {
    must(session === this.#session, () => 'a session that was not found here');
    must(session.state === 'open', () => `a ${session.state} session is written to`);
  }

  #open(map: ExtentMap): LayerSink {
    this.openSinks += 1;
    must(this.openSinks === 1, () => 'two sinks are open at once');
    const digester = new ContentDigester(map, createXxh128);
    let isClosed = false;
    let hasFailed = false;
    const alive = (what: string): void => {
      must(!isClosed, () => `${what} after the close`);
      must(!hasFailed, () => `${what} after a failure`);
    };
    const fail = (when: Mishap): void => {
      if (this.#mishap !== when) return;
      hasFailed = true;
      throw new PlannedFailure('no room');
    };
    return {
      durableBytes: 0,
      dataBytes: map.dataBytes,
      write: async (bytes, position) => {
        alive('a write');
        fail('write-fails');
        must(position === digester.taken, () => `a write at ${position} where ${digester.taken} was due`);
        must(position + bytes.length <= map.dataBytes, () => 'a write beyond the end');
        digester.update(bytes);
        this.writtenBytes += bytes.length;
      },
      flush: async () => {
        alive('a flush');
        fail('flush-fails');
        return digester.taken;
      },
      finish: async () => {
        alive('the end');
        const digest = digester.finish();
        this.finished = { totalBytes: digester.taken, contentDigest: toHex(digest) };
        return digest;
      },
      discard: async () => {
        must(!isClosed, () => 'a discard after the close');
      },
      close: async () => {
        must(!isClosed, () => 'a second close');
        isClosed = true;
        this.openSinks -= 1;
      },
    };
  }
}

/** A journal that is new. */
class WatchedJournal implements JournalSink {
  end = { nextIndex: 0, ...JOURNAL.start };
  recordBytes = 0;
  readonly takenOver = new Promise<Error>(() => {});
  readonly #mishap: Mishap;
  readonly #onClose: (ended: { totalBytes: number; contentDigest: string }) => void;
  #isBusy = false;
  #hasFailed = false;
  #isClosed = false;

  constructor(mishap: Mishap, onClose: (ended: { totalBytes: number; contentDigest: string }) => void) {
    this.#mishap = mishap;
    this.#onClose = onClose;
  }

  async append(records: readonly TransferRecord[]): Promise<void> {
    this.#mustLive('an append');
    this.#failIf('write-fails');
    for (const { type, index, sequence, timeUs, offset, length, payload } of records) {
      must(index === this.end.nextIndex, () => `record ${index} where ${this.end.nextIndex} was due`);
      must(sequence > this.end.sequence && timeUs >= this.end.timeUs, () => 'a record that goes back');
      must(offset + length <= JOURNAL.virtualSizeBytes, () => 'a record beyond the end');
      const hasPayload = type === 'write' || type === 'checkpoint';
      must(payload.length === (hasPayload ? length : 0), () => 'a payload of another length');
      must(payload.length <= 2 ** 20 && (type !== 'checkpoint' || length <= 255), () => 'a long payload');
      this.end = { nextIndex: index + 1, sequence, timeUs };
      this.recordBytes += 72 + payload.length;
    }
  }

  async commit(): Promise<{ nextIndex: number; recordBytes: number }> {
    this.#mustLive('a commit');
    must(!this.#isBusy, () => 'two commits at once');
    this.#failIf('flush-fails');
    const committed = { nextIndex: this.end.nextIndex, recordBytes: this.recordBytes };
    this.#isBusy = true;
    await Promise.resolve();
    this.#isBusy = false;
    return committed;
  }

  async close(): Promise<void> {
    must(!this.#isClosed && !this.#isBusy, () => 'a second close, or one beside a commit');
    this.#isClosed = true;
    const { nextIndex, sequence } = this.end;
    const contentDigest = toHex(journalDigest(JOURNAL, { nextIndex, sequence }));
    this.#onClose({ totalBytes: this.recordBytes, contentDigest });
  }

  #mustLive(what: string): void {
    must(!this.#isClosed, () => `${what} after the close`);
    must(!this.#hasFailed, () => `${what} after a failure`);
  }

  #failIf(when: Mishap): void {
    if (this.#mishap !== when) return;
    this.#hasFailed = true;
    throw new PlannedFailure('no room');
  }
}

export const sessionOf = (
  diskTaskUuid: string,
  epoch: Epoch,
  senderFingerprint: string,
  state: SessionRecord['state'],
): SessionRecord => ({
  diskTaskUuid,
  epoch,
  senderFingerprint,
  state,
  received: state === 'received' ? { totalBytes: 512, contentDigest: '00'.repeat(16) } : null,
});
