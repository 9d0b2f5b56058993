/** What a sender reads of a disk's journal: a window of it, while another process may still write. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PlanBrokenError } from '../../domain/errors.ts';
import { statOrNull } from '../replica/durable-files.ts';
import { JournalDamagedError, JournalInvalidError } from './errors.ts';
import { JournalReader, readHeader, segmentsOf, startOf } from './journal-reader.ts';
import type { JournalRecord } from './record.ts';
import { type SegmentHeader, segmentPath } from './segment.ts';

/** So often a journal that is being written is looked at. */
const POLL_MS = 25;
/** So often the catalog is asked whether the epoch has ended. */
const EPOCH_LOOK_MS = 1_000;
/** A journal that does not go on is searched for damage after so long, and again when its file has changed. */
const STUCK_MS = 1_000;

/** How far a journal is to be read. */
export interface ReadingWindow {
  /** The sequence of a checkpoint that must be reached. */
  readonly checkpoint: number;
  /** From the first reading on; null ends at the checkpoint. */
  readonly followMs: number | null;
}

export interface JournalSourceOptions {
  readonly directory: string;
  /** The journal must be this one's. */
  readonly epochUuid: string;
  readonly host: string;
  readonly disk: string;
  readonly window: ReadingWindow;
  /** By the catalog: null while the epoch may go on, then the newest checkpoint that all of its disks have; 0 for none. */
  readonly epochState: () => Promise<{ readonly endedAtCheckpoint: number | null }>;
  /** A clock that never goes back. */
  readonly nowMs?: () => number;
}

interface JournalCut {
  readonly nextIndex: number;
  readonly sequence: number;
}

/** As journals of both sites count them: never the end of a segment. */
export type SourceRecord = JournalRecord & { readonly type: Exclude<JournalRecord['type'], 'end'> };

/** Fits the port of its name in transfer/. */
export interface RecordedJournal {
  readonly identity: {
    readonly epochUuid: string;
    readonly host: string;
    readonly disk: string;
    readonly virtualSizeBytes: number;
    readonly start: { readonly sequence: number; readonly timeUs: number };
  };
  /** True while nothing more can be read than was given already. */
  readonly isDrained: boolean;
  read(from: JournalCut, signal: AbortSignal): AsyncGenerator<readonly SourceRecord[], undefined>;
  close(): Promise<void>;
}

/**
 * Opens a disk's journal for reading.
 * @throws {PlanBrokenError} when there is none, or another one's
 */
export async function openJournalSource(options: JournalSourceOptions): Promise<RecordedJournal> {
  const { directory, epochUuid, host, disk } = options;
  const header = await oldestHeader(directory);
  if (header.epoch !== epochUuid || header.host !== host || header.disk !== disk) {
    const found = `disk ${header.disk} of ${header.host} in epoch ${header.epoch}`;
    throw new PlanBrokenError(`${directory} has the journal of ${found}`);
  }
  const { virtualSizeBytes, sequence, timeUs } = header;
  return new OpenedJournalSource(options, {
    ...{ epochUuid, host, disk, virtualSizeBytes },
    start: { sequence, timeUs },
  });
}

