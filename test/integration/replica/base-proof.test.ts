import { execFile } from 'node:child_process';
import { chmod, open, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { useTestDatabase } from '../../support/database.ts';
import { createReplicaBench, layerOver, type ReplicaBench } from './replica-bench.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const database = useTestDatabase();
let bench: ReplicaBench;
/** The published chain, the top first. */
let paths: string[];
beforeEach(async () => {
  bench = await createReplicaBench(database().db);
  paths = [];
  const bottom = layerOver(null, MIB, [['data', 8]]);
  const middle = layerOver(bottom, MIB, [['data', 2]]);
  for (const layer of [bottom, middle, layerOver(middle, MIB, [['data', 1]])]) {
    paths.unshift(await bench.publish(layer));
  }
});
afterEach(() => bench.close());

const doubts = async () => bench.files.doubts(await bench.catalog.cursorChains(bench.spec.uuid));

/** Changes bytes and leaves size and time of modification as they were. */
async function edit(path: string): Promise<void> {
  const reference = `${path}.before`;
  await run('cp', ['--preserve=timestamps', path, reference]);
  await chmod(path, 0o644);
  const file = await open(path, 'r+');
  await file.write(Buffer.from('damage'), 0, 6, 300_000);
  await file.close();
  // Node's times are too coarse for it.
  await run('touch', ['--reference', reference, path]);
}

const DAMAGES: { what: string; damage: (path: string) => Promise<void>; doubt: string }[] = [
  { what: 'a missing file', damage: path => rm(path), doubt: 'its file is missing' },
  {
    what: 'a shorter file',
    damage: async path => {
      await chmod(path, 0o644);
      await truncate(path, 100_000);
    },
    doubt: 'its file has 100000 bytes instead of',
  },
  { what: 'an edited file, its time set back', damage: edit, doubt: 'its owner, mode or links' },
  {
    what: 'a missing digest file',
    damage: path => rm(`${path}.digests`),
    doubt: 'the digest file is missing',
  },
  { what: 'no digest file', damage: path => writeFile(`${path}.digests`, 'x'), doubt: 'not a digest file' },
  {
    what: 'a digest file of another content',
    damage: async path => {
      const bytes = await readFile(`${path}.digests`);
      await writeFile(`${path}.digests`, bytes.fill(0, 48, 64));
    },
    doubt: 'its digest file tells of another content',
  },
  {
    what: 'another file in its place',
    damage: async path => {
      // Written before the old one goes, so that it cannot get its inode.
      await writeFile(`${path}.new`, await readFile(path));
      await rename(`${path}.new`, path);
    },
    doubt: 'another file took its place',
  },
];

it('a chain of unchanged files is in no doubt', async () => {
  expect(await doubts()).toEqual([]);
  expect((await bench.catalog.cursorChains(bench.spec.uuid))[0]?.layers.map(({ path }) => path)).toEqual(
    paths,
  );
});

it.each(DAMAGES)(
  '$what is found in every layer, and the doubt names disk and file',
  async ({ damage, doubt }) => {
    // From the bottom up, so that the newest damage is the first that is met.
    for (const [index, path] of [...paths.entries()].reverse()) {
      await damage(path);
      const [found, ...others] = await doubts();
      expect(others).toEqual([]);
      expect(found?.disk).toBe('vda');
      expect(found?.doubt).toContain(`layer ${index + 1} of 3 from the top, ${path}: `);
      expect(found?.doubt).toContain(doubt);
    }
  },
);

it('a folder that is not mounted is a doubt, and none once it is back', async () => {
  await rename(`${bench.root}/replicas`, `${bench.root}/elsewhere`);
  expect(await doubts()).toEqual([{ disk: 'vda', doubt: expect.stringContaining('is its folder mounted?') }]);
  await rename(`${bench.root}/elsewhere`, `${bench.root}/replicas`);
  expect(await doubts()).toEqual([]);
});
