import type { TaskJson } from '../schedule-json.ts';
import { RateMeter, renderDiskProgress } from './bar.ts';

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
      note: task.outcome !== null && disk.bytesTotal === 0 ? 'nothing to send' : disk.note,
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
