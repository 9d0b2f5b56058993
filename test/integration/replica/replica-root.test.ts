import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createReplicaFiles } from '../../../src/sites/replica-files.ts';
import { createReplicaGround } from '../../../src/sites/replica-ground.ts';
import { recoverHost } from '../../../src/sites/replica-recovery.ts';
import { createReplicaRoot } from '../../../src/sites/replica-root.ts';
import { createSessionDirectory } from '../../../src/sites/session-directory.ts';
import { useTestDatabase } from '../../support/database.ts';
import { createReplicaBench, layerOver, NODE, type ReplicaBench } from './replica-bench.ts';

const MIB = 1024 * 1024;
const database = useTestDatabase();
let bench: ReplicaBench;
let directory: string;
const marker = () => join(directory, '.offsite-replicas');
beforeEach(async () => {
  bench = await createReplicaBench(database().db);
  directory = join(bench.root, 'replicas');
});
afterEach(() => bench.close());

const rootOf = (node = NODE) => createReplicaRoot({ catalog: bench.catalog, node, directory });
const REFUSED = { code: 'ReplicaRootMissing' };

it('a folder is made and marked at its first use, once, and the catalog knows the marker', async () => {
  await Promise.all([rootOf().assertThere(), rootOf().assertThere(), rootOf('b2').assertThere()]);
  const id = (await readFile(marker(), 'utf8')).trim();
  expect(await bench.catalog.rootIdOf({ node: NODE, path: directory })).toBe(id);
  expect(await bench.catalog.rootIdOf({ node: 'b2', path: directory })).toBe(id);
  await rootOf().assertThere();
  expect((await readFile(marker(), 'utf8')).trim()).toBe(id);
});

it('a marker that a crash left without its row is adopted; half a marker under another name is none', async () => {
  await mkdir(directory);
  await writeFile(`${marker()}.0.tmp`, 'half');
  await writeFile(marker(), '3F2504E0-4F89-11D3-9A0C-0305E82C3301\n');
  await rootOf().assertThere();
  expect(await bench.catalog.rootIdOf({ node: NODE, path: directory })).toBe(
    '3f2504e0-4f89-11d3-9a0c-0305e82c3301',
  );
});

it('a folder that is not mounted is refused, is left empty, and is taken again once it is back', async () => {
  const root = rootOf();
  await root.assertThere();
  const ground = createReplicaGround({ catalog: bench.catalog, node: NODE, root });
  const parts = { catalog: bench.catalog, replicaRoot: directory, ground };
  const files = createReplicaFiles({ ...parts, node: NODE });
  const sessions = createSessionDirectory(parts);
  const layer = layerOver(null, MIB, [['data', 8]]);
  const path = await bench.publish(layer);
  const chains = () => bench.catalog.cursorChains(bench.spec.uuid);
  const next = layerOver(layer, MIB, [['data', 1]]);
  const run = await bench.begin(next);

  await rename(directory, `${directory}.away`);
  await mkdir(directory);
  const refusal = root.assertThere();
  await expect(refusal).rejects.toMatchObject(REFUSED);
  await expect(refusal).rejects.toMatchObject({
    message: expect.stringContaining('not mounted'),
    hint: expect.stringMatching(/echo [0-9a-f-]{36} > '.*\/\.offsite-replicas'/),
  });
  await expect(files.doubts(await chains())).rejects.toMatchObject(REFUSED);
  await expect(sessions.openSink(run.session, next.map)).rejects.toMatchObject(REFUSED);
  await expect(files.remove([{ node: NODE, path }])).rejects.toMatchObject(REFUSED);
  await rm(directory, { recursive: true });

  await rename(`${directory}.away`, directory);
  expect(await files.doubts(await chains())).toEqual([]);
  const sink = await sessions.openSink(run.session, next.map);
  await sink.close();
});

it('another folder in its place is refused by its id; the marker may be written by hand', async () => {
  await rootOf().assertThere();
  const id = (await readFile(marker(), 'utf8')).trim();
  await writeFile(marker(), `${'0'.repeat(8)}-0000-4000-8000-${'0'.repeat(12)}\n`);
  await expect(rootOf().assertThere()).rejects.toMatchObject({
    ...REFUSED,
    message: expect.stringContaining('is another one'),
  });
  await writeFile(marker(), `${id}\n`);
  await rootOf().assertThere();
});

it('files of a version without markers, none of which is there, count as not mounted', async () => {
  await bench.publish(layerOver(null, MIB, [['data', 8]]));
  await rename(directory, `${directory}.away`);
  await expect(rootOf().assertThere()).rejects.toMatchObject(REFUSED);
  await expect(rootOf().assertThere()).rejects.toMatchObject(REFUSED);
  await rename(`${directory}.away`, directory);
  // The right folder is known by its files, and gets its marker.
  await rootOf().assertThere();
  const known = await bench.catalog.rootIdOf({ node: NODE, path: directory });
  expect((await readFile(marker(), 'utf8')).trim()).toBe(known);
});

it('nothing is recovered from another folder, or from where none is mounted, and nothing is made there', async () => {
  await rootOf().assertThere();
  const layer = layerOver(null, MIB, [['data', 8]]);
  await bench.publish(layer);
  const config = {
    ...{ site: 'b', node: NODE, dataDir: bench.root, temporal: {}, logLevel: 'info' as const },
    database: { url: database().url },
    replica: { listen: '127.0.0.1:0', directory },
  };
  let folders = 0;
  const recover = (format: 'overlay' | 'qcow2' | 'raw') => {
    folders += 1;
    const into = join(bench.root, `recovered-${folders}`);
    return recoverHost(config, database().db, {
      ...{ host: bench.spec.host, point: null, at: null, marker: null, directory: into, format },
    });
  };

  await rename(directory, `${directory}.away`);
  await mkdir(directory);
  for (const format of ['overlay', 'qcow2', 'raw'] as const) {
    await expect(recover(format)).rejects.toMatchObject(REFUSED);
  }
  expect(await readdir(directory)).toEqual([]);
  await writeFile(marker(), `${randomUUID()}\n`);
  await expect(recover('raw')).rejects.toMatchObject(REFUSED);

  await rm(directory, { recursive: true });
  await rename(`${directory}.away`, directory);
  expect((await recover('raw')).disks).toHaveLength(1);
  // Known by its files, as for a worker; but a command that reads leaves the marker to the worker.
  await rm(marker());
  expect((await recover('qcow2')).disks).toHaveLength(1);
  await expect(readFile(marker())).rejects.toMatchObject({ code: 'ENOENT' });
});
