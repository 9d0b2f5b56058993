import type { DiskJson, TaskJson } from '../schedule-json.ts';
import { RateMeter, renderDiskProgress } from './bar.ts';
import { outcomeWords } from './words.ts';

/** Draws a task's disks as bars; remembers what it saw, for the rates. */
export class TaskBars {
  readonly #meters = new Map<string, RateMeter>();
  #taskUuid: string | null = null;

  /** One line a disk, each within `columns`. */
  render(task: TaskJson | null, nowMs: number, columns: number): string[] {
    if (task === null) return [];
    if (task.taskUuid !== this.#taskUuid) this.#meters.clear();
    this.#taskUuid = task.taskUuid;
    const disks = task.disks.map(disk => ({
      ...disk,
      bytesSent: doneBytes(task, disk),
      note: disk.note ?? emptyNote(task, disk),
      bytesPerSecond: task.outcome === null ? this.#meterOf(disk.disk).add(nowMs, disk.bytesSent) : null,
    }));
    return renderDiskProgress(disks, columns);
  }

  #meterOf(disk: string): RateMeter {
    const meter = this.#meters.get(disk) ?? new RateMeter();
    this.#meters.set(disk, meter);
    return meter;
  }
}

/** What is at B: of a task that published all of it, also where an earlier one had sent a part. */
export const doneBytes = (task: TaskJson, { bytesSent, bytesTotal }: DiskJson): number =>
  task.outcome === 'published' ? bytesTotal : bytesSent;

/** What stands in the place of bytes where there are none: a task that was cut short does not know them. */
export function emptyNote(task: TaskJson, { bytesTotal }: DiskJson): string | null {
  if (task.outcome === null || bytesTotal > 0) return null;
  return task.outcome === 'published' ? 'nothing to send' : outcomeWords(task.outcome);
}
