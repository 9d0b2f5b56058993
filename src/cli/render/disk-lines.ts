/** A task's disks as plain lines, for an output that cannot be redrawn. */
import { formatSize } from '../../lib/sizes.ts';
import type { TaskJson } from '../schedule-json.ts';
import { shareOf } from './bar.ts';
import type { ChangedLines } from './changed-lines.ts';
import { printable } from './table.ts';
import { doneBytes, emptyNote } from './task-bars.ts';

/** A line each ten per cent: a log of a long transfer stays short. */
const LINES_PER_DISK = 10;

/** Tells each disk of the task that has moved on. */
export function tellDisks(lines: ChangedLines, task: TaskJson | null): void {
  if (task === null) return;
  for (const progress of task.disks) {
    const { disk, method, bytesTotal } = progress;
    const bytesSent = doneBytes(task, progress);
    const note = progress.note ?? emptyNote(task, progress);
    const share = shareOf({ bytesSent, bytesTotal });
    if (share === null && note === null) continue;
    const said =
      share === null
        ? (note ?? '')
        : `${formatSize(bytesSent)} of ${formatSize(bytesTotal)} (${Math.floor(share * 100)}%)`;
    const news = share === null ? said : String(Math.floor(share * LINES_PER_DISK));
    lines.tell(`${task.taskUuid} ${disk}`, `  ${disk}  ${method}  ${printable(said)}`, news);
  }
}
