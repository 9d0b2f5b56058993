import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { VOLUME_BLOCK_BYTES } from '../../src/dev/fat/sparse-volume.ts';
import { buildFatVolume, type FatFile } from '../../src/dev/fat/volume.ts';

const MIB = 1024 * 1024;
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'offsite-fat-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const contentOf = (path: string, sizeBytes: number): Buffer => {
  const seed = createHash('sha256').update(path).digest();
  return Buffer.alloc(sizeBytes, seed);
};

/** Sub-directories, long and odd names, sizes around a cluster, a directory of many clusters, a big file. */
function manyFiles(): FatFile[] {
  const sizes = [0, 1, 511, 512, 1023, 1024, 1025, 65_536, 3_000_001];
  const paths = [
    'README',
    'package-lock.json',
    'docs/a name of exactly thirteen/0123456789012',
    'docs/deep/deeper/deepest/ünï — côde ☃.tar.gz',
    `docs/${'long '.repeat(50)}name`,
    '.hidden/.also hidden',
    'src/index.test.ts',
    'src/INDEX.TS',
    'src/a+b=c;[d],e.txt',
    ...Array.from({ length: 400 }, (_, index) => `many/file ${index} of a large directory.md`),
  ];
  return paths.map((path, index) => {
    const sizeBytes = sizes[index % (index < 9 ? sizes.length : sizes.length - 2)] ?? 0;
    return {
      path,
      bytes: contentOf(path, sizeBytes),
      modifiedAt: new Date(1_700_000_000_000 + index * 2000),
    };
  });
}

test.each([48, 128, 320])('fsck finds no fault and mtools read all files back (%i MiB)', async sizeMib => {
  const files = manyFiles();
  const at = new Date('2026-01-02T03:04:06Z');
  const volume = buildFatVolume({ files, sizeBytes: sizeMib * MIB, label: 'OFFSITE-1', at });
  const image = join(directory, `${sizeMib}.img`);
  await writeRaw(image, volume);

  const report = execFileSync('fsck.vfat', ['-n', image], { encoding: 'utf8' });
  expect(report.trim().split('\n')).toHaveLength(2);
  expect(execFileSync('mdir', ['-i', image, '::'], { encoding: 'utf8' })).toContain('OFFSITE-1');

  const target = await mkdtemp(join(directory, 'out-'));
  execFileSync('mcopy', ['-s', '-m', '-i', image, '::', target], {
    env: { ...process.env, TZ: 'UTC', LC_ALL: 'C.UTF-8' },
  });
  expect(await listFiles(target)).toEqual(files.map(file => file.path).toSorted());
  for (const file of files) {
    const path = join(target, file.path);
    expect(Buffer.compare(await readFile(path), file.bytes), file.path).toBe(0);
    expect((await stat(path)).mtimeMs, file.path).toBe(file.modifiedAt?.getTime());
  }
});

async function writeRaw(path: string, volume: ReturnType<typeof buildFatVolume>): Promise<void> {
  await using file = await open(path, 'w');
  await file.truncate(volume.sizeBytes);
  for (let index = 0; index < volume.blockCount; index += 1) {
    const block = volume.block(index);
    if (block !== null) await file.write(block, 0, block.length, index * VOLUME_BLOCK_BYTES);
  }
}

async function listFiles(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(root.length + 1))
    .toSorted();
}
