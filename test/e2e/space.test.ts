/** Replica site B on a file system that really fills, and what an operator sees of it. */
import { execFile } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { writeConfig } from '../../src/config/write-config.ts';
import { killService, lineIsQuiet, moreBytes, sleep } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type HostImages,
  type ListedLock,
  type ListedPoint,
  type ScheduleShow,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { durableBytes, filesUnder, invariantsOf, pendingFailures, rowsOf } from '../support/e2e-look.ts';
import { qemuCheck, qemuIdentical } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const MOUNT_MIB = 96;

let mount: string;
let sites: TwoSites;

beforeAll(async () => {
  mount = mkdtempSync(join(tmpdir(), 'offsite-small-'));
  await run('mount', ['-t', 'tmpfs', '-o', `size=${MOUNT_MIB}m`, 'tmpfs', mount]);
  sites = await startTwoSites({ replicaRoot: join(mount, 'replicas') });
}, 300_000);

afterAll(async () => {
  await sites?.close();
  await run('umount', [mount]);
  await rm(mount, { recursive: true });
});

const points = (host: string) => sites.json<ListedPoint[]>('b', 'replica', 'list', host);
const locks = () => sites.json<ListedLock[]>('a', 'source', 'locks');
const ballast = (mib: number) => writeFile(join(mount, 'ballast'), Buffer.alloc(mib * MIB));
const noBallast = () => rm(join(mount, 'ballast'), { force: true });

const retrying = (name: string, code: string): Promise<ScheduleShow> =>
  until(
    `a retry because of ${code}`,
    () => showSchedule(sites, name),
    show => show.retry?.code === code,
  );

/** Every point of the host opens in QEMU; the newest is what the host has. */
async function assertSound(host: HostImages, name: string): Promise<void> {
  const all = await points(name);
  for (const { path } of all.flatMap(({ disks }) => disks)) {
    expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
  }
  for (const { disk, path } of all.at(-1)?.disks ?? []) {
    expect(await qemuIdentical(host.tops[disk] ?? '', path)).toBe(true);
  }
}

async function configureB(changes: object): Promise<void> {
  const config = parse(await readFile(sites.configPath.b, 'utf8'));
  await writeConfig(sites.configPath.b, { ...config, replica: { ...config.replica, ...changes } });
  await sites.supervisor.restart('worker-b');
}

test('what does not fit says so with its numbers before it is sent, and comes by itself when there is room', async () => {
  const host = await createHostImages(sites, 'web1', { vda: '64M' });
  const first = await host.next(() => ['write -P 1 0 16M']);
  await createSchedule(sites, 'nightly', 'web1');
  await untilPublished(sites, 'nightly', first);
  const base = { ...host.tops };

  await ballast(MOUNT_MIB - 16 - 12);
  const second = await host.next(() => ['write -P 2 8M 24M']);
  const upBytes = await lineIsQuiet(sites);
  await sites.json('b', 'schedule', 'run', 'nightly');
  const { retry, lastTask } = await retrying('nightly', 'DiskFull');
  expect(retry?.reason).toMatch(/2\d\.\d MiB are needed, and the file system has 1\d\.\d MiB free/);
  const failures = await pendingFailures(sites, lastTask?.taskUuid ?? '');
  expect(failures).toContainEqual(
    expect.objectContaining({ code: 'DiskFull', message: expect.stringContaining('MiB are needed') }),
  );
  expect(sites.proxy.bytes.up - upBytes).toBeLessThan(MIB);

  const [old] = await points('web1');
  expect(old?.point).toBe(first);
  for (const { disk, path } of old?.disks ?? []) {
    expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
    expect(await qemuIdentical(base[disk] ?? '', path)).toBe(true);
  }
  await noBallast();
  await untilPublished(sites, 'nightly', second);
  await assertSound(host, 'web1');
  expect(await invariantsOf(sites)).toEqual([]);
  await sites.json('b', 'schedule', 'delete', 'nightly', '--purge');
  await until(
    'no files',
    () => filesUnder(join(sites.replicaRoot, 'web1')),
    files => files.length === 0,
  );
}, 300_000);

