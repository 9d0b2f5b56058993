/** Three hosts as an operator meets them: one is being sent, one tries again for a cause, one is paused. */
import { moreBytes } from './e2e-faults.ts';
import { createHostImages, createSchedule, showSchedule, until, untilPublished } from './e2e-host.ts';
import { startTwoSites, type TwoSites } from './two-sites.ts';

const MIB = 1024 * 1024;

export interface Cockpit {
  readonly sites: TwoSites;
  /** Schedule and host `web1`: published once, and sends an increment of two disks, slowly. */
  readonly running: { readonly taskUuid: string; readonly hostSnapshot: string };
  /** Schedule and host `mail1`, which A's configuration does not let out. */
  readonly retrying: { readonly taskUuid: string };
  /** Schedule and host `db1`: paused in the middle of its first copy. */
  readonly paused: { readonly taskUuid: string };
}

const writing = (pattern: number, at: string, sizes: Record<string, string>) => (disk: string) => [
  `write -P ${pattern} ${at} ${sizes[disk]}`,
];

/** @returns once each of them is what it is to be; whoever asks closes the sites */
export async function startCockpit(options: { webUi?: boolean } = {}): Promise<Cockpit> {
  const sites = await startTwoSites({ ...options, rule: { hosts: ['web1', 'db1'] } });
  try {
    const web = await createHostImages(sites, 'web1');
    const first = await web.next(writing(1, '0', { vda: '40M', vdb: '24M' }));
    const db = await createHostImages(sites, 'db1');
    await db.next(writing(1, '0', { vda: '40M', vdb: '24M' }));
    const mail = await createHostImages(sites, 'mail1', { vda: '64M' });
    await mail.next(() => ['write -P 3 0 1M']);

    await createSchedule(sites, 'web1', 'web1', '--rpo', '30m');
    await untilPublished(sites, 'web1', first);
    await createSchedule(sites, 'mail1', 'mail1', '--rpo', '1h');
    await createSchedule(sites, 'db1', 'db1', '--bandwidth', '2MiB/s');
    await moreBytes(sites, 6 * MIB);
    await sites.json('b', 'schedule', 'pause', 'db1');
    const paused = await until(
      'the paused task',
      () => showSchedule(sites, 'db1'),
      ({ lastTask }) => lastTask?.outcome === 'paused',
    );

    const hostSnapshot = await web.next(writing(2, '10M', { vda: '200M', vdb: '90M' }));
    await sites.json('b', 'schedule', 'update', 'web1', '--bandwidth', '8MiB/s');
    await sites.json('b', 'schedule', 'run', 'web1');
    await moreBytes(sites, 100 * MIB);
    // What is left takes many minutes.
    await sites.json('b', 'schedule', 'update', 'web1', '--bandwidth', '100KiB/s');
    const running = await showSchedule(sites, 'web1');
    const retrying = await until(
      'the third attempt',
      () => showSchedule(sites, 'mail1'),
      ({ retry }) => (retry?.attempt ?? 0) > 2,
    );
    return {
      sites,
      running: { taskUuid: taskOf(running), hostSnapshot },
      retrying: { taskUuid: taskOf(retrying) },
      paused: { taskUuid: taskOf(paused) },
    };
  } catch (error) {
    await sites.close();
    throw error;
  }
}

function taskOf({ name, lastTask }: Awaited<ReturnType<typeof showSchedule>>): string {
  if (lastTask === null) throw new Error(`schedule ${name} has no task`);
  return lastTask.taskUuid;
}
