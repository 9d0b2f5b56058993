import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  createHostImages,
  createSchedule,
  type ScheduleShow,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { filesUnder, invariantsOf, pendingFailures } from '../support/e2e-look.ts';
import { qemuImg } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const run = promisify(execFile);
const SIZES = { vda: '64M' };

let sites: TwoSites;
let replicaRoot: string;

beforeAll(async () => {
  replicaRoot = mkdtempSync(join(tmpdir(), 'offsite-small-disk-'));
  await run('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', replicaRoot]);
  sites = await startTwoSites({ replicaRoot });
}, 300_000);

afterAll(async () => {
  try {
    await sites?.close();
  } finally {
    await run('umount', [replicaRoot]);
    rmSync(replicaRoot, { recursive: true });
  }
});

/** Waits until the schedule waits with this outcome and reason; nothing has failed. */
const untilWaiting = (name: string, reason: string): Promise<ScheduleShow> =>
  until(
    `${name} waiting because ${reason}`,
    () => showSchedule(sites, name),
    ({ lastTask }) => lastTask?.outcome === 'waiting' && (lastTask.reason ?? '').includes(reason),
  );

/** Waits until an activity retries for this reason, as the command line and as Temporal tell it. */
async function untilRetrying(
  name: string,
  expected: { activity: string; code: string; reason: string },
): Promise<void> {
  const { activity, code, reason } = expected;
  // The next attempt to send is a step of its own, which has not failed yet: both are looked at until they agree.
  const { shown, failures } = await until(
    `${name} retrying because ${reason}`,
    async () => {
      const found = await showSchedule(sites, name);
      return { shown: found, failures: await pendingFailures(sites, found.lastTask?.taskUuid ?? '') };
    },
    found => found.shown.retry?.code === code && found.failures.length > 0,
  );
  expect(shown.retry).toMatchObject({ activity, reason: expect.stringContaining(reason) });
  expect(shown.retry?.attempt).toBeGreaterThan(1);
  for (const failure of failures) {
    expect(failure).toMatchObject({ activity, code, message: expect.stringContaining(reason) });
  }
}

/** Sets or clears the corrupt bit: bit 1 of the incompatible features, big-endian u64 at 72. */
async function setCorrupt(path: string, isCorrupt: boolean): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(Buffer.from([isCorrupt ? 2 : 0]), 0, 1, 79);
  } finally {
    await file.close();
  }
}

const importDisk = (host: string, path: string) =>
  sites.cli('a', 'source', 'import', host, '--disk', `vda=${path}`, '--json');

test('a host that A does not know is waited for, and runs once it was imported', async () => {
  await createSchedule(sites, 'unknown', 'ghost');
  await untilWaiting('unknown', 'the source does not know the host ghost');
  const host = await createHostImages(sites, 'ghost', SIZES);
  const snapshot = await host.next(() => ['write -P 1 0 1M']);
  await untilPublished(sites, 'unknown', snapshot);
}, 300_000);

test('a host without a snapshot is waited for, and runs once it has one', async () => {
  const host = await createHostImages(sites, 'empty', SIZES);
  const forgotten = await host.next(() => ['write -P 1 0 1M']);
  await sites.json('a', 'source', 'forget', forgotten);
  await createSchedule(sites, 'empty', 'empty');
  await untilWaiting('empty', 'the host empty has no complete snapshot yet');
  const snapshot = await host.next(() => ['write -P 2 0 1M']);
  await untilPublished(sites, 'empty', snapshot);
}, 300_000);

test('an image that vanished is named until it is back', async () => {
  const host = await createHostImages(sites, 'vanished', SIZES);
  const snapshot = await host.next(() => ['write -P 1 0 1M']);
  const path = host.tops.vda ?? '';
  await rename(path, `${path}.away`);
  await createSchedule(sites, 'vanished', 'vanished');
  await untilRetrying('vanished', { activity: 'querySyncInfo', code: 'ImageVanished', reason: path });
  await rename(`${path}.away`, path);
  await untilPublished(sites, 'vanished', snapshot);
}, 300_000);

test('an import refuses what cannot be read, in one line, and registers nothing', async () => {
  const encrypted = join(sites.imageDir, 'encrypted.qcow2');
  const secret = ['--object', 'secret,id=key,data=geheim'];
  const encryption = 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10';
  await qemuImg('create', '-q', ...secret, '-f', 'qcow2', '-o', encryption, encrypted, '8M');
  const corrupt = join(sites.imageDir, 'corrupt.qcow2');
  await qemuImg('create', '-q', '-f', 'qcow2', corrupt, '8M');
  await setCorrupt(corrupt, true);
  for (const [path, code, word] of [
    [encrypted, 'ImageUnsupported', 'encrypt'],
    [corrupt, 'ImageCorrupt', 'corrupt'],
  ] as const) {
    const { exitCode, stderr } = await importDisk('refused', path);
    expect(exitCode).toBe(1);
    const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
    expect(error.code).toBe(code);
    expect(error.message).toContain(word);
    const plain = await sites.cli('a', 'source', 'import', 'refused', '--disk', `vda=${path}`);
    expect(plain).toMatchObject({ exitCode: 1, stdout: '' });
    expect(plain.stderr.trimEnd().split('\n')).toHaveLength(1);
  }
  expect(await sites.json('a', 'source', 'list', 'refused')).toEqual([]);
}, 300_000);

test('an image that became unreadable after its import is named until it is mended', async () => {
  const host = await createHostImages(sites, 'corrupted', SIZES);
  const snapshot = await host.next(() => ['write -P 1 0 1M']);
  const path = host.tops.vda ?? '';
  await setCorrupt(path, true);
  await createSchedule(sites, 'corrupted', 'corrupted');
  await untilRetrying('corrupted', { activity: 'querySyncInfo', code: 'ImageCorrupt', reason: path });
  await setCorrupt(path, false);
  await untilPublished(sites, 'corrupted', snapshot);
}, 300_000);

test('a full disk at B is named until there is room', async () => {
  const host = await createHostImages(sites, 'large', SIZES);
  const snapshot = await host.next(() => ['write -P 1 0 32M']);
  const filesBefore = await filesUnder(replicaRoot);
  await createSchedule(sites, 'large', 'large');
  await untilRetrying('large', { activity: 'sendDisk', code: 'DiskFull', reason: replicaRoot });
  expect(await filesUnder(replicaRoot), 'nothing is begun that does not fit').toEqual(filesBefore);
  await run('mount', ['-o', 'remount,size=64m', replicaRoot]);
  await untilPublished(sites, 'large', snapshot);
}, 300_000);

test('all of it left both sites sound', async () => {
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);
