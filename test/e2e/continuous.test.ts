import { afterAll, beforeAll, expect, test } from 'vitest';
import { createHostImages, type ListedPoint, until } from '../support/e2e-host.ts';
import { checkInvariants } from '../support/invariants/check-invariants.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const kill = (name: string) => process.kill(sites.supervisor.status()[name] ?? 0, 'SIGKILL');
const points = async (): Promise<string[]> =>
  (await sites.json<ListedPoint[]>('b', 'replica', 'list', 'mail1')).map(({ point }) => point);
const untilPoints = (wanted: readonly string[]) =>
  until(`points ${wanted.join(', ')}`, points, found => wanted.every(uuid => found.includes(uuid)), 180_000);

test('a continuous schedule takes every snapshot in turn, also those imported while something was down', async () => {
  // The schedule comes first: it waits for a host that is not known yet.
  const create = ['schedule', 'create', 'mail', '--source', 'a', '--host', 'mail1', '--continuous'];
  await sites.json('b', ...create);
  const host = await createHostImages(sites, 'mail1', { vda: '16M' });
  let round = 0;
  const next = () => {
    round += 1;
    return host.next(() => [`write -P ${round} ${round}M 512k`]);
  };
  const snapshots = [await next()];
  await untilPoints(snapshots);

  // Three at once: none is passed over.
  snapshots.push(await next(), await next(), await next());
  await untilPoints(snapshots);

  kill('worker-a');
  snapshots.push(await next());
  await untilPoints(snapshots);

  kill('temporal');
  snapshots.push(await next());
  await untilPoints(snapshots);

  kill('worker-b');
  snapshots.push(await next());
  await untilPoints(snapshots);

  expect(await points()).toEqual(snapshots);
  const violations = await until(
    'rest',
    () =>
      checkInvariants({
        sourceDb: sites.databaseUrl.a,
        replicaDb: sites.databaseUrl.b,
        replicaRoots: [sites.replicaRoot],
        temporal: { client: sites.client, replicaSite: 'b' },
        quiescent: true,
      }),
    found => found.length === 0,
    30_000,
  );
  expect(violations).toEqual([]);
}, 300_000);
