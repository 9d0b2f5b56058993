/** What `schedule show`, `list` and `watch` say with `--json`. docs/cli-json.md lists the keys; they only grow. */
import type {
  PlannedRun,
  ScheduleActivityState,
  ScheduleStatus,
  TaskOutcome,
  TaskSummary,
} from '../contract/schedule.ts';
import type { ScheduleType, SyncMethod } from '../contract/sync.ts';
import type { PendingStep, ScheduleProgress, ScheduleView } from '../orchestration/orchestrator.ts';
import { activityWords } from './render/words.ts';
import { type RetryJson, retriesJson } from './retry-json.ts';

export interface DiskJson {
  readonly disk: string;
  readonly method: SyncMethod;
  readonly reason: string;
  readonly bytesSent: number;
  readonly bytesTotal: number;
  /** What its transfer does besides moving bytes, such as `connects`; null when there is nothing to add. */
  readonly note: string | null;
}

export interface TaskJson {
  readonly taskUuid: string;
  /** Null while it runs. */
  readonly outcome: TaskOutcome | null;
  readonly reason: string | null;
  readonly warnings: readonly string[];
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly hostSnapshot: string | null;
  readonly disks: readonly DiskJson[];
}

export interface ScheduleJson {
  readonly name: string;
  readonly uuid: string | null;
  readonly host: string | null;
  readonly sourceSite: string | null;
  readonly replicaSite: string;
  readonly type: ScheduleType | null;
  readonly everyMs: number | null;
  readonly cron: string | null;
  readonly timeZone: string | null;
  /** Hours of each day without traffic, in `timeZone`, else UTC. */
  readonly notBetween: readonly string[];
  readonly rpoMs: number | null;
  readonly bandwidthBytesPerSecond: number | null;
  readonly state: ScheduleActivityState | 'unreachable';
  readonly paused: boolean | null;
  /** What the state leaves open, such as `pauses when the running task has ended`; null when there is nothing to add. */
  readonly note: string | null;
  readonly ageMs: number | null;
  readonly behindMs: number | null;
  /** Whether `behindMs` is within `--rpo`; null without one, or when it is not known. */
  readonly rpoMet: boolean | null;
  readonly nextRunAt: string | null;
  /** Why the next run is not at its own due time, such as blackout hours. */
  readonly nextRunReason: string | null;
  /** The blackout that lasts, or the next, when the run was planned. */
  readonly blackout: { readonly startsAt: string; readonly endsAt: string } | null;
  /** Due times without a run of their own, in the schedule's whole life. */
  readonly skippedRuns: number | null;
  /** Why the newest of them were skipped. */
  readonly skippedReason: string | null;
  /** The step at which the running task stands. */
  readonly step: string | null;
  readonly lastTask: TaskJson | null;
  /** The first of {@link retries}. */
  readonly retry: RetryJson | null;
  /** All that is tried again for a cause, what has failed most often first. */
  readonly retries: readonly RetryJson[];
  /** What nobody works on, and why, such as `sending vda: waits for a slot on node n1 of site a`. */
  readonly waits: readonly string[];
  /**
   * Recovery points of its host that need a file which is damaged or in doubt, by the catalog of the replica site; null
   * where the command does not run there, or the catalog does not answer.
   */
  readonly damage: { readonly points: number; readonly newest: boolean } | null;
  /** Why the schedule could not be asked; null when it answered. */
  readonly unreachable: string | null;
}

/** Puts together how a schedule stands and what runs below it. */
export function scheduleJson(
  view: ScheduleView,
  progress: ScheduleProgress | null,
  nowMs: number,
): ScheduleJson {
  const status = view.reachable ? view.status : null;
  const spec = view.reachable ? view.status.spec : view.spec;
  const pending = progress?.pending ?? [];
  const retries = retriesJson(status, pending);
  return {
    name: view.ref.name,
    uuid: spec?.uuid ?? null,
    host: spec?.host ?? null,
    sourceSite: spec?.sourceSite ?? null,
    replicaSite: view.ref.replicaSite,
    ...(status === null ? UNKNOWN : statusJson(status, followedLagMs(pending), nowMs)),
    step: progress?.step ?? null,
    lastTask: taskJson(status, progress),
    retry: retries[0] ?? null,
    retries,
    waits: pending.flatMap(({ activity, disk, waits }) =>
      waits === null ? [] : [`${activityWords(activity, disk)}: ${waits}`],
    ),
    damage: null,
    unreachable: view.reachable ? null : view.reason,
  };
}

type StatusKeys =
  | 'type'
  | 'everyMs'
  | 'cron'
  | 'timeZone'
  | 'notBetween'
  | 'rpoMs'
  | 'bandwidthBytesPerSecond'
  | 'state'
  | 'paused'
  | 'note'
  | 'ageMs'
  | 'behindMs'
  | 'rpoMet'
  | 'nextRunAt'
  | 'nextRunReason'
  | 'blackout'
  | 'skippedRuns'
  | 'skippedReason';

