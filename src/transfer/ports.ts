/** What the two ends of a data connection need from the rest of the house. */
import type { Epoch } from '../contract/fence.ts';
import type { ExtentMap, MapShape } from '../domain/extent-map.ts';
import type { ComparedOffer, HashRun } from './messages.ts';

/** What a sender reads: one layer's content at site A. */
export interface LayerSource {
  readonly map: ExtentMap;
  /** Fills `target` with the bytes of the data stream from `position` on. Called again before the last has ended. */
  readStream(target: Buffer, position: number): Promise<void>;
  /** @throws {PlanBrokenError} when a layer's file is no longer the one that was decided on */
  assertUnchanged(): Promise<void>;
  /**
   * The same content with another map of the same shape: what is data in it is read, also where this map has zeros.
   * Shares the files; only the first one is closed.
   */
  withMap(map: ExtentMap): LayerSource;
  close(): Promise<void>;
}

/**
 * What a receiver writes: one partial replica file at site B. Calls do not overlap.
 * `close` is the last call always, after `finish` and `discard` too.
 */
export interface LayerSink {
  /** The adopted durable prefix of the data stream, already hashed. */
  readonly durableBytes: number;
  /** The length of the map's whole data stream; where it is given the sender's word is checked against it. */
  readonly dataBytes?: number;
  /** Appends to the data stream; `position` must be where the last write ended. `bytes` is used again afterwards. */
  write(bytes: Buffer, position: number): Promise<void>;
  /** Makes all written bytes durable, then the progress. @returns the durable length of the stream */
  flush(): Promise<number>;
  /** Flushes, and ends the digest. @returns the content digest, 16 bytes */
  finish(): Promise<Uint8Array>;
  /**
   * After `finish`, when the two digests differ: forgets the durable prefix, so that the next opening starts
   * at zero. Without it a damaged prefix would be adopted, and refused, for ever.
   */
  discard?(): Promise<void>;
  /** Closes; what is durable stays. */
  close(): Promise<void>;
}

/** What a receiver has of a disk that is compared: hashed once, in rising order, without changing anything. */
export interface CompareBase {
  /** In words, for the operator. */
  readonly text: string;
  /** Every cluster of the shape once. @throws what reading throws but for bytes: those are `unknown` */
  runs(): AsyncIterable<HashRun>;
  /**
   * After all runs: durably notes what they were of.
   * @returns the token by which the sender's map names this comparison, and the text with what was found
   */
  settle(): Promise<{ token: Uint8Array; text: string }>;
  close(): Promise<void>;
}

/** One record of a journal, as both sites count them: without the ends of segments. */
export interface TransferRecord {
  readonly type: 'write' | 'zero' | 'discard' | 'checkpoint';
  /** Its number in the disk's journal, from 0 and without a gap. */
  readonly index: number;
  readonly sequence: number;
  readonly timeUs: number;
  /** In guest bytes; of a checkpoint 0 and the length of its name. */
  readonly offset: number;
  readonly length: number;
  readonly payload: Buffer;
}

/** Whose journal it is. Both ends must mean the same one. */
export interface JournalIdentity {
  /** The epoch's, which is that of the CDP host snapshot. */
  readonly epochUuid: string;
  readonly host: string;
  readonly disk: string;
  readonly virtualSizeBytes: number;
  /** What every record of the epoch comes after. */
  readonly start: { readonly sequence: number; readonly timeUs: number };
}

/** A place between two records of a journal. */
export interface JournalCut {
  /** The number of the next record. */
  readonly nextIndex: number;
  /** Of the record before; of the epoch's start when there is none. */
  readonly sequence: number;
}

/** What a sender reads of a journal that may still grow. */
export interface JournalSource {
  readonly identity: JournalIdentity;
  /** True while nothing more can be read than was given already. */
  readonly isDrained: boolean;
  /**
   * The records from a place on, in bounded batches, as they come; ends where the window does, right after a
   * checkpoint. Called again, never two at once, when the connection is made anew; the window is the first one's.
   * @param from where the receiver's journal ends
   * @throws {PlanBrokenError} when the journal has no such record any more, is another one, or is damaged; after all
   * that can be read was given
   * @throws the signal's reason
   */
  read(from: JournalCut, signal: AbortSignal): AsyncIterable<readonly TransferRecord[]>;
  close(): Promise<void>;
}

/** What a receiver writes of a journal. Calls do not overlap, but for `append` while `commit` runs. */
export interface JournalSink {
  /** The end of what was appended, at first of what the catalog has. */
  readonly end: JournalCut & { readonly timeUs: number };
  /** Bytes of all records up to {@link end}, as journals count them. */
  readonly recordBytes: number;
  /** Resolves when nothing more may be written, since another connection took the journal over. */
  readonly takenOver: Promise<Error>;
  /** @param records the next ones, in order; their payloads are used again afterwards */
  append(records: readonly TransferRecord[]): Promise<void>;
  /**
   * Makes what was appended durable, notes it in the catalog, and publishes the newest checkpoint that all disks have.
   * @returns how far the catalog has the journal: at least to where the last append before the call ended
   */
  commit(): Promise<{ nextIndex: number; recordBytes: number }>;
  /** Closes; what was committed stays. */
  close(): Promise<void>;
}

export interface SessionRecord {
  readonly diskTaskUuid: string;
  readonly epoch: Epoch;
  readonly senderFingerprint: string;
  readonly state: 'open' | 'received' | 'closed';
  /** Set with `received`. */
  readonly received: { readonly totalBytes: number; readonly contentDigest: string } | null;
}

/** The receiver's durable knowledge; site B's catalog and replica files stand behind it. */
export interface SessionDirectory {
  find(diskTaskUuid: string): Promise<SessionRecord | null>;
  /**
   * Opens what the disk is to be compared with.
   * @returns in its place why there is nothing of use, in words
   * @throws {PlanBrokenError} when the disk is not one that is to be compared
   */
  openBase(session: SessionRecord, shape: MapShape): Promise<CompareBase | { readonly none: string }>;
  /**
   * Opens the partial file of a map that B has stored already; null when it has not.
   * @param compared what the sender says of its comparison; null for a map of no comparison
   * @throws {PlanBrokenError} @throws {ReopenNeededError} when the comparison is not the one that was settled here
   */
  resumeSink(
    session: SessionRecord,
    mapDigest: Uint8Array,
    compared?: ComparedOffer | null,
  ): Promise<LayerSink | null>;
  /** Stores the map durably, lays the file out and opens it. @throws as {@link resumeSink} */
  openSink(session: SessionRecord, map: ExtentMap, compared?: ComparedOffer | null): Promise<LayerSink>;
  /**
   * Opens a disk's journal for writing, and waits until whoever wrote it before in this process has ended.
   * @throws {PlanBrokenError} when the disk is not one whose journal is appended to, or the journal is another one
   * @throws {SupersededError} @throws {ReopenNeededError}
   */
  openJournal(session: SessionRecord, identity: JournalIdentity): Promise<JournalSink>;
  /** Durably notes that both digests matched. Refused when the session's epoch is no longer `session.epoch`. */
  markReceived(
    session: SessionRecord,
    received: { totalBytes: number; contentDigest: string },
  ): Promise<void>;
  /** @param sentAtMs the sender's clock when it said hello, just now */
  noteSourceClock?(session: SessionRecord, sentAtMs: number): Promise<void>;
}
