import { chmod, mkdir, open, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createMetricsReadings } from '../../../src/catalog/metrics-readings.ts';
import { createReplicaInventory } from '../../../src/catalog/replica-inventory.ts';
import { startPeriodicScrub } from '../../../src/sites/periodic-scrub.ts';
import { createReplicaRoot } from '../../../src/sites/replica-root.ts';
import { scrubReplicas } from '../../../src/sites/replica-scrub.ts';
import { useTestDatabase } from '../../support/database.ts';
import { createReplicaBench, layerOver, NODE, type ReplicaBench, type SentLayer } from './replica-bench.ts';

const MIB = 1024 * 1024;
const database = useTestDatabase();
let bench: ReplicaBench;
let layers: SentLayer[];
/** The published chain, the bottom first. */
let paths: string[];
beforeEach(async () => {
  bench = await createReplicaBench(database().db);
  layers = [layerOver(null, 3 * MIB, [['data', 40]])];
  for (let count = 0; count < 2; count += 1)
    layers.push(layerOver(layers.at(-1) ?? null, 3 * MIB, [['data', 2]]));
  paths = [];
  for (const layer of layers) paths.push(await bench.publish(layer));
});
afterEach(() => bench.close());

const directory = () => join(bench.root, 'replicas');
const scrub = (options: { olderThanMs?: number; signal?: AbortSignal; onProgress?: () => void } = {}) =>
  scrubReplicas({
    catalog: bench.catalog,
    root: createReplicaRoot({ catalog: bench.catalog, node: NODE, directory: directory() }),
    ...{ node: NODE, replicaRoot: directory(), host: bench.spec.host, rateBytesPerSecond: null },
    olderThanMs: null,
    signal: new AbortController().signal,
    ...options,
  });
const points = () => createReplicaInventory(database().db).listPoints({ host: bench.spec.host });
const doubts = async () => bench.files.doubts(await bench.catalog.cursorChains(bench.spec.uuid));
const damageOf = async () =>
  (await points()).map(({ disks }) => disks[0]?.layers.map(({ damage }) => damage?.kind ?? null));

/** As a storage that loses a bit: no mark of the file changes, as far as the catalog knows. */
async function rot(path: string, at: number): Promise<void> {
  await chmod(path, 0o644);
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  await file.write(Buffer.of(byte.readUInt8(0) ^ 4), 0, 1, at);
  await file.close();
  await chmod(path, 0o444);
  const { ino, size, mtimeNs, ctimeNs, dev } = await stat(path, { bigint: true });
  const marks = {
    device: `${dev}`,
    inode: `${ino}`,
    sizeBytes: Number(size),
    mtimeNs: `${mtimeNs}`,
    ctimeNs: `${ctimeNs}`,
  };
  await database().db.raw(
    'update snapshot_storages set sealed_file = sealed_file || ?::jsonb where path = ?',
    [JSON.stringify(marks), path],
  );
}

it('reads everything once, and notes when', async () => {
  const before = Date.now() - 60_000;
  const sizes = await Promise.all(paths.map(async path => (await stat(path)).size));
  const first = await scrub();
  expect(first).toMatchObject({ layers: 3, damaged: [], proven: [] });
  expect(first.checkedBytes).toBeLessThanOrEqual(sizes.reduce((sum, size) => sum + size));
  for (const { disks } of await points()) {
    for (const layer of disks[0]?.layers ?? []) expect(layer.verifiedAtMs).toBeGreaterThan(before);
  }
  expect(await scrub({ olderThanMs: before })).toMatchObject({ layers: 0 });
});

it('a bit that the storage lost is found with its place, marks all points above, and is never a base', async () => {
  const [bottom = '', middle = ''] = paths;
  await rot(middle, (await stat(middle)).size - 1000);
  // No mark tells of it: only reading does.
  expect(await doubts()).toEqual([]);
  const { damaged } = await scrub();
  expect(damaged).toEqual([
    {
      host: bench.spec.host,
      disk: 'vda',
      path: middle,
      reason: '1 of its 1 blocks of 1 MiB differ, the first at guest MiB 0',
    },
  ]);
  expect(await damageOf()).toEqual([[null], ['content', null], [null, 'content', null]]);
  expect(await doubts()).toEqual([{ disk: 'vda', doubt: expect.stringContaining(middle) }]);

  // Who was already under way with it is stopped when the receiver opens, and at the latest before it is sealed.
  const next = layerOver(layers.at(-1) ?? null, 3 * MIB, [['data', 1]]);
  const run = await bench.begin(next);
  await bench.receive(run, next);
  await expect(bench.seal(run)).rejects.toMatchObject({
    code: 'PlanBroken',
    message: expect.stringContaining(middle),
  });
  // The damage keeps its time, goes only by reading what is right, and the untouched layer was never in question.
  const foundAt = (await points())[1]?.disks[0]?.layers[0]?.damage?.foundAtMs;
  await scrub();
  expect((await points())[1]?.disks[0]?.layers[0]?.damage?.foundAtMs).toBe(foundAt);
  expect((await points())[0]?.disks[0]?.path).toBe(bottom);
  await rot(middle, (await stat(middle)).size - 1000);
  expect(await scrub()).toMatchObject({ damaged: [], proven: [middle] });
  expect(await doubts()).toEqual([]);
});

