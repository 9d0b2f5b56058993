/** A schedule in a few lines of markdown, for the Web UI. */
import type { ScheduleSettings, ScheduleStatus } from '../contract/schedule.ts';

export function scheduleDetails(status: ScheduleStatus): string {
  const { spec, settings, lastTask, runningTask } = status;
  const facts: [string, string | null][] = [
    ['now', status.note],
    ['runs', rhythmOf(settings)],
    ['next run', time(status.nextRunAtMs)],
    ['not sooner', status.nextRunReason],
    ['running task', runningTask === null ? null : `\`${runningTask.taskUuid}\``],
    ['last task', lastTask === null ? null : `${lastTask.outcome} at ${time(lastTask.finishedAtMs)}`],
    ['because', lastTask?.reason ?? null],
    ['newest recovery point', time(status.newestPointAtMs)],
    ['behind since', time(status.behindSinceMs)],
    ['skipped runs', skippedOf(status)],
  ];
  return [
    `**${spec.name}** is ${status.state}: ${spec.host} from ${spec.sourceSite} to ${spec.replicaSite}`,
    ...facts.filter(([, value]) => value !== null).map(([name, value]) => `- ${name}: ${value}`),
    ...(lastTask?.warnings ?? []).map(warning => `- ⚠ ${warning}`),
  ].join('\n');
}

/** Such as `30 2 * * *, not between 08:00-18:00 (Europe/Berlin)`. */
function rhythmOf({ type, everyMs, cron, timeZone, notBetween }: ScheduleSettings): string {
  // Told before anybody has looked at the settings: whatever stands there is shown.
  const hours = String(notBetween ?? '');
  const windows = hours === '' ? '' : `, not between ${hours}`;
  const isByClock = cron !== null || hours !== '';
  const times = cron === null ? type : `\`${cron}\``;
  const rhythm = everyMs === null ? times : `every ${everyMs / 1000} s`;
  return `${rhythm}${windows}${isByClock ? ` (${timeZone ?? 'UTC'})` : ''}`;
}

/** All so far, and why the newest of them were skipped. */
function skippedOf({ skippedRuns, skippedReason }: ScheduleStatus): string | null {
  if (skippedRuns === 0) return null;
  return skippedReason === null ? String(skippedRuns) : `${skippedRuns}; the last: ${skippedReason}`;
}

const time = (timeMs: number | null): string | null =>
  timeMs === null ? null : new Date(timeMs).toISOString();