class OpenedJournalSource implements RecordedJournal {
  readonly identity: RecordedJournal['identity'];
  isDrained = false;
  readonly #options: JournalSourceOptions;
  readonly #nowMs: () => number;
  #endsAtMs: number | null = null;
  #ended: number | null = null;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: JournalSourceOptions, identity: RecordedJournal['identity']) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.identity = identity;
  }

  async *read(from: JournalCut, signal: AbortSignal): AsyncGenerator<readonly SourceRecord[], undefined> {
    const { directory, window } = this.#options;
    this.#endsAtMs ??= this.#nowMs() + (window.followMs ?? 0);
    await this.#look();
    const tail = new Tail(directory);
    try {
      let at = { ...from, isCheckpoint: await tail.goTo(from, this.#ended !== null) };
      for (;;) {
        signal.throwIfAborted();
        if (this.#isOver(at)) return;
        // Asked before the records are read: what an ended epoch has is all there then.
        const hasEnded = await this.#look();
        const records = await tail.next(hasEnded, this.#nowMs());
        const taken = this.#uptoEnd(records);
        const last = taken.at(-1);
        if (last !== undefined) {
          at = {
            nextIndex: last.index + 1,
            sequence: last.sequence,
            isCheckpoint: last.type === 'checkpoint',
          };
          this.isDrained = false;
          yield taken;
        } else if (hasEnded) {
          return this.#assertAllWasThere(at);
        } else {
          this.isDrained = true;
          await sleep(POLL_MS, undefined, { signal });
        }
      }
    } finally {
      await tail.close();
    }
  }

  async close(): Promise<void> {}

  /** Whether the window may end at a place between two records. */
  #isOver({ sequence, isCheckpoint }: { sequence: number; isCheckpoint: boolean }): boolean {
    const { window } = this.#options;
    if (this.#ended !== null && sequence >= this.#ended && sequence >= window.checkpoint) return true;
    if (!isCheckpoint || sequence < window.checkpoint) return false;
    return window.followMs === null || this.#nowMs() >= (this.#endsAtMs ?? 0);
  }

  /** The records up to and with the first after which the window is over. */
  #uptoEnd(records: readonly SourceRecord[]): readonly SourceRecord[] {
    const end = records.findIndex(({ type, sequence }) =>
      this.#isOver({ sequence, isCheckpoint: type === 'checkpoint' }),
    );
    return end < 0 ? records : records.slice(0, end + 1);
  }

  /** @returns true when the epoch has ended */
  async #look(): Promise<boolean> {
    const nowMs = this.#nowMs();
    if (this.#ended === null && nowMs - this.#lookedAtMs >= EPOCH_LOOK_MS) {
      this.#lookedAtMs = nowMs;
      // Without its catalog the journal can be read all the same.
      const state = await this.#options.epochState().catch(() => null);
      this.#ended = state?.endedAtCheckpoint ?? null;
    }
    return this.#ended !== null;
  }

  /** Nobody writes any more, and nothing more can be read. */
  #assertAllWasThere({ nextIndex, sequence }: JournalCut): undefined {
    const { directory, window } = this.#options;
    const due = Math.max(this.#ended ?? 0, window.checkpoint);
    if (sequence >= due) return undefined;
    throw new PlanBrokenError(
      `${directory}: the journal ends at record ${nextIndex} (after sequence ${sequence}), before the checkpoint ${due} that its epoch had`,
    );
  }
}

/** Reads from a record on, over the ends of segments, and tells what is not written yet from what is damaged. */
class Tail {
  readonly #directory: string;
  #reader: JournalReader | null = null;
  #wentOnAtMs: number | null = null;
  #searchedMtimeMs: number | null = null;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Goes to where the receiver's journal ends.
   * @returns false when the record before is known to be no checkpoint
   * @throws {PlanBrokenError} when it is not here, or the record before is another one than the receiver's
   */
  async goTo({ nextIndex, sequence }: JournalCut, hasEnded: boolean): Promise<boolean> {
    const header = await headerBefore(this.#directory, nextIndex);
    const reader = JournalReader.at(this.#directory, startOf(header));
    this.#reader = reader;
    let last: JournalRecord | null = null;
    while (reader.place.index < nextIndex) {
      const records = await reader.next(nextIndex - reader.place.index);
      if (records.length === 0) break;
      last = records.findLast(({ type }) => type !== 'end') ?? last;
    }
    if (reader.place.index < nextIndex) {
      await this.#planBroken(() => reader.assertEnd());
      // After a power cut here the other site may have more than was durable; of a journal that goes on it never has.
      if (hasEnded && sequence > reader.place.sequence) return true;
      throw new PlanBrokenError(`${this.#directory} has no record ${nextIndex - 1}, which the replica has`);
    }
    if (reader.place.sequence !== sequence) {
      const text = `record ${nextIndex - 1} has the sequence ${reader.place.sequence} here and ${sequence} at the replica`;
      throw new PlanBrokenError(`${this.#directory}: ${text}`);
    }
    return last === null || last.type === 'checkpoint';
  }

  /** @throws {PlanBrokenError} where durable records are damaged, or were removed */
  async next(hasEnded: boolean, nowMs: number): Promise<readonly SourceRecord[]> {
    const records = await this.#read();
    if (records.length > 0) {
      this.#wentOnAtMs = nowMs;
      return records;
    }
    this.#wentOnAtMs ??= nowMs;
    if (!hasEnded && (nowMs - this.#wentOnAtMs < STUCK_MS || !(await this.#hasChanged()))) return [];
    try {
      await (this.#reader as JournalReader).assertEnd();
      return [];
    } catch (error) {
      // What was just being written is there by now.
      const late = await this.#read();
      if (late.length > 0) return late;
      throw brokenOf(error);
    }
  }

  async close(): Promise<void> {
    await this.#reader?.close();
  }

  async #read(): Promise<readonly SourceRecord[]> {
    const reader = this.#reader as JournalReader;
    for (;;) {
      const records = await this.#planBroken(() => reader.next());
      if (records.length === 0) return [];
      const own = records.filter((record): record is SourceRecord => record.type !== 'end');
      if (own.length > 0) return own;
    }
  }

  /** A search reads the whole rest of a segment: while nothing is written there is nothing to find. */
  async #hasChanged(): Promise<boolean> {
    const { segment } = (this.#reader as JournalReader).place;
    const next = await statOrNull(segmentPath(this.#directory, segment + 1));
    const stats = await statOrNull(segmentPath(this.#directory, segment));
    const mtimeMs = Math.max(next?.mtimeMs ?? 0, stats?.mtimeMs ?? 0);
    if (mtimeMs === this.#searchedMtimeMs) return false;
    this.#searchedMtimeMs = mtimeMs;
    return true;
  }

  async #planBroken<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw brokenOf(error);
    }
  }
}

const brokenOf = (error: unknown): unknown =>
  error instanceof JournalDamagedError || error instanceof JournalInvalidError
    ? new PlanBrokenError(error.message, { cause: error })
    : error;

async function oldestHeader(directory: string): Promise<SegmentHeader> {
  const segments = await segmentsOf(directory).catch(error => {
    throw error.code === 'ENOENT' ? new PlanBrokenError(`${directory} is gone`, { cause: error }) : error;
  });
  const [oldest] = segments;
  const header = oldest === undefined ? null : await headerOrBroken(directory, oldest);
  if (header === null) throw new PlanBrokenError(`${directory} has no journal`);
  return header;
}

/** The newest segment that begins before a record, so that the one before it is read, too; found by halving. */
async function headerBefore(directory: string, nextIndex: number): Promise<SegmentHeader> {
  let found = await oldestHeader(directory);
  if (found.firstIndex > nextIndex) {
    throw new PlanBrokenError(
      `${directory} begins at record ${found.firstIndex}; record ${nextIndex}, which the replica wants, is kept no more`,
    );
  }
  const segments = await segmentsOf(directory);
  let [low, high] = [segments.indexOf(found.segment) + 1, segments.length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const header = await headerOrBroken(directory, segments[middle] as number);
    if (header !== null && header.firstIndex < nextIndex) {
      found = header;
      low = middle + 1;
    } else high = middle;
  }
  return found;
}

const headerOrBroken = (directory: string, segment: number): Promise<SegmentHeader | null> =>
  readHeader(directory, segment).catch(error => {
    throw brokenOf(error);
  });
