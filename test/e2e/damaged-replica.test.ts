import { chmod, open } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  createHostImages,
  createSchedule,
  type ListedPoint,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { fileSha256, qemuCheck, qemuIdentical } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const SIZES = { vda: '64M', vdb: '32M' };

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

/** A point as it was before anybody found damage. */
const unmarked = ({ host, point, sequence, disks }: ListedPoint) => ({
  ...{ host, point, sequence },
  disks: disks.map(({ disk, path, virtualSizeBytes }) => ({ disk, path, virtualSizeBytes })),
});

const points = () => sites.json<ListedPoint[]>('b', 'replica', 'list', 'web1');

/** Flips bytes in the middle of a sealed file, as a careless hand or a broken disk does. */
async function damage(path: string): Promise<void> {
  await chmod(path, 0o644);
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(4096, 0xee), 0, 4096, 3 * 1024 * 1024);
  await file.close();
  await chmod(path, 0o444);
}

test('a damaged replica is no base: the next snapshot is compared with it and written beside it, and the operator is told', async () => {
  const host = await createHostImages(sites, 'web1', SIZES);
  const first = await host.next(() => ['write -P 1 0 8M']);
  await createSchedule(sites, 'nightly', 'web1');
  await untilPublished(sites, 'nightly', first);
  const second = await host.next(() => ['write -P 2 1M 1M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await untilPublished(sites, 'nightly', second);

  const before = await points();
  const base = before[0]?.disks.find(({ disk }) => disk === 'vda')?.path ?? '';
  await damage(base);
  const old = before.flatMap(({ disks }) => disks.map(({ path }) => path));
  const digests = await Promise.all(old.map(fileSha256));

  const third = await host.next(() => ['write -P 3 5M 1M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  const { lastTask } = await untilPublished(sites, 'nightly', third);
  expect(lastTask?.disks.map(({ disk, method }) => `${disk} ${method}`)).toEqual([
    'vda compare',
    'vdb incremental',
  ]);
  expect(lastTask?.warnings).toEqual([
    expect.stringMatching(/^unexpected compare of disk vda: the replica is in doubt/),
  ]);
  // What was written since, and the clusters that were damaged: 4 KiB within one of 64 KiB.
  const compared = lastTask?.disks.find(({ disk }) => disk === 'vda');
  expect(compared?.bytesSent).toBeGreaterThan(1024 * 1024);
  expect(compared?.bytesSent).toBeLessThanOrEqual(1024 * 1024 + 2 * 64 * 1024);
  expect(compared?.reason).toContain('written as a whole image: it is in doubt');
  expect(lastTask?.warnings[0]).toContain(base);

  const after = await points();
  expect(after.map(({ point }) => point)).toEqual([first, second, third]);
  for (const { disk, path } of after.at(-1)?.disks ?? []) {
    expect(await qemuIdentical(host.tops[disk] ?? '', path)).toBe(true);
    expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
  }
  // The old points are there as they were, each marked with what is wrong with it.
  expect(after.slice(0, 2)).toMatchObject(before.map(unmarked));
  for (const { disks } of after.slice(0, 2)) {
    expect(disks.map(({ disk, damage }) => [disk, damage?.path ?? null])).toEqual([
      ['vda', base],
      ['vdb', null],
    ]);
  }
  expect(await Promise.all(old.map(fileSha256))).toEqual(digests);

  // The new point is proven again, so the next one is an increment, and an idle run finds nothing to do.
  const fourth = await host.next(() => ['write -P 4 6M 1M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  const next = await untilPublished(sites, 'nightly', fourth);
  expect(next.lastTask?.disks.map(({ method }) => method)).toEqual(['incremental', 'incremental']);
  expect(next.lastTask?.warnings).toEqual([]);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await until(
    'an idle run',
    () => showSchedule(sites, 'nightly'),
    show => show.lastTask?.outcome === 'upToDate',
  );
}, 240_000);
