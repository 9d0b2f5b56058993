/** A continuous schedule from its first snapshot to its end: told, limited, paused, planned anew, given up, deleted. */
import { utimesSync } from 'node:fs';
import type { Fault } from '../../../src/lib/fault-injection.ts';
import { WorkerUnreachableError } from '../../../src/orchestration/errors.ts';
import type { OperatorRequest } from '../../../src/orchestration/orchestrator.ts';
import { awaiting, moreBytes } from '../e2e-faults.ts';
import { FaultHost, SETTINGS } from './fault-host.ts';
import type { FaultSites } from './fault-sites.ts';

const KIB = 1024;
/** An increment then takes twice as long as a keep-alive is waited for, and longer after a lost connection. */
const SLOW_BYTES = 96 * KIB;
/** What leads to two points that an undisturbed run does not reach. */
const PROVOKED: readonly Fault[] = [
  // The receiver says so as its last word.
  { id: 'provokes refused', point: 'replica.map.write', when: 'before', kind: 'error' },
  // Its end is noted when it is asked to stop.
  { id: 'provokes gone', point: 'source.commit.endSender', when: 'before', kind: 'error' },
];

let count = 0;

export async function life(on: FaultSites, faults: readonly Fault[]): Promise<void> {
  count += 1;
  const host = new FaultHost(on, `life${count}`);
  const settings = { ...SETTINGS, type: 'continuous' as const, everyMs: null };
  const isIn = (id: string) => faults.some(fault => fault.point === id);
  on.arm([
    ...faults,
    ...PROVOKED.filter(({ id }) =>
      isIn(id === 'provokes gone' ? 'source.commit.endGoneSender' : 'transfer.send.refused'),
    ),
  ]);

  const first = await host.snapshot();
  await host.createSchedule(settings);
  await host.untilPublished(first);
  await untilWaiting(on, host);
  const second = await host.snapshot();
  await host.untilPublished(second);

  const rate = (bytes: number) => ({ ...settings, bandwidthBytesPerSecond: bytes });
  await ask(on, host, { kind: 'updateSettings', settings: rate(SLOW_BYTES) });
  const third = await host.snapshot();
  await inTransfer(on);
  if (isIn('transfer.send.keepAlive')) await keepAliveSent(on);
  await ask(on, host, { kind: 'updateSettings', settings: rate(1.5 * SLOW_BYTES) });
  await untilRate(on);
  await ask(on, host, { kind: 'pause', mode: 'now' });
  await host.untilEnded(third, 'paused');
  await ask(on, host, 'resume');
  await inTransfer(on);
  // The ground changes: another time is another file.
  utimesSync(host.top('vda'), new Date(), new Date());
  await host.untilPublished(third);

  const fourth = await host.snapshot();
  await inTransfer(on);
  await ask(on, host, { kind: 'pause', mode: 'release' });
  await untilGivenUp(on, host);
  await ask(on, host, { kind: 'updateSettings', settings });
  await ask(on, host, 'resume');
  await host.untilPublished(fourth);
  await host.remove();
}

/** A request whose answer does not come in time is carried out all the same. */
async function ask(on: FaultSites, host: FaultHost, request: OperatorRequest): Promise<void> {
  try {
    await on.operator.request(host.ref, request);
  } catch (error) {
    if (!(error instanceof WorkerUnreachableError)) throw error;
  }
}

const untilWaiting = (on: FaultSites, host: FaultHost): Promise<void> =>
  awaiting('the schedule waiting', async () => {
    const rows = await on.rows('a', 'select 1 from snapshot_subscriptions where host = $1', [host.name]);
    return rows.length > 0;
  });

const untilRate = (on: FaultSites): Promise<void> =>
  awaiting(
    'the rate of the running task',
    async () => (await on.rows('a', 'select 1 from task_rates')).length > 0,
  );

/** B has nothing unfinished, and A locks no more than what the cursor stands on. */
const untilGivenUp = (on: FaultSites, host: FaultHost): Promise<void> =>
  awaiting('nothing unfinished', async () => {
    const dropped = await on.rows(
      'b',
      `select 1 from remote_backup_schedules s join remote_backup_tasks t on t.schedule_uuid = s.uuid
       where s.name = $1 and s.paused and t.finished_at is not null and t.generation = s.last_generation
       and t.target_snapshot_id is null`,
      [host.name],
    );
    const locks = await on.rows(
      'a',
      `select 1 from host_snapshot_locks l join host_snapshots hs on hs.id = l.host_snapshot_id
       join hosts h on h.id = hs.host_id where h.ident = $1`,
      [host.name],
    );
    return dropped.length > 0 && locks.length === 1;
  });

/** Some bytes of a disk are on their way, and more are to come. */
async function inTransfer(on: FaultSites): Promise<void> {
  await awaiting('a transfer', async () => {
    const open = await on.rows(
      'b',
      `select 1 from receiver_sessions s join remote_backup_disk_tasks d on d.uuid = s.disk_task_uuid
       join remote_backup_tasks t on t.id = d.task_id where s.state = 'open' and t.finished_at is null`,
    );
    return open.length > 0;
  });
  await moreBytes(on.sites, 200 * KIB);
}

const keepAliveSent = (on: FaultSites): Promise<void> =>
  awaiting('a keep-alive', () => on.fired().some(({ point }) => point === 'transfer.send.keepAlive'));
