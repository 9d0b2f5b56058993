/** A schedule in words: as a row of a table, as a page. */
import { formatDuration } from '../../lib/durations.ts';
import { formatRate, formatSize } from '../../lib/sizes.ts';
import type { RetryJson } from '../retry-json.ts';
import type { ScheduleJson, TaskJson } from '../schedule-json.ts';
import { printable, renderFacts, renderTable } from './table.ts';
import { renderSpan, renderTime } from './times.ts';
import { activityWords, damageWords, outcomeWords, stepWords } from './words.ts';

/** One row a schedule. @param fit the columns of the terminal, null where there is none */
export function renderScheduleTable(
  schedules: readonly ScheduleJson[],
  nowMs: number,
  replicaSite: string,
  fit: number | null = null,
): string {
  return renderTable(
    [
      { title: 'name' },
      { title: 'host' },
      { title: 'state' },
      { title: 'age', align: 'right' },
      { title: 'behind', align: 'right' },
      { title: 'next run' },
      { title: 'last outcome' },
      { title: 'note' },
    ],
    schedules.map(json => [
      json.name,
      json.host ?? '-',
      json.state,
      renderSpan(json.ageMs),
      renderSpan(json.behindMs) + (json.rpoMet === false ? '!' : ''),
      nextRunWithin(json, nowMs, fit),
      outcomeOf(json.lastTask),
      noteOf(json),
    ]),
    `Site '${replicaSite}' has no schedules.`,
    fit,
  );
}

/** The page of one schedule. @param fit the columns of the terminal, null where there is none */
export function renderSchedule(json: ScheduleJson, nowMs: number, fit: number | null = null): string {
  const task = json.lastTask;
  const facts = renderFacts(factsOf(json, nowMs), fit);
  if (task === null || task.disks.length === 0) return facts;
  const disks = renderTable(
    [
      { title: 'disk' },
      { title: 'method' },
      { title: 'sent', align: 'right' },
      { title: 'of', align: 'right' },
      { title: 'why' },
    ],
    task.disks.map(({ disk, method, bytesSent, bytesTotal, reason }) => {
      const isKnown = bytesTotal > 0 || task.outcome === 'published';
      const sizes = isKnown ? [formatSize(bytesSent), formatSize(bytesTotal)] : ['-', '-'];
      return [disk, method, ...sizes, reason];
    }),
    '',
    fit,
  );
  return `${facts}\n\n${disks}`;
}

function factsOf(json: ScheduleJson, nowMs: number): (readonly [name: string, value: string | null])[] {
  const task = json.lastTask;
  return [
    ['schedule', json.name],
    ['uuid', json.uuid],
    ['host', json.host === null ? null : `${json.host}, from site ${json.sourceSite} to ${json.replicaSite}`],
    ['runs', runsOf(json)],
    ['state', stateOf(json)],
    ['age', json.ageMs === null ? null : `${renderSpan(json.ageMs)} (of the newest recovery point)`],
    ['behind', behindOf(json)],
    ['next run', nextRunOf(json, nowMs)],
    ['', json.nextRunAt === null || json.paused === true ? null : json.nextRunReason],
    ['skipped', skippedOf(json)],
    ...json.retries.map(retry => ['retries', retryText(retry)] as const),
    ...plainWaits(json).map(wait => ['waits', wait] as const),
    [task?.outcome === null ? 'task' : 'last task', task === null ? null : taskText(task, json.step, nowMs)],
    ...reasonOf(json),
    ...(task?.warnings ?? []).map(warning => ['warning', warning] as const),
    ...(json.damage != null && json.damage.points > 0
      ? [['warning', damageWords(json.host ?? '', json.damage)] as const]
      : []),
  ];
}

/** `sending vda: the disk is full (attempt 4 at 02:00:05Z)`. @param nextAt false leaves out when the next attempt is */
export function retryText(retry: RetryJson, nextAt = true): string {
  const { attempt, activity, disk, reason, nextAttemptAt, code } = retry;
  const what = activity === 'remoteBackupTask' ? '' : `${activityWords(activity, disk)}: `;
  if (code === 'NoWorker') return printable(`${what}${reason}`);
  const at = nextAttemptAt === null ? ' runs' : ` at ${nextAttemptAt.slice(11, 19)}Z`;
  return printable(`${what}${reason} (attempt ${attempt}${nextAt ? at : ''})`);
}

/** What waits without being at fault: the rest is among the retries. */
export const plainWaits = ({ waits, retries }: ScheduleJson): string[] =>
  waits.filter(wait => !retries.some(({ code, reason }) => code === 'NoWorker' && wait.endsWith(reason)));