it('a file that was touched and not changed is in doubt until it is read, then it is proven anew', async () => {
  const [bottom = ''] = paths;
  await utimes(bottom, 1, 1);
  expect(await doubts()).toEqual([{ disk: 'vda', doubt: expect.stringContaining('written to') }]);
  expect(await damageOf()).toEqual([['doubt'], [null, 'doubt'], [null, null, 'doubt']]);
  expect(await scrub()).toMatchObject({ damaged: [], proven: [bottom] });
  expect(await doubts()).toEqual([]);
  expect(await damageOf()).toEqual([[null], [null, null], [null, null, null]]);
});

it('a doubt goes by itself when what it was about is there again', async () => {
  const [, middle = ''] = paths;
  await rename(middle, `${middle}.away`);
  expect(await doubts()).toEqual([{ disk: 'vda', doubt: expect.stringContaining('missing') }]);
  expect((await damageOf())[1]).toEqual(['doubt', null]);
  await rename(`${middle}.away`, middle);
  // Renaming changes the time of change: it is still in doubt, and proven by reading.
  expect(await scrub()).toMatchObject({ proven: [middle] });
  await rename(`${middle}.digests`, `${middle}.away`);
  expect(await doubts()).toHaveLength(1);
  await rename(`${middle}.away`, `${middle}.digests`);
  expect(await doubts()).toEqual([]);
  expect(await damageOf()).toEqual([[null], [null, null], [null, null, null]]);
});

it('tells a lost digest file, a lost file, and the file of another layer under this name', async () => {
  const [bottom = '', middle = '', top = ''] = paths;
  await rm(`${bottom}.digests`);
  await rm(middle);
  await writeFile(`${top}.new`, await readFile(bottom));
  await rename(`${top}.new`, top);
  const { damaged } = await scrub();
  expect(new Map(damaged.map(({ path, reason }) => [path, reason]))).toEqual(
    new Map([
      [bottom, 'the digest file is missing'],
      [middle, 'the file does not exist'],
      [top, expect.stringMatching(/bytes instead of/)],
    ]),
  );
});

it('a folder that is not mounted is no damage, and what was read before it went counts', async () => {
  await scrub();
  await rename(directory(), `${directory()}.away`);
  await mkdir(directory());
  await expect(scrub()).rejects.toMatchObject({ code: 'ReplicaRootMissing' });
  expect((await damageOf()).flat().every(kind => kind === null)).toBe(true);
});

it('stops at once when it is told to, and leaves a layer alone that is removed while it is read', async () => {
  const stop = new AbortController();
  const stopped = scrub({ signal: stop.signal, onProgress: () => stop.abort(new Error('stopped')) });
  await expect(stopped).rejects.toThrow('stopped');
  const { db } = database();
  const [, , top = ''] = paths;
  const gone = await scrub({
    onProgress: () =>
      void db('snapshot_storages')
        .where({ path: top })
        .update({ sealed_file: '{"contentDigest":"x"}' })
        .then(() => undefined),
  });
  expect(gone.damaged).toEqual([]);
});

/** Scrubs that begin one after the other, and what they said. */
function periodic(config: { every: string; rate?: string }) {
  const said: { event?: string; path?: string }[] = [];
  const note = (fields: object): void => void said.push(fields);
  const scrubs = startPeriodicScrub({
    catalog: bench.catalog,
    root: createReplicaRoot({ catalog: bench.catalog, node: NODE, directory: directory() }),
    ...{ node: NODE, replicaRoot: directory(), config, everyMs: 20 },
    log: { debug: note, info: note, warn: note, error: note },
  });
  const heard = async (event: string): Promise<void> => {
    while (!said.some(line => line.event === event)) await sleep(5);
  };
  return { ...scrubs, said, heard };
}

const damagedFiles = async () =>
  (await createMetricsReadings(database().db).damage()).filter(({ host }) => host === bench.spec.host);

it('by itself finds what is due and damaged, says so, also as a metric, and leaves what is not due', async () => {
  await createReplicaRoot({ catalog: bench.catalog, node: NODE, directory: directory() }).assertThere();
  expect(await damagedFiles()).toEqual([
    { host: bench.spec.host, kind: 'content', files: 0 },
    { host: bench.spec.host, kind: 'doubt', files: 0 },
  ]);
  const [base = ''] = paths;
  await rot(base, 1_000_000);
  const hourly = periodic({ every: '1h', rate: '1GiB/s' });
  await hourly.heard('scrubbed');
  expect(hourly.said).toContainEqual({ event: 'replica-damaged', path: base });
  expect(await damagedFiles()).toContainEqual({ host: bench.spec.host, kind: 'content', files: 1 });
  // All were verified just now: later looks find nothing that is due.
  await sleep(100);
  await hourly.close();
  expect(hourly.said.filter(({ event }) => event === 'scrubbed')).toHaveLength(1);

  // Once it is due again it is read again.
  await database()
    .db('snapshot_storages')
    .whereNotNull('verified_at')
    .update({ verified_at: new Date(0) });
  const again = periodic({ every: '1h' });
  await again.heard('scrubbed');
  await again.close();
});

it('by itself goes on after a failure, and ends at once with its worker', async () => {
  await createReplicaRoot({ catalog: bench.catalog, node: NODE, directory: directory() }).assertThere();
  await rename(directory(), `${directory()}.away`);
  const patient = periodic({ every: '1h' });
  await patient.heard('scrub-failed');
  await rename(`${directory()}.away`, directory());
  await patient.heard('scrubbed');
  await patient.close();

  await database()
    .db('snapshot_storages')
    .whereNotNull('verified_at')
    .update({ verified_at: new Date(0) });
  const slow = periodic({ every: '1h', rate: '1B/s' });
  await sleep(50);
  await slow.close();
  expect(slow.said).toEqual([]);
});
