/** What a source site's activities need; sites/source-site.ts brings it. */
import type { Fence } from '../contract/fence.ts';
import type { GivenUp } from '../contract/replica-activities.ts';
import type { LayerProof, SyncAnswer, SyncQuery } from '../contract/sync.ts';
import type { JournalWindow, SendDiskInput, TransferProgress } from '../contract/transfer.ts';
import type { HostView } from '../domain/host-view.ts';

export interface SenderRow {
  readonly diskTaskUuid: string;
  readonly node: string;
}

export interface SourceCatalog {
  /**
   * In one transaction: raises the fence, gives the stored answer of (task uuid, plan) if there is one, else
   * locks the host's row, asks `decide`, stores the answer, takes the target's lock, takes prev's lock again
   * where it is missing, and leaves a subscription when the answer is `none`.
   */
  answerSync(query: SyncQuery, decide: (context: SyncContext) => Promise<SyncAnswer>): Promise<SyncAnswer>;
  /** Releases locks of the type with a smaller generation, but those of the kept tasks. */
  releaseOtherLocks(input: {
    fence: Fence;
    lockType: string;
    keepTaskUuids: readonly string[];
  }): Promise<number>;
  /** Raises the fence so that older senders may not start, and asks those that run to stop. */
  requestStop(fence: Fence): Promise<void>;
  /** Asks the sender of one disk task to stop. */
  requestStopOf(fence: Fence, diskTaskUuid: string): Promise<void>;
  /** Senders asked to stop whose process still lives. */
  stoppingSenders(scheduleUuid: string): Promise<readonly SenderRow[]>;
  /**
   * Notes a sender before its first byte. @returns what {@link endSender} takes
   * @throws {SupersededError} @throws {ScheduleDeletedError}
   */
  beginSender(input: { fence: Fence; diskTaskUuid: string; node: string }): Promise<string>;
  /** Notes its end, unless another attempt of the disk task began since. */
  endSender(diskTaskUuid: string, begun: string): Promise<void>;
  /** Releases the locks of the tasks that the replica gave up, under a fence above them all. */
  releaseGivenUp(input: GivenUp): Promise<number>;
  /** Notes a new rate for a task's senders; the highest revision counts. */
  setTaskRate(rate: {
    scheduleUuid: string;
    taskUuid: string;
    revision: number;
    bandwidthBytesPerSecond: number | null;
  }): Promise<void>;
  /** Null when the task's rate never changed. */
  taskRate(taskUuid: string): Promise<{ bandwidthBytesPerSecond: number | null } | null>;
  /** Leaves the tombstone and asks every sender to stop. */
  entomb(input: { scheduleUuid: string; lockType: string }): Promise<void>;
  /** After {@link entomb}: releases every lock of the type and the subscription. */
  releaseAll(input: { scheduleUuid: string; lockType: string }): Promise<number>;
  /** The layers to send: the target's top file and, for an increment, the base's. */
  findSource(input: { hostSnapshot: string; disk: string; baseSnapshot: string | null }): Promise<{
    topPath: string;
    basePath: string | null;
  } | null>;
  /** The journal of a disk of a CDP host snapshot; null when it is gone. */
  findJournal(input: { hostSnapshot: string; disk: string }): Promise<{
    directory: string;
    endedAtCheckpoint: number | null;
  } | null>;
}

/** Where a disk's journal is read from. */
export interface JournalAtSource {
  /** The folder of its segments. */
  readonly directory: string;
  readonly window: JournalWindow;
  /** The newest checkpoint of an epoch that has ended; null while it is open. */
  epochState(): Promise<{ readonly endedAtCheckpoint: number | null }>;
}

export interface SyncContext {
  /** Null when this catalog does not know the host. */
  readonly view: HostView | null;
  /** The certificate's fingerprint of each node that has registered. */
  readonly nodeFingerprints: ReadonlyMap<string, string>;
  /** True when prev's lock is there. */
  readonly prevLocked: boolean;
}

export interface SourceImages {
  /** Proves every layer of a disk, the top first. @throws ImageError of its fault */
  prove(topPath: string): Promise<readonly LayerProof[]>;
}

/** How a running sender is steered and watched. */
export interface SenderControl {
  readonly signal: AbortSignal;
  readonly attempt: number;
  readonly onProgress: (progress: TransferProgress) => void;
  /** Called once, with what sets the rate while it runs; null is no limit. */
  readonly onStart: (setRate: (bytesPerSecond: number | null) => void) => void;
}

/** Sends one disk; knows neither Temporal nor the catalog. */
export interface DiskSender {
  send(
    input: SendDiskInput,
    layers: { topPath: string; basePath: string | null },
    control: SenderControl,
  ): Promise<TransferProgress>;
  /** Sends a window of a disk's journal. @throws {PlanBrokenError} when it is gone, damaged or another one's */
  sendJournal(
    input: SendDiskInput,
    journal: JournalAtSource,
    control: SenderControl,
  ): Promise<TransferProgress>;
}

/** What A's own configuration lets out. */
export interface SourceAccess {
  /** @throws HostNotAllowed unless the replica site may have the host */
  assertMayHave(replicaSite: string, host: string): void;
  /** @throws EndpointNotAllowed, FingerprintMismatch; pins a fingerprint at first use */
  assertReceiver(
    replicaSite: string,
    receiver: { host: string; port: number; fingerprint: string },
  ): Promise<void>;
}

/** What the operator of a schedule is to know of this site as a whole. */
export interface SourceNotices {
  /** Such as that space is low; null when all is well. */
  warning(): string | null;
}

/** The senders of this process, so that a request to stop finds them. */
export interface RunningSenders {
  /** @returns what to call when the sender has ended */
  register(diskTaskUuid: string, stop: AbortController): () => void;
}