/** Narrower than this there is room for the time until the next run only. */
const WHOLE_TIME_COLUMNS = 120;

/** As {@link nextRunOf}, in a table for a terminal of `fit` columns. */
export function nextRunWithin(
  schedule: Pick<ScheduleJson, 'nextRunAt' | 'paused'>,
  nowMs: number,
  fit: number | null,
): string {
  if (fit === null || fit >= WHOLE_TIME_COLUMNS) return nextRunOf(schedule, nowMs) ?? '-';
  if (schedule.paused === true || schedule.nextRunAt === null) return '-';
  const leftMs = Date.parse(schedule.nextRunAt) - nowMs;
  return leftMs <= 0 ? 'due' : `in ${renderSpan(leftMs)}`;
}

/** When the next run is due; while paused nothing is. */
export function nextRunOf(
  { nextRunAt, paused }: Pick<ScheduleJson, 'nextRunAt' | 'paused'>,
  nowMs: number,
): string | null {
  if (paused === true) return 'after a resume';
  return nextRunAt === null ? null : renderTime(nextRunAt, nowMs);
}

function stateOf({ state, note, unreachable }: ScheduleJson): string {
  const more = unreachable ?? note;
  return more === null ? state : `${state}: ${more}`;
}

/** Such as `every 15m (…), at most 50MiB/s, RPO 30m`; null when the schedule could not be asked. */
export function settingsText(json: ScheduleJson): string | null {
  const runs = runsOf(json);
  if (runs === null || json.rpoMs === null) return runs;
  return `${runs}, RPO ${formatDuration(json.rpoMs)}`;
}

function runsOf(json: ScheduleJson): string | null {
  if (json.type === null) return null;
  const rhythm = json.everyMs === null ? (json.cron ?? json.type) : `every ${formatDuration(json.everyMs)}`;
  const windows = json.notBetween.length === 0 ? '' : `, not between ${json.notBetween.join(' and ')}`;
  const isByClock = json.cron !== null || json.notBetween.length > 0;
  const zone = isByClock ? ` (${json.timeZone ?? 'UTC'})` : '';
  const limit =
    json.bandwidthBytesPerSecond === null ? '' : `, at most ${formatRate(json.bandwidthBytesPerSecond)}`;
  return `${rhythm}${windows}${zone}${limit}`;
}

function skippedOf({ skippedRuns, skippedReason }: ScheduleJson): string | null {
  if (skippedRuns === null || skippedRuns === 0) return null;
  const runs = `${skippedRuns} due ${skippedRuns === 1 ? 'time' : 'times'} in all`;
  return skippedReason === null ? runs : `${runs}; the last: ${skippedReason}`;
}

function behindOf({ behindMs, rpoMs, rpoMet }: ScheduleJson): string | null {
  if (behindMs === null) return null;
  const behind = behindMs === 0 ? 'nothing' : renderSpan(behindMs);
  if (rpoMs === null) return behind;
  return `${behind} (RPO ${formatDuration(rpoMs)} is ${rpoMet ? 'met' : 'NOT met'})`;
}

function taskText(task: TaskJson, step: string | null, nowMs: number): string {
  if (task.outcome !== null) {
    return `${outcomeWords(task.outcome)} at ${renderTime(task.finishedAt, nowMs)}: ${task.taskUuid}`;
  }
  return `${step === null ? 'running' : stepWords(step, disksOf(task))} (${task.taskUuid})`;
}

/** The decision of a task that went well, else why it did not; left out where a retry says it already. */
function reasonOf({ lastTask, retries }: ScheduleJson): (readonly [string, string | null])[] {
  if (lastTask === null || retries.some(({ reason }) => reason === lastTask.reason)) return [];
  return [[lackOf(lastTask) === null ? 'decision' : 'because', lastTask.reason]];
}

/** The disks of a task, for {@link stepWords}. */
export const disksOf = (task: TaskJson | null): string[] => (task?.disks ?? []).map(({ disk }) => disk);

const outcomeOf = (task: TaskJson | null): string => (task === null ? '-' : outcomeWords(task.outcome));

function noteOf({ unreachable, note, retry, waits, lastTask }: ScheduleJson): string {
  if (unreachable !== null) return unreachable;
  if (retry !== null) return retryText(retry);
  return note ?? waits[0] ?? lackOf(lastTask) ?? '';
}

/** Why a task ended without a recovery point, or what it waits for; null when all went well. */
export function lackOf(task: TaskJson | null): string | null {
  if (task === null || task.outcome === 'published' || task.outcome === 'upToDate') return null;
  return task.reason;
}
