/** What the two ends of a data connection need from the rest of the house. */
import type { Epoch } from '../contract/fence.ts';
import type { ExtentMap } from '../domain/extent-map.ts';

/** What a sender reads: one layer's content at site A. */
export interface LayerSource {
  readonly map: ExtentMap;
  /** Fills `target` with the bytes of the data stream from `position` on. Called again before the last has ended. */
  readStream(target: Buffer, position: number): Promise<void>;
  /** @throws {PlanBrokenError} when a layer's file is no longer the one that was decided on */
  assertUnchanged(): Promise<void>;
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
  /** Opens the partial file of a map that B has stored already; null when it has not. @throws {PlanBrokenError} */
  resumeSink(session: SessionRecord, mapDigest: Uint8Array): Promise<LayerSink | null>;
  /** Stores the map durably, lays the file out and opens it. @throws {PlanBrokenError} */
  openSink(session: SessionRecord, map: ExtentMap): Promise<LayerSink>;
  /** Durably notes that both digests matched. Refused when the session's epoch is no longer `session.epoch`. */
  markReceived(
    session: SessionRecord,
    received: { totalBytes: number; contentDigest: string },
  ): Promise<void>;
  /** @param sentAtMs the sender's clock when it said hello, just now */
  noteSourceClock?(session: SessionRecord, sentAtMs: number): Promise<void>;
}
