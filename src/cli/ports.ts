/**
 * What the commands need from a site. `src/sites/cli-services.ts` brings it; it may not import this folder, so
 * its own types match by shape, and src/cli/services.ts is where that is checked.
 * Every result is ready for `--json`: camelCase keys, times as ISO 8601 text, sizes in bytes.
 */
import type { SiteConfig } from '../config/site-config.ts';
import type { TaskOutcome } from '../contract/schedule.ts';
import type { SyncMethod } from '../contract/sync.ts';

/** A disk and the file that holds it, as `--disk vda=PATH` names it; the path is absolute. */
export interface DiskPath {
  readonly disk: string;
  readonly path: string;
}

/** One disk of a snapshot or of a recovery point. */
export interface ListedDisk extends DiskPath {
  readonly virtualSizeBytes: number;
}

export interface ImportRequest {
  readonly host: string;
  /** At least one, no disk twice; `path` is the top of the disk's chain of frozen layers. */
  readonly disks: readonly DiskPath[];
  /** When the snapshot was taken, ISO 8601; null takes the newest top's modification time. */
  readonly takenAt: string | null;
}

/** A host snapshot in the catalog of a source. */
export interface ListedSnapshot {
  readonly host: string;
  /** Its UUID. */
  readonly snapshot: string;
  readonly sequence: number;
  readonly takenAt: string;
  readonly kind: 'qcow2' | 'cdp';
  readonly disks: readonly ListedDisk[];
}

export interface ImportedSnapshot extends ListedSnapshot {
  /** False when the same layers were registered already: nothing was changed. */
  readonly created: boolean;
  readonly warnings: readonly string[];
}

/** An epoch that was made of logs of writes. */
export interface ImportedEpoch {
  readonly host: string;
  /** UUID of the CDP host snapshot, and of its base. */
  readonly snapshot: string;
  readonly base: string;
  readonly epoch: number;
  readonly checkpoints: number;
  readonly newestCheckpoint: number;
  readonly newestCheckpointAt: string;
  readonly markers: readonly { readonly name: string; readonly checkpoint: number }[];
  /** `path` is the folder of the journal. */
  readonly disks: readonly (DiskPath & { readonly records: number })[];
  readonly warnings: readonly string[];
}

export interface ListedLock {
  readonly host: string;
  /** UUID of the locked host snapshot. */
  readonly snapshot: string;
  readonly lockType: string;
  readonly taskUuid: string;
  readonly lockedAt: string;
}

export interface ForgottenSnapshot {
  readonly host: string;
  readonly snapshot: string;
  /** How many disk snapshots were tied to the layer beneath. */
  readonly reparented: number;
}

/** A receiver's certificate that a source accepts. */
export interface ListedPin {
  readonly replicaSite: string;
  /** SHA-256, 64 lower-case hexadecimal digits. */
  readonly fingerprint: string;
  readonly pinnedBy: 'configuration' | 'first-use' | 'command';
  /** Where it was first seen; null when nobody had to look. */
  readonly endpoint: string | null;
  readonly pinnedAt: string | null;
  /** False while the configuration's fingerprints take its place. */
  readonly inForce: boolean;
}

export interface PinnedReceiver {
  readonly replicaSite: string;
  readonly fingerprint: string;
  /** False when it was pinned already. */
  readonly created: boolean;
  readonly inForce: boolean;
}

export interface UnpinnedReceivers {
  readonly replicaSite: string;
  readonly forgotten: readonly string[];
  /** What is still pinned; when empty, the next certificate that the site shows is pinned. */
  readonly left: readonly string[];
}

/** The source site's catalog and images, for an operator. */
export interface SourceInventory {
  /** Registers a host snapshot, or finds it. @throws errors of the image's fault, of the host and of the catalog */
  importSnapshot(request: ImportRequest): Promise<ImportedSnapshot>;
  /** Makes an ended epoch of logs of writes onto the newest snapshot. @throws when a log is none of that disk */
  importLogs(request: { readonly host: string; readonly disks: readonly DiskPath[] }): Promise<ImportedEpoch>;
  /** In order of host and sequence. An unknown host gives none. */
  listSnapshots(filter: { readonly host: string | null }): Promise<readonly ListedSnapshot[]>;
  listLocks(): Promise<readonly ListedLock[]>;
  /** Removes the row, never a file. @throws when it or a snapshot above it is locked, naming the holder */
  forget(snapshot: string): Promise<ForgottenSnapshot>;
  /** The certificates of receivers that this site accepts, by site. */
  listPins(): Promise<readonly ListedPin[]>;
  /** Accepts a certificate beside the others. @throws when the configuration does not name the site */
  pin(request: { readonly replicaSite: string; readonly fingerprint: string }): Promise<PinnedReceiver>;
  /** Accepts a certificate no longer, or all of a site. @throws when none was pinned */
  unpin(request: {
    readonly replicaSite: string;
    readonly fingerprint: string | null;
  }): Promise<UnpinnedReceivers>;
  close(): Promise<void>;
}

