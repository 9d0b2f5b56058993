import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDemoSnapshot } from '../../src/dev/demo-host.ts';
import { verifyReplica } from '../../src/dev/verify.ts';
import { qemuCheck, qemuImg, qemuIo, qemuSha256 } from '../support/qemu.ts';

const MIB = 1024 * 1024;
const repositoryRoot = resolve(import.meta.dirname, '../..');
const disks = ['vda', 'vdb'] as const;
let directory: string;

const snapshot = (number: number) => createDemoSnapshot({ directory, number, repositoryRoot });

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'offsite-demo-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

test('two snapshots are sound chains that hold sound file systems with the files', async () => {
  await snapshot(1);
  const { disks: images } = await snapshot(2);
  expect((await readdir(directory)).toSorted()).toEqual(
    disks.flatMap(disk => [`${disk}-0001.qcow2`, `${disk}-0002.qcow2`]),
  );
  for (const { disk, path } of images) {
    const info = JSON.parse(await qemuImg('info', '--output=json', path));
    expect(info['backing-filename']).toBe(`${disk}-0001.qcow2`);
    expect(info['backing-filename-format']).toBe('qcow2');
    expect(info['virtual-size']).toBe((disk === 'vda' ? 128 : 256) * MIB);
    for (const layer of [path, join(directory, info['backing-filename'])]) {
      expect(await qemuCheck(layer)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
      const raw = join(directory, 'content.raw');
      await qemuImg('convert', '-O', 'raw', layer, raw);
      expect(execFileSync('fsck.vfat', ['-n', raw], { encoding: 'utf8' }).trim().split('\n')).toHaveLength(2);
      const listing = execFileSync('mdir', ['-/', '-b', '-i', raw, '::'], { encoding: 'utf8' });
      expect(listing).toContain(disk === 'vda' ? '::/src/dev/fat/volume.ts' : '::/archive/set 23.jsonl');
      await rm(raw);
    }
  }
  const sizes = await Promise.all(images.map(async image => (await stat(image.path)).size));
  // Small increments, but not so small that nobody sees them travel.
  expect(sizes[0]).toBeLessThan(4 * MIB);
  expect(sizes[1]).toBeGreaterThan(4 * MIB);
  expect(sizes[1]).toBeLessThan(8 * MIB);
});

test('a snapshot that exists is left as it is, one of which layers are missing is completed', async () => {
  const before = await Promise.all((await snapshot(2)).disks.map(({ path }) => stat(path)));
  await rm(join(directory, 'vdb-0001.qcow2'));
  await rm(join(directory, 'vdb-0002.qcow2'));
  const after = await Promise.all((await snapshot(2)).disks.map(({ path }) => stat(path)));
  expect(after[0]?.ino).toBe(before[0]?.ino);
  expect(after[1]?.size).toBe(before[1]?.size);
});

test('verification agrees with QEMU on what is equal and what is not', async () => {
  const source = join(directory, 'vda-0002.qcow2');
  const replica = join(directory, 'copy.qcow2');
  const verify = () =>
    verifyReplica({
      sourceTop: source,
      replicaTop: replica,
      imageRootsSource: [directory],
      imageRootsReplica: [directory],
    });
  await qemuImg('convert', '-O', 'qcow2', source, replica);
  const sha256 = await qemuSha256(source);
  expect(await verify()).toEqual({
    equal: true,
    sourceSha256: sha256,
    replicaSha256: sha256,
    qemuImg: 'identical',
    qemuImgCheck: 'clean',
  });
  await qemuIo(replica, ['write -P 7 5M 512']);
  expect(await verify()).toMatchObject({ equal: false, sourceSha256: sha256, qemuImg: 'different' });
});

test('verification does without qemu-img, and says so', async () => {
  const path = process.env.PATH;
  process.env.PATH = '/nonexistent';
  try {
    const top = join(directory, 'vda-0001.qcow2');
    const verdict = await verifyReplica({
      sourceTop: top,
      replicaTop: top,
      imageRootsSource: [directory],
      imageRootsReplica: [directory],
    });
    expect(verdict).toMatchObject({ equal: true, qemuImg: 'not installed', qemuImgCheck: 'not installed' });
  } finally {
    process.env.PATH = path;
  }
});
