/** A schedule in a few lines of markdown, for the Web UI. */
import { taskWorkflowId } from '../contract/names.ts';
import type { ScheduleSettings, ScheduleStatus, TaskOutcome, TaskSummary } from '../contract/schedule.ts';
import * as markdown from './markdown.ts';

/** @param namespace of the workflow, for links within the Web UI */
export function scheduleDetails(status: ScheduleStatus, namespace: string): string {
  const { spec, settings, lastTask } = status;
  const facts: [string, string | null][] = [
    ['now', status.note],
    ['tries again', retryOf(status)],
    ['running task', runningOf(status, namespace)],
    ['runs', rhythmOf(settings)],
    ['limits', limitsOf(settings)],
    ['next run', status.paused ? `after \`offsite schedule resume ${spec.name}\`` : time(status.nextRunAtMs)],
    ['not sooner', status.paused ? null : status.nextRunReason],
    ['last task', lastTask === null ? null : endingOf(lastTask)],
    ['newest recovery point', pointOf(status)],
    ['behind since', time(status.behindSinceMs)],
    ['skipped runs', skippedOf(status)],
    ...(lastTask?.warnings ?? []).map((warning): [string, string] => ['⚠', markdown.plain(warning)]),
  ];
  // Without the empty line it is no list.
  return [
    `**${spec.name}** is **${status.state}**: host ${spec.host}, from site ${spec.sourceSite} to site ${spec.replicaSite}`,
    '',
    ...facts.filter(([, value]) => value !== null).map(([name, value]) => `- ${name}: ${value}`),
    '',
    `At site ${spec.replicaSite}: \`offsite schedule show ${spec.name}\``,
  ].join('\n');
}

function retryOf({ retry, lastTask }: ScheduleStatus): string | null {
  if (retry === undefined || retry === null) return null;
  const at = retry.atMs === null ? 'now' : `at ${time(retry.atMs)}`;
  return `${at} (attempt ${retry.attempt}), because: ${markdown.plain(lastTask?.reason ?? 'the last task failed')}`;
}

/** Retries of a task's steps are known to Temporal alone, not to the workflow: its page shows them. */
const runningOf = ({ runningTask }: ScheduleStatus, namespace: string): string | null =>
  runningTask === null
    ? null
    : `${markdown.workflowLink(namespace, taskWorkflowId(runningTask.taskUuid))}; what it waits for, and why it tries again, stands there`;

const OUTCOMES: Readonly<Record<TaskOutcome, string>> = {
  published: 'published a recovery point',
  upToDate: 'found nothing newer',
  waiting: 'found nothing to send yet',
  paused: 'was paused',
  stopped: 'was stopped',
  superseded: 'was superseded',
};

function endingOf(task: TaskSummary): string {
  const { outcome, finishedAtMs, reason, disks } = task;
  const words = outcome === null ? 'has not ended' : (OUTCOMES[outcome] ?? outcome);
  // Why a published snapshot was chosen is old news; what it took is not.
  const sent = disks.map(({ disk, method, bytesTotal }) => `${disk} ${method} ${markdown.size(bytesTotal)}`);
  const more = outcome === 'published' ? sent.join(', ') : reason;
  return `${words}, ${time(finishedAtMs)}${more ? ` (${markdown.plain(more)})` : ''}`;
}

const pointOf = ({ newestPointAtMs }: ScheduleStatus): string =>
  newestPointAtMs === null ? 'none yet' : `the state of ${time(newestPointAtMs)}`;

/** Such as `30 2 * * *, not between 08:00-18:00 (Europe/Berlin)`. */
function rhythmOf({ type, everyMs, cron, timeZone, notBetween }: ScheduleSettings): string {
  // Told before anybody has looked at the settings: whatever stands there is shown.
  const hours = String(notBetween ?? '');
  const windows = hours === '' ? '' : `, not between ${hours}`;
  const isByClock = cron !== null || hours !== '';
  const times = cron === null ? type : `\`${cron}\``;
  const rhythm = everyMs === null ? times : `every ${span(everyMs)}`;
  return `${rhythm}${windows}${isByClock ? ` (${timeZone ?? 'UTC'})` : ''}`;
}

/** All so far, and why the newest of them were skipped. */
function skippedOf({ skippedRuns, skippedReason }: ScheduleStatus): string | null {
  if (skippedRuns === 0) return null;
  return skippedReason === null ? String(skippedRuns) : `${skippedRuns}; the last: ${skippedReason}`;
}

function limitsOf({ rpoMs, bandwidthBytesPerSecond: rate }: ScheduleSettings): string | null {
  const limits = [
    rpoMs === null ? null : `at most ${span(rpoMs)} behind`,
    rate === null ? null : `at most ${markdown.size(rate)}/s`,
  ].filter(limit => limit !== null);
  return limits.length === 0 ? null : limits.join(', ');
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
] as const;

/** `1h30m`, as it is written on the command line; rounded down to a second. */
function span(spanMs: number): string {
  let restMs = spanMs;
  let text = '';
  for (const [unit, unitMs] of UNITS) {
    const count = Math.floor(restMs / unitMs);
    if (count > 0) text += `${count}${unit}`;
    restMs -= count * unitMs;
  }
  return text === '' ? `${spanMs} ms` : text;
}

const time = (timeMs: number | null): string | null => (timeMs === null ? null : markdown.time(timeMs));
