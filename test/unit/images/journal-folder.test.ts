import { lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { journalFolderBytes } from '../../../src/images/replica/journal-folder.ts';
import { removeReplicaFiles } from '../../../src/images/replica/remove.ts';
import {
  findLayerFiles,
  findStrays,
  type LayerState,
  removeLayerFiles,
} from '../../../src/images/replica/stray-files.ts';

const NAME = '0b5c9d1e-6a3f-4f1e-9d6c-2f8f6f0a7c11.01234567.cdp';

let root: string;
let directory: string;
let journal: string;
let outside: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'offsite-journal-folder-'));
  directory = join(root, 'replicas', 'web1', 'vda');
  journal = join(directory, NAME);
  outside = join(root, 'outside');
  await mkdir(directory, { recursive: true });
  await mkdir(outside);
  await writeFile(join(outside, '00000000.cdp'), 'theirs');
});
afterEach(() => rm(root, { recursive: true }));

async function makeJournal(): Promise<void> {
  await mkdir(journal);
  await writeFile(join(journal, '00000000.cdp'), Buffer.alloc(8192, 1));
  await writeFile(join(journal, '00000001.cdp'), Buffer.alloc(4096, 1));
}

test('a journal is counted and removed with all its segments, and a second removal finds nothing', async () => {
  await makeJournal();
  expect(await journalFolderBytes(journal)).toBe(12_288);
  expect(await removeReplicaFiles(journal)).toBe(1);
  expect(await readdir(directory)).toEqual([]);
  expect(await removeReplicaFiles(journal)).toBe(0);
  expect(await journalFolderBytes(journal)).toBeNull();
});

test('links in its place or within it are removed and never followed', async () => {
  await symlink(outside, journal);
  expect(await journalFolderBytes(journal)).toBeNull();
  expect(await findLayerFiles(directory)).toEqual([]);
  expect(await removeReplicaFiles(journal)).toBe(1);
  await makeJournal();
  await symlink(outside, join(journal, '00000002.cdp'));
  await removeReplicaFiles(journal);
  expect(await readdir(outside)).toEqual(['00000000.cdp']);
});

test.each<[LayerState | null, string | null]>([
  ['partial', null],
  ['published', null],
  [null, 'unknown'],
  ['dropped', 'dropped'],
])('a journal of the state %s is a stray of the kind %s', async (state, kind) => {
  await makeJournal();
  const files = await findLayerFiles(directory);
  const strays = findStrays(files, new Map(state === null ? [] : [[NAME, state]]));
  expect(strays.map(stray => stray.kind)).toEqual(kind === null ? [] : [kind]);
  if (kind !== 'dropped') return;
  expect(strays[0]?.file.allocatedBytes).toBe(12_288);
  expect(await removeLayerFiles(directory, files)).toHaveLength(1);
  await expect(lstat(journal)).rejects.toMatchObject({ code: 'ENOENT' });
});
