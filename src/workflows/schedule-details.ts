/** A schedule in a few lines of markdown, for the Web UI. */
import type { ScheduleStatus } from '../contract/schedule.ts';

export function scheduleDetails(status: ScheduleStatus): string {
  const { spec, settings, lastTask, runningTask } = status;
  const facts: [string, string | null][] = [
    ['runs', settings.everyMs === null ? null : `every ${settings.everyMs / 1000} s`],
    ['next run', time(status.nextRunAtMs)],
    ['running task', runningTask === null ? null : `\`${runningTask.taskUuid}\``],
    ['last task', lastTask === null ? null : `${lastTask.outcome} at ${time(lastTask.finishedAtMs)}`],
    ['because', lastTask?.reason ?? null],
    ['newest recovery point', time(status.newestPointAtMs)],
    ['behind since', time(status.behindSinceMs)],
    ['skipped runs', status.skippedRuns === 0 ? null : String(status.skippedRuns)],
  ];
  return [
    `**${spec.name}** is ${status.state}: ${spec.host} from ${spec.sourceSite} to ${spec.replicaSite}`,
    ...facts.filter(([, value]) => value !== null).map(([name, value]) => `- ${name}: ${value}`),
    ...(lastTask?.warnings ?? []).map(warning => `- ⚠ ${warning}`),
  ].join('\n');
}

const time = (timeMs: number | null): string | null =>
  timeMs === null ? null : new Date(timeMs).toISOString();
