/** One source with two replica sites, one of which is the source of the other as well (a cascade). */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { moreBytes } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type HostImages,
  type ListedLock,
  type ListedPoint,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { invariantsOf, rowsOf } from '../support/e2e-look.ts';
import { type Sites, startSites } from '../support/sites.ts';
import { pairOf, type TwoSites } from '../support/two-sites.ts';

let sites: Sites;
/** The pairs, each as a source `a` and its replica `b`. */
let aToB: TwoSites;
let aToC: TwoSites;
let bToC: TwoSites;

beforeAll(async () => {
  sites = await startSites([
    { name: 'a', replicaRoot: null, sourceOf: { b: {}, c: {} } },
    { name: 'b', sourceOf: { c: {} } },
    { name: 'c' },
  ]);
  aToB = pairOf(sites, 'a', 'b');
  aToC = pairOf(sites, 'a', 'c');
  bToC = pairOf(sites, 'b', 'c');
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const locksAt = (pair: TwoSites) => pair.json<ListedLock[]>('a', 'source', 'locks');
const pointsAt = async (pair: TwoSites, host: string): Promise<string[]> =>
  (await pair.json<ListedPoint[]>('b', 'replica', 'list', host))
    .toSorted((left, right) => left.sequence - right.sequence)
    .map(({ point }) => point);

/** What a source keeps for one schedule. */
async function keptFor(pair: TwoSites, uuid: string): Promise<unknown> {
  const locks = (await locksAt(pair)).filter(({ lockType }) => lockType.endsWith(uuid));
  const fence = await rowsOf(
    pair,
    'a',
    `select generation, plan, replica_site, tombstoned_at from schedule_fences where schedule_uuid = '${uuid}'`,
  );
  const subscriptions = await rowsOf(
    pair,
    'a',
    `select host, replica_site, schedule_name from snapshot_subscriptions where schedule_uuid = '${uuid}'`,
  );
  return { locks, fence, subscriptions };
}

const untilGone = (pair: TwoSites, name: string) =>
  until(
    `${name} deleted`,
    () => pair.cli('b', 'schedule', 'show', name),
    ({ exitCode }) => exitCode === 1,
  );

const replaces = (byte: number) => () => [`write -P ${byte} 1M 2M`];

test('two replica sites of one source with a schedule of the same name never touch what is the other one’s', async () => {
  const host = await createHostImages(aToB, 'web1', { vda: '64M' });
  const first = await host.next(() => ['write -P 1 0 8M']);
  for (const pair of [aToB, aToC]) await createSchedule(pair, 'nightly', 'web1');
  for (const pair of [aToB, aToC]) await untilPublished(pair, 'nightly', first);
  const atB = (await showSchedule(aToB, 'nightly')).uuid;
  const atC = (await showSchedule(aToC, 'nightly')).uuid;
  expect(atB).not.toBe(atC);
  expect(await locksAt(aToB)).toHaveLength(2);

  // C stands still while B goes ahead: A keeps the layer that C needs.
  await aToC.json('b', 'schedule', 'pause', 'nightly');
  const ofC = await keptFor(aToC, atC);
  const second = await host.next(replaces(2));
  await aToB.json('b', 'schedule', 'run', 'nightly');
  await untilPublished(aToB, 'nightly', second);
  const third = await host.next(replaces(3));
  await aToB.json('b', 'schedule', 'run', 'nightly');
  await untilPublished(aToB, 'nightly', third);
  expect(await keptFor(aToC, atC)).toEqual(ofC);
  const refused = await aToB.cli('a', 'source', 'forget', first);
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain(atC);

  // B's goes with all that it published: C's is as it was, and goes on by an increment.
  await aToB.json('b', 'schedule', 'delete', 'nightly', '--purge');
  await untilGone(aToB, 'nightly');
  expect(await pointsAt(aToB, 'web1')).toEqual([]);
  expect(await keptFor(aToC, atC)).toEqual(ofC);
  expect(await pointsAt(aToC, 'web1')).toEqual([first]);
  await aToC.json('b', 'schedule', 'resume', 'nightly');
  await aToC.json('b', 'schedule', 'run', 'nightly');
  const { lastTask } = await untilPublished(aToC, 'nightly', third);
  expect(lastTask?.disks.map(({ method }) => method)).toEqual(['incremental']);
  expect((await locksAt(aToC)).every(({ lockType }) => lockType.endsWith(atC))).toBe(true);
  for (const pair of [aToB, aToC]) expect(await invariantsOf(pair)).toEqual([]);
}, 400_000);

test('a replica is the source of a third site: its published points, under its locks, with the same identity', async () => {
  const host = await createHostImages(aToB, 'db1', { vda: '64M' });
  const first = await host.next(() => ['write -P 1 0 24M']);
  await createSchedule(bToC, 'onward', 'db1');
  // So slow that B does not publish while C is asked about it.
  await createSchedule(aToB, 'nearby', 'db1', '--bandwidth', '256KiB/s');
  // What B has begun and not published is nothing to C.
  await moreBytes(aToB, 1024 * 1024);
  await bToC.json('b', 'schedule', 'run', 'onward');
  await until(
    'an answer of B while it receives',
    () => showSchedule(bToC, 'onward'),
    ({ lastTask }) => lastTask?.outcome === 'waiting' || lastTask?.outcome === 'upToDate',
  );
  expect(await pointsAt(bToC, 'db1')).toEqual([]);
  await aToB.json('b', 'schedule', 'update', 'nearby', '--no-bandwidth');
  await untilPublished(aToB, 'nearby', first);
  await bToC.json('b', 'schedule', 'run', 'onward');
  await untilPublished(bToC, 'onward', first);
  const second = await onward(host, 2);
  expect(await pointsAt(bToC, 'db1')).toEqual([first, second]);
  expect(await originsAt(bToC, 'db1')).toEqual(['a', 'a']);
  for (const pair of [aToB, bToC]) expect(await invariantsOf(pair)).toEqual([]);

  // B keeps what C's next increment stands on, whatever is asked of its own schedule.
  const { uuid } = await showSchedule(bToC, 'onward');
  const locks = await locksAt(bToC);
  expect(locks.map(({ snapshot }) => snapshot)).toContain(second);
  expect(locks.every(({ lockType }) => lockType.endsWith(uuid))).toBe(true);
  await aToB.json('b', 'schedule', 'delete', 'nearby', '--purge');
  const refusal = await until(
    'the purge that is refused',
    () =>
      aToB.json<{ retry: { code: string | null; reason: string } | null }>('b', 'schedule', 'show', 'nearby'),
    ({ retry }) => retry?.code === 'SnapshotLocked',
  );
  expect(refusal.retry?.reason).toContain(uuid);
  expect(await pointsAt(aToB, 'db1')).toEqual([first, second]);

  // Once C wants nothing of B any more, the purge is done by itself; C's points stay.
  await bToC.json('b', 'schedule', 'delete', 'onward');
  await untilGone(bToC, 'onward');
  await untilGone(aToB, 'nearby');
  expect(await pointsAt(aToB, 'db1')).toEqual([]);
  expect(await pointsAt(bToC, 'db1')).toEqual([first, second]);
  for (const pair of [aToB, aToC]) expect(await invariantsOf(pair)).toEqual([]);
}, 400_000);

/** The next snapshot of A, at B and then at C, each time by an increment. */
async function onward(host: HostImages, byte: number): Promise<string> {
  const snapshot = await host.next(replaces(byte));
  for (const [pair, name] of [
    [aToB, 'nearby'],
    [bToC, 'onward'],
  ] as const) {
    await pair.json('b', 'schedule', 'run', name);
    const { lastTask } = await untilPublished(pair, name, snapshot);
    expect(lastTask?.disks.map(({ method }) => method)).toEqual(['incremental']);
  }
  return snapshot;
}

const originsAt = async (pair: TwoSites, host: string): Promise<string[]> => {
  const rows = await rowsOf<{ origin_site: string }>(
    pair,
    'b',
    `select hs.origin_site from host_snapshots hs join hosts h on h.id = hs.host_id
     where h.ident = '${host}' and hs.state = 'complete' order by hs.sequence`,
  );
  return rows.map(({ origin_site: site }) => site);
};
