/** What an operator wants, what the schedule's workflow carries, and what it tells. */
import type { ScheduleType, SyncMethod } from './sync.ts';

export interface ScheduleSettings {
  readonly type: ScheduleType;
  /** Interval schedules: the time between two runs; null when `cron` says when. */
  readonly everyMs: number | null;
  /** Five fields, read in `timeZone`; null when `everyMs` says when. */
  readonly cron: string | null;
  /** An IANA name, for `cron` and `notBetween`; null means UTC. */
  readonly timeZone: string | null;
  /** Blackout windows of each day, such as `08:00-18:00`; absent (as in rows of version 0.1.0) means none. */
  readonly notBetween?: readonly string[];
  readonly rpoMs: number | null;
  readonly bandwidthBytesPerSecond: number | null;
}

/** A span without traffic; half-open. */
export interface Blackout {
  readonly startsAtMs: number;
  readonly endsAtMs: number;
}

/** When a schedule runs next, and why not sooner. */
export interface PlannedRun {
  readonly nextRunAtMs: number;
  /** Due times that passed, or will pass, without a run of their own. */
  readonly skippedRuns: number;
  /** Why they were skipped, in words; null when none was. Absent in histories of version 0.1.0. */
  readonly skippedReason?: string | null;
  /** Why the run is not at its own due time, in words; null when it is. Absent as above. */
  readonly nextRunReason?: string | null;
  /** The blackout that lasts, else the next one; null when there are none. Absent as above. */
  readonly blackout?: Blackout | null;
  /** The replica site's clock when it answered. Absent as above. */
  readonly siteNowMs?: number;
}

/** What never changes in a schedule's life. */
export interface ScheduleSpec {
  readonly contractVersion: number;
  readonly uuid: string;
  readonly name: string;
  readonly replicaSite: string;
  readonly sourceSite: string;
  readonly host: string;
}

export type TaskOutcome = 'published' | 'upToDate' | 'waiting' | 'paused' | 'stopped' | 'superseded';

export interface DiskSummary {
  readonly disk: string;
  readonly method: SyncMethod;
  readonly reason: string;
  readonly bytesSent: number;
  readonly bytesTotal: number;
}

export interface TaskSummary {
  readonly taskUuid: string;
  readonly generation: number;
  /** Null while the task runs. */
  readonly outcome: TaskOutcome | null;
  readonly reason: string | null;
  readonly warnings: readonly string[];
  readonly startedAtMs: number;
  readonly finishedAtMs: number | null;
  readonly hostSnapshot: string | null;
  readonly disks: readonly DiskSummary[];
  /**
   * How old the target was when this was told, whatever the source's clock says; null where that is not known. Absent
   * in histories of version 0.1.0.
   */
  readonly targetAgeMs?: number | null;
  /** The replica site's clock when this was told; absent as above. */
  readonly siteNowMs?: number;
}

export interface RequestOutcome {
  readonly requestId: string;
  readonly accepted: boolean;
  /** Why a request was refused, or what it led to. */
  readonly reason: string | null;
}

export interface DeleteRequest {
  /** The published replicas of this schedule go too, but never what another schedule's chain needs. */
  readonly purge: boolean;
  /** Do not wait for the source: what it still holds is released later, by the workflow `release/<uuid>`. */
  readonly force?: boolean;
}

/** `now` stops the running task, `drain` lets it finish, `release` stops it and gives up what it began. */
export type PauseMode = 'now' | 'drain' | 'release';

/** What B's row says of a pause. */
export interface RecordedPause {
  readonly paused: boolean;
  /** It is to be paused once the running task has ended. */
  readonly draining: boolean;
  /** What the stopped task began is to be given up, at both sites. */
  readonly releasing: boolean;
}

/** A's word that it has a newer snapshot. */
export interface SourceNews {
  /** Its place in A's order. */
  readonly sequence: number;
  /** When the schedule heard of it. */
  readonly atMs: number;
}

