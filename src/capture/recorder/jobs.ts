/** Jobs of QEMU: run one to its end, or end those that an earlier recorder left. */
import { setTimeout as sleep } from 'node:timers/promises';
import { MonitorRefusedError, MonitorSilentError } from '../qmp/errors.ts';
import type { JsonObject } from '../qmp/json-socket.ts';
import type { QmpMonitor } from '../qmp/monitor.ts';

const LOOK_MS = 10;
const JOB_MS = 30_000;

interface JobInfo {
  readonly id: string;
  readonly status: string;
  readonly error?: string;
}

export async function queryJobs(monitor: QmpMonitor): Promise<readonly JobInfo[]> {
  return (await monitor.execute('query-jobs')) as readonly JobInfo[];
}

/** Creates the format of a file, or the file. @throws {MonitorRefusedError} with the job's error */
export async function blockdevCreate(monitor: QmpMonitor, id: string, options: JsonObject): Promise<void> {
  await monitor.execute('blockdev-create', { 'job-id': id, options });
  const until = performance.now() + JOB_MS;
  for (;;) {
    const job = (await queryJobs(monitor)).find(one => one.id === id);
    if (job === undefined) return;
    if (job.status === 'concluded') {
      await monitor.execute('job-dismiss', { id });
      if (job.error !== undefined) throw new MonitorRefusedError('blockdev-create', 'JobFailed', job.error);
      return;
    }
    if (performance.now() > until)
      throw new MonitorSilentError(monitor.socketPath, 'blockdev-create', JOB_MS);
    await sleep(LOOK_MS);
  }
}

/** Cancels the jobs and waits until they are gone. What is gone already is no error. */
export async function endJobs(monitor: QmpMonitor, isOurs: (id: string) => boolean): Promise<void> {
  const until = performance.now() + JOB_MS;
  for (;;) {
    const jobs = (await queryJobs(monitor)).filter(({ id }) => isOurs(id));
    if (jobs.length === 0) return;
    if (performance.now() > until)
      throw new MonitorSilentError(monitor.socketPath, 'block-job-cancel', JOB_MS);
    for (const { id, status } of jobs) {
      const end =
        status === 'concluded'
          ? monitor.execute('job-dismiss', { id })
          : monitor.execute('block-job-cancel', { device: id, force: true });
      await ignoringRefusal(end);
    }
    await sleep(LOOK_MS);
  }
}

/** What QEMU refuses was done before, or is not to be done now. */
export async function ignoringRefusal(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (error instanceof MonitorRefusedError) return false;
    throw error;
  }
}
