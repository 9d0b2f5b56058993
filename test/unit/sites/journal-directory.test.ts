import { mkdir, mkdtemp, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { journalFolder } from '../../../src/sites/journal-directory.ts';

let root: string;
let journals: string;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'offsite-test-')));
  journals = join(root, 'journals');
  await mkdir(join(journals, 'web-01', 'vda'), { recursive: true });
});
afterEach(() => rm(root, { recursive: true }));

it('is read where the configuration has journals, also when that folder is a link', async () => {
  const folder = join(journals, 'web-01', 'vda');
  expect(await journalFolder(folder, journals)).toBe(folder);
  await symlink(journals, join(root, 'elsewhere'));
  expect(await journalFolder(join(root, 'elsewhere', 'web-01', 'vda'), journals)).toBe(folder);
  expect(await journalFolder(folder, join(root, 'elsewhere'))).toBe(folder);
});

it('is read nowhere else, whatever the catalog says', async () => {
  await mkdir(join(root, 'journals-of-others', 'vda'), { recursive: true });
  await symlink(join(root, 'journals-of-others', 'vda'), join(journals, 'link'));
  for (const directory of [
    join(root, 'journals-of-others', 'vda'),
    join(journals, 'link'),
    join(journals, '..'),
    journals,
    '/etc',
  ]) {
    await expect(journalFolder(directory, journals), directory).rejects.toMatchObject({
      code: 'JournalOutsideFolder',
    });
  }
});

it('is planned anew when the folder is gone', async () => {
  await expect(journalFolder(join(journals, 'gone'), journals)).rejects.toMatchObject({ code: 'PlanBroken' });
});