/** What speaks against a replica's file. */
export interface ListedDamage {
  readonly path: string;
  /** `doubt`: its marks changed, its content was not read; `content`: bytes are not those that were sealed. */
  readonly kind: 'doubt' | 'content';
  readonly reason: string;
  readonly foundAt: string;
}

/** A published recovery point at a replica site. */
export interface ListedPoint {
  readonly host: string;
  /** Its id for `--point`: the host snapshot's UUID. */
  readonly point: string;
  readonly sequence: number;
  readonly takenAt: string;
  readonly publishedAt: string;
  /** A file that one of its disks needs is damaged or in doubt. */
  readonly damaged: boolean;
  readonly kind: 'qcow2' | 'cdp';
  /** What can be restored of an epoch of continuous data protection; null for an ordinary point. */
  readonly cdp: ListedEpoch | null;
  readonly disks: readonly (ListedDisk & {
    readonly damage: ListedDamage | null;
    /** When the last of its files was read whole and compared, of each the newest time; null when one never was. */
    readonly verifiedAt: string | null;
  })[];
}

/** The states of a CDP host snapshot: every checkpoint of a range. Times are the source's. */
export interface ListedEpoch {
  /** Counts the host's epochs where they are recorded. */
  readonly epoch: number;
  /** UUID of the frozen base, a point by itself. */
  readonly base: string;
  /** The first and the last state; null when there is none, because retention removed them. */
  readonly from: string | null;
  readonly to: string | null;
  /** The sequence of the newest checkpoint; null when there is none. */
  readonly newestCheckpoint: number | null;
  readonly markers: number;
  readonly journalBytes: number;
  /** Null while more may come. */
  readonly endedAt: string | null;
  readonly endedReason: string | null;
  /** Times of which there is no state: before this epoch, since the one before, and what was removed. */
  readonly gaps: readonly { readonly from: string; readonly to: string; readonly reason: string }[];
}

/** A named checkpoint. */
export interface ListedMarker {
  readonly host: string;
  readonly point: string;
  readonly checkpoint: number;
  readonly name: string;
  readonly markedAt: string;
}

/** At most one of `point`, `at` and `marker` is set; none asks for the newest state. */
export interface RecoverRequest {
  readonly host: string;
  /** Of a CDP point its newest checkpoint. */
  readonly point: string | null;
  /** ISO 8601, by the source's clock: the newest state at or before. */
  readonly at: string | null;
  readonly marker: string | null;
  /** An absolute folder; it appears when all is there, and must not be there before, or be empty. */
  readonly directory: string;
  /** `overlay`: thin writable qcow2 files over the replica; the others: full copies. */
  readonly format: 'overlay' | 'qcow2' | 'raw';
}

export interface RecoveredHost {
  readonly host: string;
  readonly point: string;
  readonly takenAt: string;
  /** The time of the state: `takenAt`, or that of the checkpoint. */
  readonly at: string;
  /** Null for an ordinary point. */
  readonly checkpoint: number | null;
  /** The marker's name at this checkpoint; null for none. */
  readonly marker: string | null;
  /** The time that was asked for, and how much before it the state is; null when none was. */
  readonly askedAt: string | null;
  readonly lostMs: number | null;
  readonly warnings: readonly string[];
  readonly disks: readonly {
    readonly disk: string;
    readonly path: string;
    readonly format: 'qcow2' | 'raw';
    /** The replica's file beneath a thin overlay; null for a full copy. */
    readonly backing: string | null;
  }[];
}

/** A task of a schedule, from the catalog. */
export interface ListedTask {
  readonly taskUuid: string;
  /** The number of the task within its schedule, from 1. */
  readonly generation: number;
  /** Null while it runs, or was not ended yet. */
  readonly outcome: TaskOutcome | null;
  readonly reason: string | null;
  /** UUID of the host snapshot that it was about; null when there was none. */
  readonly hostSnapshot: string | null;
  readonly startedAt: string;
  readonly finishedAt: string | null;
  readonly tookMs: number | null;
  /** Of all disks. */
  readonly bytesSent: number;
  readonly bytesTotal: number;
  readonly warnings: readonly string[];
  readonly disks: readonly {
    readonly disk: string;
    readonly method: SyncMethod;
    readonly reason: string;
    readonly bytesSent: number;
    readonly bytesTotal: number;
  }[];
}

