import { afterAll, beforeAll, expect, test } from 'vitest';
import { lineIsQuiet, moreBytes, sleep } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type ListedLock,
  type ListedPoint,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { durableBytes, filesUnder, invariantsOf, openTransfers, rowsOf } from '../support/e2e-look.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
const DATA_BYTES = (28 + 20) * MIB;
/** Room for handshakes, maps and keep-alives beside the data. */
const OVERHEAD = 1.02;

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const locks = () => sites.json<ListedLock[]>('a', 'source', 'locks');
const points = () => sites.json<ListedPoint[]>('b', 'replica', 'list', 'web1');

async function pauseInTransfer(sizeBytes: number): Promise<{ upBytes: number; durableBytes: number }> {
  await moreBytes(sites, sizeBytes);
  expect(await openTransfers(sites), 'the pause must fall inside the transfer').not.toEqual([]);
  await sites.json('b', 'schedule', 'pause', 'nightly');
  await sleep(2_000);
  const upBytes = sites.proxy.bytes.up;
  await sleep(2_000);
  expect(sites.proxy.bytes.up, 'no byte flows 2 s after the pause').toBe(upBytes);
  await until(
    'the task paused',
    () => showSchedule(sites, 'nightly'),
    ({ state, lastTask }) => state === 'paused' && lastTask?.outcome === 'paused',
  );
  return { upBytes, durableBytes: await durableBytes(sites) };
}

test('a pause stops the bytes and keeps the locks, resume goes on, delete leaves what was published', async () => {
  const host = await createHostImages(sites, 'web1');
  const first = await host.next(disk => [`write -P 1 0 ${disk === 'vda' ? '28M' : '20M'}`]);
  await createSchedule(sites, 'nightly', 'web1', '--bandwidth', '6MiB/s');
  await moreBytes(sites, MIB);
  const locksBefore = await locks();
  expect(locksBefore.map(({ snapshot }) => snapshot)).toEqual([first]);

  const paused = await pauseInTransfer(12 * MIB);
  expect(await locks()).toEqual(locksBefore);
  expect(paused.durableBytes).toBeGreaterThan(0);
  expect(paused.durableBytes).toBeLessThan(DATA_BYTES);
  expect(await invariantsOf(sites)).toEqual([]);

  const second = await host.next(disk => [`write -P 2 50M ${disk === 'vda' ? '64M' : '32M'}`]);
  await sites.json('b', 'schedule', 'resume', 'nightly');
  await untilPublished(sites, 'nightly', first);
  const sentBytes = (await lineIsQuiet(sites)) - paused.upBytes;
  expect(sentBytes).toBeLessThanOrEqual((DATA_BYTES - paused.durableBytes) * OVERHEAD);
  expect((await points()).map(({ point }) => point)).toEqual([first]);
  expect(await invariantsOf(sites)).toEqual([]);

  const { uuid } = await showSchedule(sites, 'nightly');
  await sites.json('b', 'schedule', 'run', 'nightly');
  await moreBytes(sites, 8 * MIB);
  expect((await locks()).map(({ snapshot }) => snapshot).sort()).toEqual([first, second].sort());
  expect(await openTransfers(sites), 'the delete must fall inside the transfer').not.toEqual([]);
  expect((await filesUnder(sites.replicaRoot)).some(name => name.endsWith('.partial'))).toBe(true);
  const deleted = await sites.json<{ state: string }>('b', 'schedule', 'delete', 'nightly');
  if (deleted.state !== 'deleted') await untilDeleted(uuid);

  expect(await locks()).toEqual([]);
  expect(await rowsOf(sites, 'a', tombstonesOf(uuid))).toHaveLength(1);
  const [left] = await points();
  expect(left?.point).toBe(first);
  const files = await filesUnder(sites.replicaRoot);
  const kept = (left?.disks ?? []).map(({ path }) => path.slice(sites.replicaRoot.length + 1));
  expect(files).toEqual(kept.flatMap(path => [path, `${path}.digests`]).sort());
  expect(await invariantsOf(sites)).toEqual([]);

  // What is deleted stays deleted, and its name and host are free again.
  const again = await sites.cli('b', 'schedule', 'run', 'nightly');
  expect(again.exitCode).toBe(1);
  await createSchedule(sites, 'nightly', 'web1');
  await untilPublished(sites, 'nightly', second);
  expect(await invariantsOf(sites)).toEqual([]);
}, 240_000);

const tombstonesOf = (uuid: string): string =>
  `select 1 from schedule_fences where schedule_uuid = '${uuid}' and tombstoned_at is not null`;

const untilDeleted = (uuid: string): Promise<unknown> =>
  until(
    'the schedule deleted',
    () =>
      rowsOf(
        sites,
        'b',
        `select 1 from remote_backup_schedules where uuid = '${uuid}' and deleted_at is not null`,
      ),
    rows => rows.length === 1,
  );