test('a disk that fills while a copy comes stops it, and what was acknowledged is not sent again', async () => {
  const dataBytes = 48 * MIB;
  const host = await createHostImages(sites, 'web2', { vda: '64M' });
  const snapshot = await host.next(() => ['write -P 3 0 48M']);
  await createSchedule(sites, 'slow', 'web2', '--bandwidth', '6MiB/s');
  await moreBytes(sites, 16 * MIB);
  // More than is left: the file takes what there is.
  await ballast(MOUNT_MIB).catch(() => undefined);
  const { retry } = await retrying('slow', 'DiskFull');
  expect(retry?.reason).toMatch(/MiB are needed, and the file system has /);
  const upBytes = await lineIsQuiet(sites);
  const durable = await durableBytes(sites);
  expect(durable).toBeGreaterThan(0);
  expect(durable).toBeLessThan(dataBytes);
  await sleep(5_000);
  expect(sites.proxy.bytes.up - upBytes, 'attempts that find no room send next to nothing').toBeLessThan(MIB);
  const before = await lineIsQuiet(sites);
  await noBallast();
  await untilPublished(sites, 'slow', snapshot);
  expect((await lineIsQuiet(sites)) - before).toBeLessThanOrEqual((dataBytes - durable) * 1.02 + MIB);
  await assertSound(host, 'web2');
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);

test('a quota holds a schedule up with its numbers until it is raised', async () => {
  const host = await createHostImages(sites, 'web3', { vda: '32M' });
  const snapshot = await host.next(() => ['write -P 4 0 12M']);
  await configureB({ quota: '56MiB', hostQuotas: { web3: '20MiB' } });
  await createSchedule(sites, 'limited', 'web3');
  const { retry } = await retrying('limited', 'QuotaExceeded');
  expect(retry?.reason).toMatch(
    /1\d\.\d MiB are needed, and this node has a quota of 56\.0 MiB: 4\d\.\d MiB are in use/,
  );
  const space = await sites.json<{
    quotaBytes: number;
    hosts: { host: string; quotaBytes: number | null }[];
  }>('b', 'replica', 'space');
  expect(space.quotaBytes).toBe(56 * MIB);
  expect(space.hosts.map(({ host: name }) => name)).toEqual(['web2', 'web3']);
  await configureB({ quota: '80MiB' });
  await untilPublished(sites, 'limited', snapshot);
  await assertSound(host, 'web3');
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);

test('locks stay when Temporal does not know a task, and no partial file survives a delete in which the worker dies', async () => {
  const host = await createHostImages(sites, 'web4', { vda: '32M' });
  const snapshot = await host.next(() => ['write -P 5 0 16M']);
  // So slow that it never ends by itself: each step below begins while bytes come.
  await createSchedule(sites, 'doomed', 'web4', '--bandwidth', '64KiB/s');
  await moreBytes(sites, MIB / 4);
  const ofSnapshot = async () => (await locks()).filter(lock => lock.snapshot === snapshot);
  const held = await ofSnapshot();
  expect(held).toHaveLength(1);
  const { lastTask, uuid } = await showSchedule(sites, 'doomed');
  await sites.client.workflow.getHandle(`task/${lastTask?.taskUuid}`).terminate('lost by the test');
  await sites.client.workflow.getHandle('schedule/b/doomed').terminate('lost by the test');
  await sleep(3_000);
  expect(await ofSnapshot()).toEqual(held);
  // The replica site starts it anew from its row; the next task locks the same snapshot under its own name.
  await until(
    'a newer task',
    () => ofSnapshot(),
    now => now.length === 1 && now[0]?.taskUuid !== held[0]?.taskUuid,
  );
  await moreBytes(sites, MIB / 4);
  const partial = (await filesUnder(sites.replicaRoot)).find(name => name.endsWith('.partial')) ?? '';
  expect(partial).toMatch(/^web4\/vda\//);

  // A stray beside it, as of a catalog that was restored from an older copy.
  const stray = join(sites.replicaRoot, dirname(partial), `${snapshot}.00000000deadbeef.qcow2.partial`);
  await writeFile(stray, 'half of something');
  await sleep(1_500);
  const dry = await sites.json<{ removed: { path: string }[] }>(
    'b',
    'replica',
    'sweep',
    '--dry-run',
    '--older-than',
    '1s',
  );
  expect(dry.removed.map(({ path }) => path)).toEqual([stray]);
  await sites.json('b', 'replica', 'sweep', '--older-than', '1s');
  expect(await filesUnder(sites.replicaRoot)).toContain(partial);
  expect(await filesUnder(sites.replicaRoot)).not.toContain(stray.slice(sites.replicaRoot.length + 1));

  const deleting = sites.cli('b', 'schedule', 'delete', 'doomed');
  await sleep(200);
  await killService(sites, 'worker-b');
  await deleting;
  await until(
    'the schedule deleted',
    () =>
      rowsOf(
        sites,
        'b',
        `select 1 from remote_backup_schedules where uuid = '${uuid}' and deleted_at is not null`,
      ),
    rows => rows.length === 1,
  );
  await until(
    'no files',
    () => filesUnder(join(sites.replicaRoot, 'web4')),
    files => files.length === 0,
  );
  expect(await ofSnapshot()).toEqual([]);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);