/** A schedule that is not deleted, from the catalog. */
export interface RecordedSchedule {
  readonly name: string;
  readonly uuid: string;
  readonly host: string;
  readonly sourceSite: string;
  readonly state: 'live' | 'deleting' | 'deleted';
  readonly paused: boolean;
  readonly rpoMs: number | null;
  readonly nextRunAt: string | null;
  readonly newestPointAt: string | null;
  /** By the catalog's own clock; null before the first. */
  readonly newestPointAgeMs: number | null;
  /** Recovery points of its host that need a file which is damaged or in doubt. */
  readonly damage: { readonly points: number; readonly newest: boolean };
  /** The newest that has ended. */
  readonly lastTask: ListedTask | null;
}

/** The replica site's catalog and files, for an operator. Needs neither A nor Temporal. */
export interface ReplicaInventory {
  /** In order of host and sequence. An unknown host gives none. */
  listPoints(filter: { readonly host: string | null }): Promise<readonly ListedPoint[]>;
  /** The named checkpoints that can be restored, by host and sequence. An unknown host gives none. */
  listMarkers(filter: { readonly host: string | null }): Promise<readonly ListedMarker[]>;
  /** @throws when there is no such state, something of it is damaged, or the folder is there already */
  recover(request: RecoverRequest): Promise<RecoveredHost>;
  /** By name. */
  listSchedules(): Promise<readonly RecordedSchedule[]>;
  /** The newest tasks, the newest first. @throws {OffsiteError} `ScheduleUnknown` */
  scheduleHistory(filter: { readonly name: string; readonly limit: number }): Promise<readonly ListedTask[]>;
  close(): Promise<void>;
}

/** How a source's image folders stand, and what keeps snapshots from being deleted. */
export interface SourceSpace {
  readonly folders: readonly {
    readonly folder: string;
    readonly freeBytes: number;
    readonly sizeBytes: number;
    /** Null without a guard. */
    readonly freeBelowBytes: number | null;
    readonly isLow: boolean;
  }[];
  /** Null when the guard releases nothing. */
  readonly releaseIdleAfterMs: number | null;
  /** Those with locks, the longest silent first. */
  readonly schedules: readonly {
    readonly scheduleUuid: string;
    readonly replicaSite: string | null;
    readonly locks: number;
    readonly oldestLockedAt: string;
    /** Since it asked last what to sync. */
    readonly silentMs: number;
    readonly isSending: boolean;
  }[];
}

export interface SourceSpaceService {
  space(): Promise<SourceSpace>;
  close(): Promise<void>;
}

/** What the replicas of a node occupy. Bytes are what the file system has allocated. */
export interface ReplicaSpace {
  /** The absolute folder of the replicas. */
  readonly directory: string;
  readonly freeBytes: number;
  /** Of the whole file system. */
  readonly sizeBytes: number;
  /** What is to stay free. */
  readonly reserveBytes: number;
  readonly usedBytes: number;
  /** Null without a quota. */
  readonly quotaBytes: number | null;
  /** By ident. */
  readonly hosts: readonly {
    readonly host: string;
    readonly usedBytes: number;
    readonly quotaBytes: number | null;
  }[];
}

export interface StrayFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly reason: string;
}

export interface SweptFiles {
  /** Nothing was removed: `removed` has what would be. */
  readonly dryRun: boolean;
  readonly removed: readonly StrayFile[];
  /** They changed too lately. */
  readonly waiting: readonly StrayFile[];
  /** They look like whole layers, and the catalog does not know them. */
  readonly unknown: readonly StrayFile[];
  readonly freedBytes: number;
}

/** The files of this node's replicas. Needs neither A nor Temporal. */
export interface ReplicaFileService {
  space(): Promise<ReplicaSpace>;
  /** @param request.graceMs null for the grace of the worker's own sweeper */
  sweep(request: { readonly dryRun: boolean; readonly graceMs: number | null }): Promise<SweptFiles>;
  close(): Promise<void>;
}

/** What `replica verify` found on this node. */
export interface VerifiedReplicas {
  readonly node: string;
  readonly layers: number;
  readonly checkedBytes: number;
  readonly damaged: readonly {
    readonly host: string;
    readonly disk: string;
    readonly path: string;
    readonly reason: string;
    /** The recovery points that need the file. */
    readonly points: readonly { readonly point: string; readonly sequence: number }[];
  }[];
  /** Files that were in doubt or damaged before, and are proven now. */
  readonly proven: readonly string[];
  /** Those whose newest recovery point is damaged: their next task sends it again. */
  readonly schedules: readonly {
    readonly name: string;
    readonly host: string;
    readonly paused: boolean;
    readonly state: 'live' | 'deleting' | 'deleted';
  }[];
}

