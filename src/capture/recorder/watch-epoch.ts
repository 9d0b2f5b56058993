/** What of QEMU's events ends an epoch. */
import type { MonitorEvent } from '../qmp/monitor.ts';
import type { TakeOverPlan } from './take-over.ts';

const JOB_EVENTS = new Set(['BLOCK_JOB_ERROR', 'BLOCK_JOB_COMPLETED', 'BLOCK_JOB_CANCELLED']);

/** @returns why the epoch ends, in words, or null for an event that does not matter */
export function endingOf({ event, data }: MonitorEvent, { disks }: TakeOverPlan): string | null {
  if (event === 'SHUTDOWN') return 'the machine shuts down';
  if (JOB_EVENTS.has(event)) {
    const disk = disks.find(({ names }) => names.job === data.device);
    if (disk === undefined) return null;
    const why = typeof data.error === 'string' ? `: ${data.error}` : '';
    return `the mirror of disk ${disk.disk} ended (${event})${why}`;
  }
  if (event === 'DEVICE_DELETED') {
    const disk = disks.find(
      ({ device }) => device !== '' && (data.device === device || data.path === device),
    );
    return disk === undefined ? null : `disk ${disk.disk} was taken out`;
  }
  return null;
}
