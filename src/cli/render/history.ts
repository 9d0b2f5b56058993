import { formatSize } from '../../lib/sizes.ts';
import type { ListedTask } from '../ports.ts';
import { renderTable } from './table.ts';
import { renderSpan, renderTime } from './times.ts';
import { outcomeWords } from './words.ts';

/**
 * One row a task; what is said besides stands in rows of their own below it.
 * @param fit the columns of the terminal, null where there is none
 */
export function renderHistory(
  tasks: readonly ListedTask[],
  name: string,
  nowMs: number,
  fit: number | null = null,
): string {
  return renderTable(
    [
      { title: 'task', align: 'right' },
      { title: 'outcome' },
      { title: 'started' },
      { title: 'took', align: 'right' },
      { title: 'sent', align: 'right' },
      { title: 'disks' },
      { title: 'snapshot' },
      { title: 'why' },
    ],
    tasks.flatMap(task => [
      [
        String(task.generation),
        outcomeWords(task.outcome),
        renderTime(task.startedAt, nowMs),
        renderSpan(task.tookMs),
        task.disks.length === 0 ? '-' : formatSize(task.bytesSent),
        methodsOf(task),
        task.hostSnapshot ?? '-',
        task.reason ?? '',
      ],
      ...task.warnings.map(warning => ['', '', '', '', '', '', '', `warning: ${warning}`]),
    ]),
    `Schedule '${name}' has run no task yet.`,
    fit,
  );
}

/** `full` where all disks agree, else `vda full, vdb incremental`. */
function methodsOf({ disks }: ListedTask): string {
  const [first, ...others] = disks;
  if (first === undefined) return '-';
  if (others.every(({ method }) => method === first.method)) return first.method;
  return disks.map(({ disk, method }) => `${disk} ${method}`).join(', ');
}