/** All that one run of the schedule's workflow hands to the next. */
export interface ScheduleState {
  readonly settings: ScheduleSettings;
  readonly registered: boolean;
  /** Settings that the operator gave and B's row does not have yet. */
  readonly newSettings: ScheduleSettings | null;
  /** What the operator wants; {@link recordedPause} is what B's row says already. */
  readonly paused: boolean;
  /** While paused: a running task may finish. */
  readonly draining: boolean;
  /** While paused: what an unfinished task began is still to be given up. */
  readonly releasing: boolean;
  readonly recordedPause: RecordedPause;
  /** The number of the newest write to B's row; a late retry of an older one changes nothing. */
  readonly revision: number;
  readonly deleting: DeleteRequest | null;
  /** The last step of deleting has begun: nothing can be added to the request any more. */
  readonly deleteSettled: boolean;
  /** An operator asked for a run now. */
  readonly runRequested: boolean;
  /** The source said that it has something newer, and no task has begun since. */
  readonly snapshotHinted: boolean;
  /** Null while a task runs, while paused before the first run, and until the next is planned. */
  readonly nextRunAtMs: number | null;
  /** The due time of the run that began last; the next is planned from it. */
  readonly lastDueAtMs: number | null;
  /** Why it is not sooner, in words; null when it is at its own due time. */
  readonly nextRunReason: string | null;
  /** The blackout that lasted, or was the next, when the run was planned. */
  readonly blackout: Blackout | null;
  /** Continuous schedules: when they look without being told; null when they are to look as soon as they may. */
  readonly pollAtMs: number | null;
  /** The next run is planned anew for other settings: the due times between are not skipped runs. */
  readonly replanning: boolean;
  /** When a task that found nothing, was paused or failed is tried again, before the next run; null for none. */
  readonly retryAtMs: number | null;
  /** Tasks since the last one that found something; the pause before a retry grows with it. */
  readonly fruitlessTasks: number;
  /** Due times that passed without a run of their own, in the schedule's whole life. */
  readonly skippedRuns: number;
  /** Why the newest of them were skipped, in words. */
  readonly skippedReason: string | null;
  readonly lastTask: TaskSummary | null;
  /** The newest published recovery point's time at its origin, null before the first. */
  readonly newestPointAtMs: number | null;
  /** Since when A has had something that B lacks, as far as B knows; null when up to date. */
  readonly behindSinceMs: number | null;
  /** What A told of since its last answer that counted: the oldest first, bounded. Absent from version 0.1.0. */
  readonly news: readonly SourceNews[];
  /** The place in A's order up to which B has what matters; a word of A about it comes late. Absent as above. */
  readonly answeredSequence: number;
  /** The replica site's clock minus Temporal's, as last seen: all times here are Temporal's. */
  readonly siteOffsetMs: number;
  /** The newest requests, bounded; they make signals idempotent. */
  readonly requests: readonly RequestOutcome[];
  /** The workflow was started with search attributes: the namespace has them, so it may keep them up to date. */
  readonly searchAttributes: boolean;
  /** A run of the workflow hands over to the next after so many tasks, or when the server asks for it. */
  readonly rollOverAfterTasks: number;
}

export type ScheduleActivityState = 'waiting' | 'running' | 'pausing' | 'paused' | 'deleting' | 'deleted';

/** The last task found nothing or failed: another is to come before the next run. */
export interface TaskRetry {
  /** From 2. */
  readonly attempt: number;
  /** Null while it runs. */
  readonly atMs: number | null;
}

/** The answer of the query `getStatus`. */
export interface ScheduleStatus {
  readonly spec: ScheduleSpec;
  readonly settings: ScheduleSettings;
  readonly state: ScheduleActivityState;
  readonly paused: boolean;
  /** What the state leaves open, in words, such as `waits for site a to …`; null when there is nothing to add. */
  readonly note: string | null;
  readonly nextRunAtMs: number | null;
  readonly nextRunReason: string | null;
  /** The blackout that lasts, or the next. */
  readonly blackout: Blackout | null;
  readonly skippedRuns: number;
  readonly skippedReason: string | null;
  readonly newestPointAtMs: number | null;
  readonly behindSinceMs: number | null;
  /** The replica site's clock minus Temporal's, whose times these are; absent in answers of version 0.1.0. */
  readonly siteOffsetMs?: number;
  readonly lastTask: TaskSummary | null;
  /** The plan of the running task, for the ids of its disk workflows; null when none runs. */
  readonly runningTask: { readonly taskUuid: string } | null;
  /** Null when all is well; absent in answers of version 0.1.0. */
  readonly retry?: TaskRetry | null;
  readonly requests: readonly RequestOutcome[];
}

/** The answer of a task workflow's query `getTaskStatus`. */
export interface TaskStatus {
  readonly taskUuid: string;
  readonly plan: number;
  /** The step the task stands at, in words of docs/architecture.md. */
  readonly step: string;
  readonly summary: TaskSummary;
}

/** Signal and query names; every signal's only argument has a request id. */
export const SIGNALS = {
  pause: 'pause',
  resume: 'resume',
  runNow: 'runNow',
  updateSettings: 'updateSettings',
  delete: 'delete',
  snapshotAvailable: 'snapshotAvailable',
} as const;
export const QUERIES = { status: 'getStatus', taskStatus: 'getTaskStatus' } as const;

export interface ScheduleRequest {
  readonly requestId: string;
}
/** Without a mode it pauses now. A second pause with a stronger mode takes over from the first. */
export interface PauseScheduleRequest extends ScheduleRequest {
  readonly mode?: PauseMode;
}

/** Only what is to change. An interval takes the place of a cron expression, and the other way round. */
export interface UpdateScheduleRequest extends ScheduleRequest {
  readonly settings: Partial<ScheduleSettings>;
}

export interface DeleteScheduleRequest extends ScheduleRequest, DeleteRequest {}

/** A hint from the source: it has something newer than what the schedule was last answered. */
export interface SnapshotAvailable extends ScheduleRequest {
  readonly host: string;
  /** The newest complete snapshot's place in the source's order. Left out where a journal has grown. */
  readonly sequence?: number;
}
