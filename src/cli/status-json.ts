/** How a whole replica site stands: what `offsite status` says, and whether all is well. */
import type { ScheduleActivityState, TaskOutcome } from '../contract/schedule.ts';
import { formatDuration } from '../lib/durations.ts';
import type { LeftRelease, ScheduleProgress, ScheduleView } from '../orchestration/orchestrator.ts';
import type { RecordedSchedule } from './ports.ts';
import { retryText } from './render/schedule.ts';
import { renderSpan } from './render/times.ts';
import { damageWords } from './render/words.ts';
import { type ScheduleJson, scheduleJson } from './schedule-json.ts';

/** A schedule as its workflow tells it. `view` null: Temporal answers, but has no workflow of it. */
export interface AskedSchedule {
  readonly view: ScheduleView | null;
  readonly progress: ScheduleProgress | null;
}

/** What was found out, each part from where it could be had. */
export interface SiteFindings {
  readonly site: string;
  /** Null when the catalog could not be read, for the reason in `catalogFault`. */
  readonly recorded: readonly RecordedSchedule[] | null;
  readonly catalogFault: string | null;
  /** By name; null when Temporal could not be asked, for the reason in `temporalFault`. */
  readonly asked: ReadonlyMap<string, AskedSchedule> | null;
  readonly temporalFault: string | null;
  readonly releases: readonly LeftRelease[];
}

export interface ScheduleStatusJson {
  readonly host: string | null;
  readonly name: string;
  readonly uuid: string | null;
  readonly sourceSite: string | null;
  /** `unreachable`: its workflow could not be asked, and the rest is from the catalog. */
  readonly state: ScheduleActivityState | 'unreachable';
  readonly paused: boolean | null;
  readonly ageMs: number | null;
  readonly behindMs: number | null;
  readonly rpoMs: number | null;
  /** Null without an RPO, or when it is not known. */
  readonly rpoMet: boolean | null;
  readonly nextRunAt: string | null;
  /** Of the newest task that has ended. */
  readonly lastOutcome: TaskOutcome | null;
  readonly lastFinishedAt: string | null;
  /** What is wrong, in words; empty when all is well. */
  readonly problems: readonly string[];
  /** What nobody can mend any more, such as older recovery points that are damaged; it does not count as wrong. */
  readonly warnings: readonly string[];
}

export interface SiteStatusJson {
  readonly site: string;
  readonly checkedAt: string;
  /** Nothing is wrong: the exit code is 0. */
  readonly ok: boolean;
  /** What is wrong with the site as a whole, in words. */
  readonly problems: readonly string[];
  /** By host and name. */
  readonly schedules: readonly ScheduleStatusJson[];
}

/** Puts together how the site stands. */
export function siteStatusJson(findings: SiteFindings, nowMs: number): SiteStatusJson {
  const { site, recorded, catalogFault, asked, temporalFault, releases } = findings;
  const names = new Set([...(recorded ?? []).map(({ name }) => name), ...(asked?.keys() ?? [])]);
  const schedules = [...names]
    .map(name => {
      const row = recorded?.find(schedule => schedule.name === name) ?? null;
      return scheduleStatus(name, row, asked === null ? null : (asked.get(name) ?? NO_WORKFLOW), nowMs);
    })
    .sort((left, right) => order(left.host, right.host) || order(left.name, right.name));
  const problems = [
    ...(temporalFault === null ? [] : [`${temporalFault}; what follows is from the catalog`]),
    ...(catalogFault === null ? [] : [`${catalogFault}; what follows is from Temporal`]),
    ...releases.map(
      ({ workflowId, summary, startedAtMs }) =>
        `${summary ?? 'a schedule deleted by force'}: not released since ${new Date(startedAtMs).toISOString()} (${workflowId})`,
    ),
  ];
  const ok = problems.length === 0 && schedules.every(schedule => schedule.problems.length === 0);
  return { site, checkedAt: new Date(nowMs).toISOString(), ok, problems, schedules };
}

const NO_WORKFLOW: AskedSchedule = { view: null, progress: null };

