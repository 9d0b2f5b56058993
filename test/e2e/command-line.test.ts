/** The command line as an operator has it, against two sites that run. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { withStopped } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type HostImages,
  type ListedLock,
  type ListedPoint,
  untilPublished,
} from '../support/e2e-host.ts';
import { invariantsOf } from '../support/e2e-look.ts';
import { fileSha256, qemuCheck, qemuIdentical, qemuIo } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const SIZES = { vda: '64M', vdb: '32M' };

let sites: TwoSites;
let host: HostImages;
let snapshots: string[];

beforeAll(async () => {
  sites = await startTwoSites();
  host = await createHostImages(sites, 'web1', SIZES);
  snapshots = [await host.next(() => ['write -P 1 0 4M'])];
  await createSchedule(sites, 'nightly', 'web1');
  await untilPublished(sites, 'nightly', snapshots[0] ?? '');
  snapshots.push(await host.next(() => ['write -P 2 1M 1M', 'write -z 2M 1M']));
  await sites.json('b', 'schedule', 'run', 'nightly');
  await untilPublished(sites, 'nightly', snapshots[1] ?? '');
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const CREATE = ['schedule', 'create', 'x', '--source', 'a', '--host', 'x'];

const BAD_USAGE: readonly (readonly ['a' | 'b', readonly string[], string])[] = [
  ['b', ['schedule', 'create', '../x', '--source', 'a', '--host', 'x', '--every', '1h'], "'../x'"],
  ['b', ['schedule', 'create', '', '--source', 'a', '--host', 'x', '--every', '1h'], "''"],
  ['b', ['schedule', 'create', 'x', '--source', 'a', '--host', 'a/b', '--every', '1h'], "'a/b'"],
  ['b', ['schedule', 'create', 'x', '--source', 'A b', '--host', 'x', '--every', '1h'], "'A b'"],
  ['b', [...CREATE, '--every', '15'], 'no unit'],
  ['b', [...CREATE, '--every', '0s'], 'no time at all'],
  ['b', [...CREATE, '--every', '1h', '--bandwidth', '100Mbit/s'], 'counts bits'],
  ['b', [...CREATE, '--every', '1h', '--bandwith', '1MiB/s'], '--bandwith'],
  ['b', ['schedule', 'pause', '.hidden'], "'.hidden'"],
  ['a', ['source', 'import', 'hést', '--disk', 'vda=x'], "'hést'"],
  ['a', ['source', 'import', 'web1', '--disk', '../vda=x'], "'../vda'"],
  ['a', ['source', 'forget', 'x; drop table hosts'], 'UUID'],
  ['b', ['replica', 'recover', 'web1', '--to', 'd', '--format', 'vmdk'], 'qcow2, raw'],
];

test('bad usage ends with 2 and one line that names the fault, and changes nothing', async () => {
  // Two at a time: each is a process of its own.
  for (let at = 0; at < BAD_USAGE.length; at += 2) {
    await Promise.all(
      BAD_USAGE.slice(at, at + 2).map(async ([site, args, said]) => {
        const { exitCode, stdout, stderr } = await sites.cli(site, ...args);
        expect({ args, exitCode, stdout }).toEqual({ args, exitCode: 2, stdout: '' });
        expect(stderr).toContain(said);
        expect(stderr.trimEnd().split('\n')).toHaveLength(1);
      }),
    );
  }
  const schedules = await sites.json<{ name: string }[]>('b', 'schedule', 'list');
  expect(schedules.map(({ name }) => name)).toEqual(['nightly']);
}, 300_000);

test('a locked snapshot is not forgotten: the refusal names who holds it', async () => {
  const [first = '', second = ''] = snapshots;
  const locks = await sites.json<ListedLock[]>('a', 'source', 'locks');
  expect(locks.map(({ snapshot }) => snapshot).sort()).toEqual([first, second].sort());
  for (const snapshot of snapshots) {
    const { exitCode, stdout, stderr } = await sites.cli('a', 'source', 'forget', snapshot);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(stderr).toContain(`is locked by ${locks[0]?.lockType}`);
  }
  expect(await sites.json('a', 'source', 'list', 'web1')).toHaveLength(2);
}, 300_000);

test('the same import again changes nothing', async () => {
  const before = await sites.json('a', 'source', 'list');
  const disks = Object.entries(host.tops).flatMap(([disk, path]) => ['--disk', `${disk}=${path}`]);
  const again = await sites.json<{ snapshot: string; created: boolean }>(
    'a',
    'source',
    'import',
    'web1',
    ...disks,
  );
  expect(again).toMatchObject({ snapshot: snapshots[1], created: false });
  expect(await sites.json('a', 'source', 'list')).toEqual(before);
}, 300_000);

test('a schedule that exists is created again only with equal settings', async () => {
  const again = ['schedule', 'create', 'nightly', '--source', 'a', '--host', 'web1', '--every'];
  expect(await sites.json('b', ...again, '1h')).toMatchObject({ created: false });
  const { exitCode, stderr } = await sites.cli('b', ...again, '2h');
  expect(exitCode).toBe(1);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
}, 300_000);

interface Recovered {
  readonly disks: readonly { disk: string; path: string; backing: string | null }[];
}

const recover = (to: string, ...options: string[]): Promise<Recovered> =>
  sites.json<Recovered>('b', 'replica', 'recover', 'web1', '--to', join(sites.dataDir, to), ...options);

test('a host is recovered while A and Temporal are away, as overlays and as full copies', async () => {
  const points = await sites.json<ListedPoint[]>('b', 'replica', 'list', 'web1');
  const replicas = points.flatMap(({ disks }) => disks.map(({ path }) => path));
  const digests = await Promise.all(replicas.map(fileSha256));
  const newest = points.at(-1)?.disks ?? [];
  expect(newest).toHaveLength(2);

  const [overlays, copies, raws, older] = await withStopped(sites, ['worker-a', 'temporal'], async () => [
    await recover('overlays'),
    await recover('copies', '--format', 'qcow2'),
    await recover('raws', '--format', 'raw'),
    await recover('older', '--point', snapshots[0] ?? '', '--format', 'qcow2'),
  ]);

  for (const { disk, path } of newest) {
    const source = host.tops[disk] ?? '';
    const pathIn = (recovered: Recovered | undefined): string =>
      recovered?.disks.find(found => found.disk === disk)?.path ?? '';
    expect(await qemuIdentical(source, pathIn(overlays))).toBe(true);
    expect(await qemuIdentical(source, pathIn(copies))).toBe(true);
    expect(await qemuIdentical(source, pathIn(raws), ['qcow2', 'raw'])).toBe(true);
    expect(await qemuIdentical(join(sites.imageDir, `web1-${disk}-1.qcow2`), pathIn(older))).toBe(true);

    // A guest that boots from the overlay writes into it alone.
    await qemuIo(pathIn(overlays), ['write -P 9 0 2M', 'read -P 9 0 2M', 'discard 4M 1M', 'flush']);
    expect(await qemuCheck(pathIn(overlays))).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
    expect(await qemuIdentical(pathIn(overlays), path)).toBe(false);
    expect(await qemuIdentical(source, path)).toBe(true);
  }
  expect(await Promise.all(replicas.map(fileSha256))).toEqual(digests);

  // What an operator may be booting from is never written over.
  const again = await sites.cli('b', 'replica', 'recover', 'web1', '--to', join(sites.dataDir, 'overlays'));
  expect(again.exitCode).toBe(1);
  expect(again.stderr.trimEnd().split('\n')).toHaveLength(1);
  expect((await readdir(join(sites.dataDir, 'overlays'))).sort()).toEqual(['vda.qcow2', 'vdb.qcow2']);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);
