/** The schedules as the command line and `offsite dev` see them. Temporal stands behind it. */
import type {
  DeleteRequest,
  PauseMode,
  ScheduleSettings,
  ScheduleSpec,
  ScheduleStatus,
  TaskSummary,
} from '../contract/schedule.ts';
import type { TransferProgress } from '../contract/transfer.ts';

export interface ScheduleRef {
  readonly replicaSite: string;
  readonly name: string;
}

/** How a schedule stands by its own word, or why it could not be asked. */
export type ScheduleView =
  | { readonly reachable: true; readonly ref: ScheduleRef; readonly status: ScheduleStatus }
  | {
      readonly reachable: false;
      readonly ref: ScheduleRef;
      /** In words, such as `no worker polls b.replica`. */
      readonly reason: string;
      /** As noted when it was created; null when it was started by other means. */
      readonly spec: ScheduleSpec | null;
    };

/** An activity that a schedule waits for at this moment. */
export interface PendingStep {
  readonly level: 'schedule' | 'task' | 'disk';
  /** Set at the level of disks. */
  readonly disk: string | null;
  /** The activity's name. */
  readonly activity: string;
  /** From 1. */
  readonly attempt: number;
  /** Why the attempt before this one failed; null too once bytes flow again. */
  readonly lastFailure: { readonly code: string | null; readonly message: string } | null;
  /** Null while an attempt runs. */
  readonly nextAttemptAtMs: number | null;
  /** Why nobody works on it: `no worker on node n1 since …`, `waits for a slot on node n1`; null when somebody does. */
  readonly waits: string | null;
  /** It waits because no worker answers on its queue. */
  readonly unserved: boolean;
  /** Of transfers that have sent a heartbeat. */
  readonly transfer: TransferProgress | null;
}

/** What runs below a schedule right now. */
export interface ScheduleProgress {
  /** The running task by its own word, null when none runs or it could not be asked. */
  readonly task: TaskSummary | null;
  /** The step at which the task stands, in its own words. */
  readonly step: string | null;
  readonly pending: readonly PendingStep[];
}

export interface StartedSchedule {
  /** False when an equal schedule was there already. */
  readonly created: boolean;
  readonly spec: ScheduleSpec;
  /** Whether the schedule has registered itself; the view says why not. */
  readonly registered: boolean;
  readonly view: ScheduleView;
}

/** What an operator may ask of a schedule, besides its end. To pause without further words is to pause now. */
export type OperatorRequest =
  | 'pause'
  | 'resume'
  | 'runNow'
  | { readonly kind: 'pause'; readonly mode: PauseMode }
  | { readonly kind: 'updateSettings'; readonly settings: Partial<ScheduleSettings> };

/** A request that was accepted. */
export interface AnsweredRequest {
  readonly view: ScheduleView;
  /** Why it changed nothing, such as `it was paused already`; null when it changed something. */
  readonly reason: string | null;
}

export interface DeletedSchedule {
  /** `deleting` while A has not answered yet. */
  readonly state: 'deleted' | 'deleting';
  /** The workflow that goes on releasing what A holds for it, after a deletion by force; null when A holds nothing. */
  readonly releaseWorkflowId: string | null;
}

/** A schedule was deleted by force, and its source has not released yet what it holds for it. */
export interface LeftRelease {
  readonly workflowId: string;
  readonly startedAtMs: number;
  /** Which schedule, in words. */
  readonly summary: string | null;
}

/**
 * Every method answers within about 20 s, whatever is down.
 * @throws {TemporalUnreachableError} {@link TemporalRefusedError} from every method
 */
export interface Orchestrator {
  /**
   * Starts the schedule's workflow, or finds an equal one; then waits until it has registered itself, or until it
   * is known that it cannot just now.
   * @throws {ScheduleExistsError} {@link ScheduleConflictError} {@link WorkerUnreachableError}
   */
  startSchedule(
    spec: ScheduleSpec,
    settings: ScheduleSettings,
    options: { readonly paused: boolean },
  ): Promise<StartedSchedule>;
  /**
   * Sends a request and waits until the schedule has answered it.
   * @throws {ScheduleUnknownError} {@link RequestRefusedError} {@link WorkerUnreachableError} (it was sent all the same)
   */
  request(ref: ScheduleRef, request: OperatorRequest): Promise<AnsweredRequest>;
  /**
   * As {@link request}; then waits a while for the end. A schedule that was deleted before is `deleted`.
   */
  delete(ref: ScheduleRef, request: DeleteRequest): Promise<DeletedSchedule>;
  /** The live schedules of a replica site, by name. */
  list(replicaSite: string): Promise<readonly ScheduleView[]>;
  /** What schedules of a replica site left at their sources when they were deleted by force. */
  releases(replicaSite: string): Promise<readonly LeftRelease[]>;
  /** @throws {ScheduleUnknownError} */
  status(ref: ScheduleRef): Promise<ScheduleView>;
  /** What runs below it. @throws {ScheduleUnknownError} */
  progress(ref: ScheduleRef): Promise<ScheduleProgress>;
  close(): Promise<void>;
}
