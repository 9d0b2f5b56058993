/** What it means to create a schedule that is there, that is going, or that was there before. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { withStopped } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type ListedLock,
  type ListedPoint,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { filesUnder, invariantsOf } from '../support/e2e-look.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

let sites: TwoSites;
beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);
afterAll(async () => {
  await sites?.close();
});

const create = (...options: string[]) =>
  sites.cli('b', 'schedule', 'create', 'nightly', '--source', 'a', '--host', 'web1', '--json', ...options);
const locks = () => sites.json<ListedLock[]>('a', 'source', 'locks');
const points = async () =>
  (await sites.json<ListedPoint[]>('b', 'replica', 'list', 'web1')).map(({ point }) => point);
const untilGone = () =>
  until(
    'the schedule gone',
    () => sites.cli('b', 'schedule', 'show', 'nightly'),
    ({ exitCode }) => exitCode === 1,
  );

test('creating again, deleting and creating anew, with the source and without it', async () => {
  const host = await createHostImages(sites, 'web1', { vda: '32M' });
  const first = await host.next(() => ['write -P 1 0 4M']);

  // Two at once are one schedule, whoever comes first.
  const both = await Promise.all([create('--every', '1h'), create('--every', '1h')]);
  expect(both.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
  const { uuid: one } = await showSchedule(sites, 'nightly');
  await untilPublished(sites, 'nightly', first);

  // Equal settings succeed, also while it is paused, and leave it paused; others are refused by what differs.
  await sites.json('b', 'schedule', 'pause', 'nightly');
  expect((await create('--every', '1h')).exitCode).toBe(0);
  expect(await showSchedule(sites, 'nightly')).toMatchObject({ uuid: one, paused: true });
  const other = await create('--every', '2h');
  expect(other.exitCode).toBe(1);
  expect(other.stderr).toContain('--every is 1h, not 2h');

  await withStopped(sites, ['worker-a'], async () => {
    await sites.json('b', 'schedule', 'delete', 'nightly');
    const refused = await create('--every', '1h');
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toContain('it is being deleted just now');

    // By force its name and host are free at once, while A still holds what it locked.
    await sites.json('b', 'schedule', 'delete', 'nightly', '--force');
    await untilGone();
    await createSchedule(sites, 'nightly', 'web1');
  });
  const { uuid: two } = await showSchedule(sites, 'nightly');
  expect(two).not.toBe(one);
  await untilPublished(sites, 'nightly', first);
  await sites.client.workflow.getHandle(`release/${one}`).result();
  const held = await locks();
  expect(held.map(({ snapshot, lockType }) => [snapshot, lockType.slice(-36)])).toEqual([[first, two]]);
  expect(await points()).toEqual([first]);

  // The old one's points are the new one's base, and a purge of the new one leaves nothing of its own behind.
  const second = await host.next(() => ['write -P 2 1M 1M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  const { lastTask } = await untilPublished(sites, 'nightly', second);
  expect(lastTask?.disks.map(({ method }) => method)).toEqual(['incremental']);
  await sites.json('b', 'schedule', 'delete', 'nightly');
  await untilGone();
  expect(await points()).toEqual([first, second]);
  expect(await locks()).toEqual([]);

  // A purge that comes after the delete is one all the same.
  const purged = await sites.json<{ state: string }>('b', 'schedule', 'delete', 'nightly', '--purge');
  expect(['deleted', 'deleting']).toContain(purged.state);
  await until('the points gone', points, found => !found.includes(second));
  await until(
    'their files gone',
    () => filesUnder(sites.replicaRoot),
    async => async.length <= 2,
  );
  expect(await invariantsOf(sites)).toEqual([]);
}, 400_000);
