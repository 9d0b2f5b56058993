import { open, stat } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { withStopped } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type ListedPoint,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { rowsOf } from '../support/e2e-look.ts';
import { qemuIdentical } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

interface Point extends ListedPoint {
  readonly damaged: boolean;
  readonly disks: readonly (ListedPoint['disks'][number] & {
    readonly damage: { readonly path: string; readonly kind: string } | null;
    readonly verifiedAt: string | null;
  })[];
}
interface Verified {
  readonly damaged: readonly {
    readonly path: string;
    readonly points: readonly { readonly point: string }[];
  }[];
  readonly repairs: readonly { readonly action: string; readonly schedule: string | null }[];
}

const points = () => sites.json<Point[]>('b', 'replica', 'list', 'web1');
const verify = async (...options: string[]): Promise<Verified & { readonly exitCode: number }> => {
  const { exitCode, stdout, stderr } = await sites.cli(
    'b',
    'replica',
    'verify',
    'web1',
    '--json',
    ...options,
  );
  if (stdout === '') throw new Error(stderr);
  return { exitCode, ...(JSON.parse(stdout) as Verified) };
};
const pathOf = (all: readonly Point[], index: number, disk: string): string =>
  all[index]?.disks.find(found => found.disk === disk)?.path ?? '';

/** As a storage that loses a bit: no mark of the file speaks of it, so the catalog's are brought in line. */
async function rot(path: string): Promise<void> {
  const { size } = await stat(path);
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(512, 0xee), 0, 512, size - 4096);
  await file.close();
  const { ctimeNs, mtimeNs } = await stat(path, { bigint: true });
  await rowsOf(
    sites,
    'b',
    `update snapshot_storages set sealed_file = sealed_file || '{"mtimeNs":"${mtimeNs}","ctimeNs":"${ctimeNs}"}'
     where path = '${path}'`,
  );
}

test('a silent damage is found at rest without A and Temporal, marked, and repaired by the next task', async () => {
  const host = await createHostImages(sites, 'web1', { vda: '64M', vdb: '32M' });
  const first = await host.next(() => ['write -P 1 0 8M']);
  await createSchedule(sites, 'nightly', 'web1');
  await untilPublished(sites, 'nightly', first);
  const second = await host.next(() => ['write -P 2 1M 1M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await untilPublished(sites, 'nightly', second);
  expect(await verify()).toMatchObject({ exitCode: 0, damaged: [] });
  expect(
    (await points()).every(({ damaged, disks }) => !damaged && disks.every(disk => disk.verifiedAt)),
  ).toBe(true);

  const before = await points();
  const base = pathOf(before, 0, 'vda');
  await rot(base);
  const found = await withStopped(sites, ['worker-a', 'temporal'], () => verify('--rate', '64MiB/s'));
  expect(found).toMatchObject({
    exitCode: 1,
    damaged: [{ path: base, points: [{ point: first }, { point: second }] }],
    repairs: [],
  });
  expect((await points()).map(({ damaged }) => damaged)).toEqual([true, true]);
  expect(await showSchedule(sites, 'nightly')).toMatchObject({ damage: { points: 2, newest: true } });
  const status = await sites.cli('b', 'status');
  expect(status.exitCode).toBe(1);
  expect(status.stdout).toContain('2 recovery points are damaged');

  // Nothing is newer at A: the newest point is sent again whole, beside the damaged files.
  expect(await verify('--repair')).toMatchObject({
    exitCode: 1,
    repairs: [{ action: 'started', schedule: 'nightly' }],
  });
  const after = await until('a whole newest point', points, all => all.at(-1)?.damaged === false);
  expect(after.map(({ damaged }) => damaged)).toEqual([true, false]);
  for (const { disk, path } of after.at(-1)?.disks ?? []) {
    expect(await qemuIdentical(host.tops[disk] ?? '', path)).toBe(true);
  }
  expect(pathOf(after, 0, 'vda')).toBe(base);
  await until(
    'the task ended',
    () => showSchedule(sites, 'nightly'),
    show => show.state === 'waiting',
  );
  expect((await sites.cli('b', 'status')).exitCode).toBe(0);

  // The increment that follows stands on what is whole; the older point stays marked.
  const third = await host.next(() => ['write -P 3 2M 1M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  const { lastTask } = await untilPublished(sites, 'nightly', third);
  expect(lastTask?.disks.map(({ method }) => method)).toEqual(['incremental', 'incremental']);
  expect((await points()).map(({ damaged }) => damaged)).toEqual([true, false, false]);
}, 900_000);
