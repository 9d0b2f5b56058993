/** What the two ends of a data connection are told through Temporal. Never bytes, never secrets. */
import type { Epoch, Fence } from './fence.ts';
import type { LayerProof, SyncMethod } from './sync.ts';

/** Where a receiver listens and whom the sender must find there. */
export interface ReceiverOffer {
  readonly host: string;
  readonly port: number;
  /** SHA-256 of the receiving node's certificate, lower-case hexadecimal. */
  readonly fingerprint: string;
  readonly epoch: Epoch;
}

export interface OpenReceiverInput {
  readonly fence: Fence;
  readonly taskUuid: string;
  readonly diskTaskUuid: string;
  readonly epoch: Epoch;
  readonly senderFingerprint: string;
}

export interface SendDiskInput {
  readonly fence: Fence;
  readonly replicaSite: string;
  readonly host: string;
  readonly disk: string;
  readonly taskUuid: string;
  readonly diskTaskUuid: string;
  readonly hostSnapshot: string;
  readonly method: SyncMethod;
  readonly baseSnapshot: string | null;
  readonly proof: readonly LayerProof[];
  readonly receiver: ReceiverOffer;
  readonly bandwidthBytesPerSecond: number | null;
  /** With the method `append` only. */
  readonly journal?: JournalWindow;
}

/** How far a journal is to be sent. */
export interface JournalWindow {
  /** The sequence of a checkpoint that must have been sent. */
  readonly checkpoint: number;
  /** Follows the journal for so long, or to the end of its epoch; null ends at the checkpoint. */
  readonly followMs: number | null;
}

/** Progress, as heartbeats and results carry it. Bytes are bytes of the data stream. */
export interface TransferProgress {
  readonly diskTaskUuid: string;
  /** What B acknowledged as durable. */
  readonly durableBytes: number;
  /** All that the layer has to send; null until the extent map is known. */
  readonly totalBytes: number | null;
  /** What the operator should know, such as `waits for the receiver at 127.0.0.1:7070`. */
  readonly note: string | null;
  /** Of a journal that is sent: when B had all that A had, by the sending node's clock. */
  readonly caughtUpAtMs?: number;
  /** The same as it was when this was told: for how long A has had something that B lacks. */
  readonly lagMs?: number;
  /** The numbers as a bar, for people who read heartbeats in the Web UI. */
  readonly progress?: string;
}

/** B's word that a disk is whole: both ends computed the same digest. */
export interface ReceivedDisk {
  readonly diskTaskUuid: string;
  readonly totalBytes: number;
  /** Hexadecimal, 32 digits. */
  readonly contentDigest: string;
}
