/** Something else than our files lies in the replica folder: nothing is written, read or removed through it. */
import { execFileSync } from 'node:child_process';
import { link, lstat, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ExtentMapBuilder } from '../../../src/domain/extent-map.ts';
import { readDigestFile } from '../../../src/images/replica/digest-file.ts';
import { ReplicaFileError } from '../../../src/images/replica/errors.ts';
import { layerPaths } from '../../../src/images/replica/names.ts';
import { openPartial } from '../../../src/images/replica/partial.ts';
import { removeReplicaFiles } from '../../../src/images/replica/remove.ts';
import { sealPartial } from '../../../src/images/replica/seal.ts';
import { doubtSealedFile, sealedFileOf } from '../../../src/images/replica/sealed-file.ts';

const NAME = '0b5c9d1e-6a3f-4f1e-9d6c-2f8f6f0a7c11.0123456789abcdef.qcow2';
const SECRET = 'what belongs to somebody else';

let root: string;
let directory: string;
let victim: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'offsite-links-'));
  directory = join(root, 'replicas', 'web1', 'vda');
  victim = join(root, 'victim');
  await mkdir(directory, { recursive: true });
  await writeFile(victim, SECRET);
});
afterEach(() => rm(root, { recursive: true }));

function input() {
  const builder = new ExtentMapBuilder({ virtualSizeBytes: 1024 * 1024, clusterSizeBytes: 65536 });
  builder.add('data', 65536);
  builder.add('hole', 1024 * 1024 - 65536);
  return { directory, finalName: NAME, map: builder.build(), backing: null };
}

const untouched = async (): Promise<void> => expect(await readFile(victim, 'utf8')).toBe(SECRET);

test.each(['final', 'partial', 'map', 'progress'] as const)(
  'a symbolic link instead of the %s file',
  async which => {
    await symlink(victim, layerPaths(directory, NAME)[which]);
    await expect(openPartial(input())).rejects.toBeInstanceOf(ReplicaFileError);
    await untouched();
    await removeReplicaFiles(join(directory, NAME));
    await untouched();
    await expect(lstat(layerPaths(directory, NAME)[which])).rejects.toMatchObject({ code: 'ENOENT' });
  },
);

test.each(['partial', 'map', 'progress'] as const)(
  'a FIFO or a device instead of the %s file',
  async which => {
    const path = layerPaths(directory, NAME)[which];
    execFileSync('mkfifo', [path]);
    await expect(openPartial(input())).rejects.toBeInstanceOf(ReplicaFileError);
    await rm(path);
    await symlink('/dev/zero', path);
    await expect(openPartial(input())).rejects.toBeInstanceOf(ReplicaFileError);
  },
);

test.each(['partial', 'map', 'progress'] as const)(
  'another name of somebody’s file as the %s file',
  async which => {
    await link(victim, layerPaths(directory, NAME)[which]);
    await expect(openPartial(input())).rejects.toBeInstanceOf(ReplicaFileError);
    await untouched();
  },
);

test('a link instead of the digest file, when it is written and when it is read', async () => {
  const { digests } = layerPaths(directory, NAME);
  const replica = await openPartial(input());
  await replica.write(Buffer.alloc(65536, 7), 0);
  await symlink(victim, digests);
  await expect(replica.finish()).rejects.toBeInstanceOf(ReplicaFileError);
  await replica.close();
  await untouched();
  await expect(readDigestFile(digests)).rejects.toBeInstanceOf(ReplicaFileError);
});

test('a link that takes the place of a sealed file is a doubt, and it is not sealed again', async () => {
  const replica = await openPartial(input());
  await replica.write(Buffer.alloc(65536, 7), 0);
  const contentDigest = Buffer.from(await replica.finish()).toString('hex');
  await replica.close();
  const { path } = await sealPartial({ directory, finalName: NAME, contentDigest });
  const sealed = await sealedFileOf(path);
  expect(await doubtSealedFile(path, sealed)).toBeNull();
  await rename(path, join(root, 'moved'));
  await symlink(join(root, 'moved'), path);
  expect(await doubtSealedFile(path, sealed)).toBe('not a regular file');
  await expect(sealPartial({ directory, finalName: NAME, contentDigest })).rejects.toBeInstanceOf(
    ReplicaFileError,
  );
});

test.each([
  ['the disk’s folder', 'vda'],
  ['the host’s folder', 'web1'],
])('%s that leads elsewhere', async (_, which) => {
  const elsewhere = join(root, 'elsewhere');
  const folder = which === 'vda' ? directory : join(directory, '..');
  await rename(folder, elsewhere);
  await symlink(elsewhere, folder);
  const planted = join(which === 'vda' ? elsewhere : join(elsewhere, 'vda'), NAME);
  await writeFile(planted, SECRET);
  await expect(openPartial(input())).rejects.toThrow(/symbolic link/);
  await expect(sealPartial({ directory, finalName: NAME, contentDigest: '00'.repeat(16) })).rejects.toThrow(
    /symbolic link/,
  );
  await expect(removeReplicaFiles(join(directory, NAME))).rejects.toThrow(/symbolic link/);
  expect(await readFile(planted, 'utf8')).toBe(SECRET);
});

test('names that are no layer’s are refused before any file is looked at', async () => {
  const names = [
    '../../etc/passwd',
    'x/../y.qcow2',
    `${NAME}\0`,
    `${NAME}/..`,
    NAME.toUpperCase(),
    'ａ.qcow2',
    'a'.repeat(5000),
    'CON',
    '',
  ];
  for (const finalName of names) {
    await expect(openPartial({ ...input(), finalName }), finalName).rejects.toBeInstanceOf(ReplicaFileError);
    await expect(removeReplicaFiles(join(directory, finalName || '.'))).rejects.toBeInstanceOf(
      ReplicaFileError,
    );
  }
});