export interface VerifyRequest {
  /** Null for all hosts. */
  readonly host: string | null;
  readonly rateBytesPerSecond: number | null;
  /** Ends it; what was read until then counts. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: {
    readonly path: string;
    readonly layer: number;
    readonly layers: number;
    readonly checkedBytes: number;
    readonly totalBytes: number;
  }) => void;
}

/** Reads the replicas of this node whole. Needs neither A nor Temporal. */
export interface ReplicaVerifier {
  /** @throws when the replica folder is not there, or a file may not be read */
  verify(request: VerifyRequest): Promise<VerifiedReplicas>;
  close(): Promise<void>;
}

/** An image that an operator brought to the replica site. */
export interface ListedSeed {
  readonly host: string;
  readonly disk: string;
  readonly node: string;
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly virtualSizeBytes: number;
  readonly registeredAt: string;
  /** When a recovery point was published that was compared with it; null while it waits. */
  readonly usedAt: string | null;
  /** That point. */
  readonly usedByPoint: string | null;
}

/** Images of disks to be compared with. Needs neither A nor Temporal. */
export interface ReplicaSeeds {
  /** The same again changes nothing. @throws errors of the image's fault, and when another image of a disk waits */
  register(request: {
    readonly host: string;
    readonly disks: readonly DiskPath[];
    /** Null for what the suffix says. */
    readonly format: 'qcow2' | 'raw' | null;
  }): Promise<readonly ListedSeed[]>;
  /** In order of host and disk. An unknown host gives none. */
  list(filter: { readonly host: string | null }): Promise<readonly ListedSeed[]>;
  /** Forgets the row, never the file. @throws {OffsiteError} `NotInCatalog` */
  forget(seed: { readonly host: string; readonly disk: string }): Promise<ListedSeed>;
  close(): Promise<void>;
}

/** A worker that polls. */
export interface RunningWorker {
  /** What it serves, for the first lines an operator sees, such as its task queues and its receiver. */
  readonly facts: readonly { readonly name: string; readonly value: string }[];
  /** Resolves after {@link close}; rejects when the worker died by itself. */
  readonly finished: Promise<void>;
  /** Drains and stops. May be called more than once. */
  close(): Promise<void>;
}

export interface SetupReport {
  /** What was looked at, and whether it had to be made; `refused` is lacking, and may be made by others only. */
  readonly steps: readonly { readonly step: string; readonly result: 'made' | 'present' | 'refused' }[];
  close(): Promise<void>;
}

/** What a recorder is asked to record. */
export interface RecordRequest {
  readonly host: string;
  readonly qmpSocketPath: string;
  readonly agentSocketPath: string | null;
  /** A disk of the machine by the name of its device or node; empty for all that can be recorded. */
  readonly disks: readonly { readonly disk: string; readonly name: string }[];
}

/** What happens to a recorder. */
export type RecorderEvent =
  | { readonly event: 'recording'; readonly epoch: string; readonly disks: readonly string[] }
  | { readonly event: 'ended'; readonly epoch: string; readonly reason: string }
  | { readonly event: 'waiting'; readonly reason: string; readonly retryInMs: number };

/** A named checkpoint that was set. */
export interface SetMarker {
  readonly host: string;
  readonly name: string;
  readonly epoch: string;
  readonly sequence: number;
  readonly at: string;
}

/** The exports of `src/sites/cli-services.ts`. */
export interface SiteServices {
  openSourceInventory(config: SiteConfig): Promise<SourceInventory>;
  openSourceSpaceService(config: SiteConfig): Promise<SourceSpaceService>;
  openReplicaInventory(config: SiteConfig): Promise<ReplicaInventory>;
  openReplicaVerifier(config: SiteConfig): Promise<ReplicaVerifier>;
  openReplicaSeeds(config: SiteConfig): Promise<ReplicaSeeds>;
  openReplicaFileService(config: SiteConfig): Promise<ReplicaFileService>;
  /**
   * Starts this node's worker; resolves when it polls, and waits for PostgreSQL and Temporal as long as they need.
   * @param signal ends that waiting: it rejects then
   */
  runWorker(config: SiteConfig, signal: AbortSignal): Promise<RunningWorker>;
  setup(config: SiteConfig): Promise<SetupReport>;
  /** Records until `signal` is aborted. @throws when the disks could not be taken over at first */
  recordHost(
    config: SiteConfig,
    request: RecordRequest,
    options: { readonly signal: AbortSignal; readonly onEvent: (event: RecorderEvent) => void },
  ): Promise<void>;
  /** Through the host's recorder. @throws when none runs */
  markHost(config: SiteConfig, request: { readonly host: string; readonly name: string }): Promise<SetMarker>;
}