/** @param asked null when Temporal as a whole could not be asked: that is said once, for the site */
function scheduleStatus(
  name: string,
  row: RecordedSchedule | null,
  asked: AskedSchedule | null,
  nowMs: number,
): ScheduleStatusJson {
  const view = asked?.view ?? null;
  const told = view === null ? null : scheduleJson(view, asked?.progress ?? null, nowMs);
  return {
    host: told?.host ?? row?.host ?? null,
    name,
    uuid: told?.uuid ?? row?.uuid ?? null,
    sourceSite: told?.sourceSite ?? row?.sourceSite ?? null,
    ...(told === null || told.unreachable !== null ? recordedState(row) : toldState(told, row)),
    ...lastTaskOf(view, row),
    problems: [...(asked === null ? [] : problemsOf(told)), ...damageOf(row).problems],
    warnings: damageOf(row).warnings,
  };
}

type StateKeys = 'state' | 'paused' | 'ageMs' | 'behindMs' | 'rpoMs' | 'rpoMet' | 'nextRunAt';

const toldState = (
  { state, paused, ageMs, behindMs, rpoMs, rpoMet, nextRunAt }: ScheduleJson,
  row: RecordedSchedule | null,
): Pick<ScheduleStatusJson, StateKeys> => ({
  state,
  paused,
  // While a journal is followed the catalog has points that the workflow has not heard of yet.
  ageMs: leastOf(ageMs, ageOf(row)),
  behindMs,
  rpoMs,
  rpoMet,
  nextRunAt,
});

/** How far it is behind only its workflow knows. */
const recordedState = (row: RecordedSchedule | null): Pick<ScheduleStatusJson, StateKeys> => ({
  state: 'unreachable',
  paused: row?.paused ?? null,
  ageMs: ageOf(row),
  behindMs: null,
  rpoMs: row?.rpoMs ?? null,
  rpoMet: null,
  nextRunAt: row?.nextRunAt ?? null,
});

/** A workflow that was started anew has not seen the last task; the catalog has. */
function lastTaskOf(
  view: ScheduleView | null,
  row: RecordedSchedule | null,
): Pick<ScheduleStatusJson, 'lastOutcome' | 'lastFinishedAt'> {
  const task = view?.reachable === true ? view.status.lastTask : null;
  if (task === null || task.finishedAtMs === null) {
    const { outcome = null, finishedAt = null } = row?.lastTask ?? {};
    return { lastOutcome: outcome, lastFinishedAt: finishedAt };
  }
  return { lastOutcome: task.outcome, lastFinishedAt: new Date(task.finishedAtMs).toISOString() };
}

/** @param told null when there is no workflow */
function problemsOf(told: ScheduleJson | null): string[] {
  if (told === null)
    return ["its workflow is gone; the replica site's worker starts it again within a minute"];
  if (told.unreachable !== null) return [told.unreachable];
  const { behindMs, rpoMs, rpoMet, state, note, retries } = told;
  return [
    ...(rpoMet === false
      ? [`RPO missed: behind ${renderSpan(behindMs)}, not ${formatDuration(rpoMs ?? 0)}`]
      : []),
    ...(state === 'deleting' && note !== null ? [`is being deleted: ${note}`] : []),
    ...retries.map(retry => `retries: ${retryText(retry, false)}`),
  ];
}

const leastOf = (left: number | null, right: number | null): number | null =>
  left === null || right === null ? (left ?? right) : Math.min(left, right);

const ageOf = (row: RecordedSchedule | null): number | null => row?.newestPointAgeMs ?? null;
/** Damage of the newest point is mended by the next task; that of older ones stays. */
function damageOf(row: RecordedSchedule | null): Pick<ScheduleStatusJson, 'problems' | 'warnings'> {
  if (row === null || row.damage.points === 0) return { problems: [], warnings: [] };
  const text = damageWords(row.host, row.damage);
  return row.damage.newest ? { problems: [text], warnings: [] } : { problems: [], warnings: [text] };
}

const order = (left: string | null, right: string | null): number =>
  (left ?? '') < (right ?? '') ? -1 : Number(left !== right);
