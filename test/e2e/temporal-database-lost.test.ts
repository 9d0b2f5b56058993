/** Temporal's database is gone for good, and a fresh server answers at the same address. */
import { WorkflowNotFoundError } from '@temporalio/common';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { QUERIES, type ScheduleStatus } from '../../src/contract/schedule.ts';
import { lineIsQuiet, withStopped } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type ListedLock,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { durableBytes, invariantsOf, openTransfers, rowsOf } from '../support/e2e-look.ts';
import { loseTemporal } from '../support/sites.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
/** Frames, TLS records, handshakes, keep-alives and maps. */
const OVERHEAD = 1.02;
const NAMES = ['live', 'paused', 'running', 'draining', 'releasing', 'deleting', 'forced'] as const;
type Name = (typeof NAMES)[number];
/** Those whose first copy is under way when Temporal is lost. */
const SLOW: readonly Name[] = ['running', 'draining', 'releasing', 'deleting'];

let sites: TwoSites;
beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);
afterAll(async () => {
  await sites?.close();
});

const handleOf = (name: Name) => sites.client.workflow.getHandle(`schedule/b/${name}`);
const statusOf = (name: Name) => handleOf(name).query<ScheduleStatus>(QUERIES.status);
const locked = async () =>
  (await sites.json<ListedLock[]>('a', 'source', 'locks')).map(({ snapshot }) => snapshot).sort();
const transferring = async () => (await openTransfers(sites)).length;

/** The schedule once it is back, which the worker of B sees to each minute. */
const untilBack = (name: Name, ready: (status: ScheduleStatus) => boolean) =>
  until(
    `${name} as it was`,
    async () => {
      try {
        return await statusOf(name);
      } catch {
        return null;
      }
    },
    status => status !== null && ready(status),
  );

test('everything comes back from the rows of B as it was, and what is durable is not sent again', async () => {
  const snapshots = new Map<Name, string>();
  const uuids = new Map<Name, string>();
  const begin = async (name: Name, dataMib: number, ...options: string[]): Promise<void> => {
    const images = await createHostImages(sites, `host-${name}`, { vda: '64M' });
    snapshots.set(name, await images.next(() => [`write -P 1 0 ${dataMib}M`]));
    await createSchedule(sites, name, `host-${name}`, ...options);
    uuids.set(name, (await showSchedule(sites, name)).uuid);
  };
  const snapshotOf = (name: Name): string => snapshots.get(name) ?? '';

  for (const name of ['live', 'forced'] as const) {
    await begin(name, 1);
    await untilPublished(sites, name, snapshotOf(name));
  }
  await begin('paused', 24, '--bandwidth', '4MiB/s');
  await until(
    'bytes of the paused one',
    () => durableBytes(sites),
    found => found > 0,
  );
  await sites.json('b', 'schedule', 'pause', 'paused');
  await untilBack('paused', ({ state }) => state === 'paused');
  await lineIsQuiet(sites);
  const pausedBytes = await durableBytes(sites);
  for (const name of SLOW) await begin(name, 40, '--bandwidth', '256KiB/s');
  await until('all of them under way', transferring, count => count === SLOW.length);
  const durable = await durableBytes(sites);
  await until(
    'something durable of each',
    () => durableBytes(sites),
    found => found > durable + 8 * MIB,
  );

  let upBytes = 0;
  await withStopped(sites, ['worker-a'], async () => {
    await sites.json('b', 'schedule', 'pause', 'draining', '--drain');
    await sites.json('b', 'schedule', 'pause', 'releasing', '--release');
    await sites.json('b', 'schedule', 'delete', 'forced', '--force', '--purge');
    await sites.json('b', 'schedule', 'delete', 'deleting');
    await untilBack('draining', ({ state }) => state === 'pausing');
    await untilBack('releasing', ({ note }) => note?.startsWith('waits until site a') ?? false);

    await loseTemporal(sites);
    await expect(statusOf('live')).rejects.toThrow(WorkflowNotFoundError);

    await untilBack('live', ({ state }) => state === 'waiting');
    await untilBack('running', ({ state }) => state === 'running');
    await untilBack('paused', ({ state, lastTask }) => state === 'paused' && lastTask?.outcome === 'paused');
    // Nothing is left that could be let finish.
    await untilBack('draining', ({ state }) => state === 'paused');
    await untilBack('releasing', ({ note }) => note?.startsWith('waits until site a') ?? false);
    await untilBack('deleting', ({ state }) => state === 'deleting');
    const release = sites.client.workflow.getHandle(`release/${uuids.get('forced')}`);
    await until(
      'the release',
      () => release.describe().catch(() => null),
      found => found?.status.name === 'RUNNING',
    );
    for (const name of NAMES) {
      if (name === 'forced') continue;
      expect((await statusOf(name)).spec.uuid).toBe(uuids.get(name));
    }
    upBytes = sites.proxy.bytes.up;
  });

  await sites.json('b', 'schedule', 'update', 'running', '--no-bandwidth');
  await untilPublished(sites, 'running', snapshotOf('running'));
  expect(sites.proxy.bytes.up - upBytes).toBeLessThan(40 * MIB);
  const owed = () => rowsOf(sites, 'b', 'select 1 from remote_backup_schedules where release_pending');
  await until('the release noted', owed, rows => rows.length === 0);
  await untilBack('releasing', ({ note, state }) => state === 'paused' && note === null);
  await until(
    'the deleted one gone',
    () => sites.cli('b', 'schedule', 'show', 'deleting'),
    ({ exitCode }) => exitCode === 1,
  );
  const kept = (['live', 'paused', 'running', 'draining'] as const).map(snapshotOf);
  expect(await locked()).toEqual(kept.toSorted());
  expect(await invariantsOf(sites)).toEqual([]);

  // What was begun before the loss is gone on with at once.
  const mostBytes = { paused: 24 * MIB - pausedBytes, draining: 40 * MIB - 1, releasing: 40 * MIB };
  for (const name of ['paused', 'draining', 'releasing'] as const) {
    const before = await lineIsQuiet(sites);
    await sites.json('b', 'schedule', 'update', name, '--no-bandwidth');
    await sites.json('b', 'schedule', 'resume', name);
    await untilPublished(sites, name, snapshotOf(name));
    const sentBytes = (await lineIsQuiet(sites)) - before;
    expect(sentBytes, name).toBeLessThanOrEqual(mostBytes[name] * OVERHEAD);
  }
  expect(await invariantsOf(sites)).toEqual([]);
  const { customAttributes } = await sites.client.connection.operatorService.listSearchAttributes({
    namespace: 'default',
  });
  expect(Object.keys(customAttributes ?? {})).toEqual(
    expect.arrayContaining(['OffsiteHost', 'OffsiteState']),
  );
}, 400_000);