const UNKNOWN: Pick<ScheduleJson, StatusKeys> = {
  type: null,
  everyMs: null,
  cron: null,
  timeZone: null,
  notBetween: [],
  rpoMs: null,
  bandwidthBytesPerSecond: null,
  state: 'unreachable',
  paused: null,
  note: null,
  ageMs: null,
  behindMs: null,
  rpoMet: null,
  nextRunAt: null,
  nextRunReason: null,
  blackout: null,
  skippedRuns: null,
  skippedReason: null,
};

/** A workflow of version 0.1.0 does not tell the plan's reasons. */
type ToldStatus = ScheduleStatus & Partial<Pick<PlannedRun, 'nextRunReason' | 'skippedReason' | 'blackout'>>;

function statusJson(status: ToldStatus, lagMs: number | null, nowMs: number): Pick<ScheduleJson, StatusKeys> {
  const { type, everyMs, cron, timeZone, notBetween, rpoMs, bandwidthBytesPerSecond } = status.settings;
  const { blackout = null } = status;
  // This machine's clock is the replica site's; the times are Temporal's.
  const temporalNowMs = nowMs - (status.siteOffsetMs ?? 0);
  const behindMs = lagMs ?? behindOf(status, temporalNowMs);
  return {
    type,
    everyMs,
    cron,
    timeZone,
    notBetween: notBetween ?? [],
    rpoMs,
    bandwidthBytesPerSecond,
    state: status.state,
    paused: status.paused,
    note: status.note ?? null,
    ageMs: sinceMs(status.newestPointAtMs, temporalNowMs),
    behindMs,
    rpoMet: behindMs === null || rpoMs === null ? null : behindMs <= rpoMs,
    nextRunAt: iso(status.nextRunAtMs),
    nextRunReason: status.nextRunReason ?? null,
    blackout:
      blackout === null
        ? null
        : {
            startsAt: new Date(blackout.startsAtMs).toISOString(),
            endsAt: new Date(blackout.endsAtMs).toISOString(),
          },
    skippedRuns: status.skippedRuns,
    skippedReason: status.skippedReason ?? null,
  };
}

/** A journal that is followed is there within a second or two; that is not called behind. */
const UP_TO_DATE_MS = 5_000;

/** Of the disk that is furthest behind while journals are followed; null while none is, or it is not known. */
function followedLagMs(pending: readonly PendingStep[]): number | null {
  const lags = pending.flatMap(({ transfer }) => transfer?.lagMs ?? []);
  if (lags.length === 0) return null;
  const lagMs = Math.max(...lags);
  return lagMs < UP_TO_DATE_MS ? 0 : lagMs;
}

/** Null before B has ever heard from A; zero after an answer that nothing is newer. */
function behindOf(status: ScheduleStatus, nowMs: number): number | null {
  if (status.behindSinceMs !== null) return sinceMs(status.behindSinceMs, nowMs);
  return status.newestPointAtMs === null ? null : 0;
}

function taskJson(status: ScheduleStatus | null, progress: ScheduleProgress | null): TaskJson | null {
  const running = progress?.task ?? null;
  if (running !== null && running.outcome === null) return summaryJson(running, progress?.pending ?? []);
  const last = status?.lastTask ?? null;
  const runningUuid = status?.runningTask?.taskUuid ?? null;
  if (runningUuid === null || runningUuid === last?.taskUuid) return last && summaryJson(last, []);
  return {
    taskUuid: runningUuid,
    outcome: null,
    reason: null,
    warnings: [],
    startedAt: null,
    finishedAt: null,
    hostSnapshot: null,
    disks: [],
  };
}

/** A task, its disks brought up to date by the transfers that run. */
export function summaryJson(task: TaskSummary, pending: readonly PendingStep[]): TaskJson {
  return {
    taskUuid: task.taskUuid,
    outcome: task.outcome,
    reason: task.reason,
    warnings: task.warnings,
    startedAt: iso(task.startedAtMs),
    finishedAt: iso(task.finishedAtMs),
    hostSnapshot: task.hostSnapshot,
    disks: task.disks.map(({ disk, method, reason, bytesSent, bytesTotal }) => {
      const transfers = pending.flatMap(step => (step.disk === disk && step.transfer ? [step.transfer] : []));
      return {
        disk,
        method,
        reason,
        bytesSent: Math.max(bytesSent, ...transfers.map(({ durableBytes }) => durableBytes)),
        bytesTotal: Math.max(bytesTotal, ...transfers.map(({ totalBytes }) => totalBytes ?? 0)),
        note: transfers.find(({ note }) => note !== null)?.note ?? null,
      };
    }),
  };
}

const sinceMs = (atMs: number | null, nowMs: number): number | null =>
  atMs === null ? null : Math.max(0, nowMs - atMs);
const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
