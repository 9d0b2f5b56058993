/** What the sweeper takes and what it leaves, over a real catalog and real files. */
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rename, symlink, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Log } from '../../../src/lib/log.ts';
import { createReplicaFiles } from '../../../src/sites/replica-files.ts';
import { removeLeftFiles, type SweepReport, sweepReplicas } from '../../../src/sites/replica-sweeper.ts';
import { useTestDatabase } from '../../support/database.ts';
import { recordPaused } from '../catalog/fixtures.ts';
import { createReplicaBench, layerOver, NODE, type ReplicaBench, type SentLayer } from './replica-bench.ts';

const MIB = 1024 * 1024;
const CLUSTER = 65_536;
const HOUR_MS = 60 * 60_000;
const database = useTestDatabase();
let bench: ReplicaBench;
let logged: object[];
/** A name of a layer that no catalog has. */
let strayName: string;
const log: Log = {
  debug: () => {},
  info: fields => void logged.push(fields),
  warn: fields => void logged.push(fields),
  error: () => {},
};
beforeEach(async () => {
  bench = await createReplicaBench(database().db);
  logged = [];
  strayName = `${randomUUID()}.0123456789abcdef.qcow2`;
});
afterEach(() => bench.close());

const fullCopy = (): SentLayer => layerOver(null, MIB, [['data', 16]]);

/** @param changes.nowMs in two hours by default, when every file is old enough */
function sweep(changes: { dryRun?: boolean; nowMs?: number } = {}): Promise<SweepReport> {
  const { catalog, replicaRoot } = bench;
  return sweepReplicas({
    ...{ catalog, replicaRoot, node: NODE, log, graceMs: HOUR_MS },
    ...{ dryRun: false, nowMs: Date.now() + 2 * HOUR_MS, ...changes },
  });
}

const namesIn = async (directory: string): Promise<string[]> => (await readdir(directory)).sort();
const namesOf = (files: SweepReport['removed']): string[] => files.map(({ path }) => basename(path)).sort();

async function beginWriting(layer: SentLayer) {
  const run = await bench.begin(layer);
  const sink = await bench.openSink(run, layer);
  await sink.write(layer.stream.subarray(0, CLUSTER), 0);
  await sink.flush();
  await sink.close();
  const layout = await bench.catalog.findLayout(run.diskTaskUuid);
  return { run, directory: layout?.directory ?? '', finalName: layout?.finalName ?? '' };
}

describe('the sweeper leaves', () => {
  it('what a running, a paused and an ended task began, however old, and what is published', async () => {
    const published = await bench.publish(fullCopy());
    const layer = fullCopy();
    const { run, directory, finalName } = await beginWriting(layer);
    const before = await namesIn(directory);
    expect(before).toEqual(
      [basename(published), `${basename(published)}.digests`]
        .concat(['map', 'partial', 'progress'].map(suffix => `${finalName}.${suffix}`))
        .sort(),
    );
    const years = { nowMs: Date.now() + 10_000 * 24 * HOUR_MS };
    const nothing = { removed: [], waiting: [], unknown: [] };
    expect(await sweep(years)).toEqual(nothing);
    await bench.catalog.endTask({ ...run, outcome: 'stopped', reason: null });
    await recordPaused(bench.catalog, bench.spec.uuid, true);
    expect(await sweep(years)).toEqual(nothing);
    expect(await namesIn(directory)).toEqual(before);
    await recordPaused(bench.catalog, bench.spec.uuid, false);
    // The durable prefix is of use to the next task.
    const next = await bench.begin(layer);
    expect(await bench.receive(next, layer)).toEqual({ sentBytes: layer.stream.length - CLUSTER });
  });

  it('names that are not of a layer, links, and folders of other names', async () => {
    const { directory } = await beginWriting(fullCopy());
    const outside = join(bench.root, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, `${strayName}.partial`), 'theirs');
    await writeFile(join(directory, 'notes.txt'), 'theirs');
    await writeFile(join(directory, `${strayName}.partial~`), 'theirs');
    await writeFile(join(directory, `x${strayName}.partial`), 'theirs');
    await symlink(join(outside, `${strayName}.partial`), join(directory, `${strayName}.map`));
    await symlink(outside, join(dirname(directory), 'linked'));
    await mkdir(join(bench.replicaRoot, '.snapshots', 'vda'), { recursive: true });
    await writeFile(join(bench.replicaRoot, '.snapshots', 'vda', `${strayName}.partial`), 'theirs');
    await writeFile(join(bench.replicaRoot, `${strayName}.partial`), 'theirs');
    const before = await namesIn(directory);
    expect(await sweep()).toEqual({ removed: [], waiting: [], unknown: [] });
    expect(await namesIn(directory)).toEqual(before);
    expect(await namesIn(outside)).toEqual([`${strayName}.partial`]);
    expect(await namesIn(join(bench.replicaRoot, '.snapshots', 'vda'))).toEqual([`${strayName}.partial`]);
  });

  it('what looks like a whole layer, and says so', async () => {
    const { directory } = await beginWriting(fullCopy());
    for (const suffix of ['', '.digests', '.partial'])
      await writeFile(join(directory, strayName + suffix), 'whole?');
    const { removed, waiting, unknown } = await sweep();
    expect([removed, waiting]).toEqual([[], []]);
    expect(namesOf(unknown)).toEqual([strayName, `${strayName}.digests`, `${strayName}.partial`]);
    expect(unknown[0]?.reason).toContain('the catalog does not know it');
  });

  it('files that are known under another path, or to another node', async () => {
    const { directory } = await beginWriting(fullCopy());
    const before = await namesIn(directory);
    // The folder was moved, and its old path became a link: the catalog has the old one.
    const moved = join(bench.root, 'moved');
    await rename(bench.replicaRoot, moved);
    await symlink(moved, bench.replicaRoot);
    const { catalog } = bench;
    for (const node of [NODE, 'b2']) {
      const report = await sweepReplicas({
        ...{ catalog, replicaRoot: moved, node, log, graceMs: 0, dryRun: false },
        nowMs: Date.now() + HOUR_MS,
      });
      expect(report).toEqual({ removed: [], waiting: [], unknown: [] });
    }
    expect(await namesIn(directory)).toEqual(before);
  });

  it('everything whose time lies ahead, as after a clock that was set back', async () => {
    const { directory } = await beginWriting(fullCopy());
    await writeFile(join(directory, `${strayName}.partial`), 'half');
    const inAYear = new Date(Date.now() + 365 * 24 * HOUR_MS);
    await utimes(join(directory, `${strayName}.partial`), inAYear, inAYear);
    const { removed, waiting } = await sweep();
    expect(removed).toEqual([]);
    expect(namesOf(waiting)).toEqual([`${strayName}.partial`]);
  });
});

describe('the sweeper removes', () => {
  it('partial files and sidecars without a row, once they are old enough, and tells what and why', async () => {
    const { directory } = await beginWriting(fullCopy());
    const before = await namesIn(directory);
    const increment = strayName.replace('.qcow2', '.increment.qcow2');
    const all = ['.partial', '.map', '.progress', '.digests'].map(suffix => strayName + suffix);
    all.push(`${increment}.partial`, `${increment}.map`);
    for (const name of all) await writeFile(join(directory, name), 'half of it');
    await chmod(join(directory, `${strayName}.partial`), 0o444);

    const young = await sweep({ nowMs: Date.now() });
    expect([namesOf(young.removed), namesOf(young.waiting)]).toEqual([[], [...all].sort()]);
    const dry = await sweep({ dryRun: true });
    expect(namesOf(dry.removed)).toEqual([...all].sort());
    expect(await namesIn(directory)).toEqual([...before, ...all].sort());
    expect(logged).toEqual([]);

    const swept = await sweep();
    expect(swept.removed).toEqual(dry.removed);
    expect(await namesIn(directory)).toEqual(before);
    expect(logged).toHaveLength(all.length);
    expect(logged).toContainEqual({
      event: 'swept',
      path: join(directory, `${strayName}.partial`),
      sizeBytes: expect.any(Number),
      reason: 'the catalog does not know the layer, and it is not whole',
    });
  });

  it('what is left beside a sealed layer, and never its image', async () => {
    const published = await bench.publish(fullCopy());
    const content = await readFile(published);
    const left = ['.partial', '.progress', '.map'].map(suffix => published + suffix);
    for (const path of left) await writeFile(path, 'left over');
    expect(namesOf((await sweep()).removed)).toEqual(left.map(path => basename(path)).sort());
    expect((await readFile(published)).equals(content)).toBe(true);
    expect(await namesIn(dirname(published))).toEqual([
      basename(published),
      `${basename(published)}.digests`,
    ]);

    // Without its image a person is to look first.
    await rename(published, `${published}.partial`);
    const { removed, unknown } = await sweep();
    expect([removed, namesOf(unknown)]).toEqual([[], [`${basename(published)}.partial`]]);
  });

  it('at once what the catalog has given up, such as by a deletion that died before its files were gone', async () => {
    const { directory } = await beginWriting(fullCopy());
    const input = { scheduleUuid: bench.spec.uuid, request: { purge: false } };
    await bench.catalog.beginDelete(input);
    expect(await bench.catalog.filesToDrop(input)).toHaveLength(1);
    const { removed } = await sweep({ nowMs: Date.now() });
    expect(removed).toHaveLength(3);
    expect(await namesIn(directory)).toEqual([]);
    await bench.catalog.finishDelete(input);
  });

  it('nothing that gets its row while it looks', async () => {
    const { catalog, replicaRoot } = bench;
    const layer = fullCopy();
    const first = await beginWriting(layer);
    const stray = join(first.directory, `${strayName}.partial`);
    await writeFile(stray, 'half');
    // Between the look without a lock and the one under it a row appears for what looked like an orphan.
    const report = await sweepReplicas({
      catalog: {
        ...catalog,
        async withNames(layers, work) {
          await database()
            .db('snapshot_storages')
            .update({ path: join(first.directory, strayName) })
            .where({ path: join(first.directory, first.finalName) });
          return catalog.withNames(layers, work);
        },
      },
      ...{ replicaRoot, node: NODE, log, graceMs: 0, dryRun: false, nowMs: Date.now() + HOUR_MS },
    });
    expect(report).toEqual({ removed: [], waiting: [], unknown: [] });
    expect(await readFile(stray, 'utf8')).toBe('half');
  });

  it('waits for whoever is just adding a file of that disk', async () => {
    const { directory } = await beginWriting(fullCopy());
    await writeFile(join(directory, `${strayName}.partial`), 'half');
    const order: string[] = [];
    const adding = await database().db.transaction();
    await adding.raw('select pg_advisory_xact_lock_shared(?, hashtext(?))', [
      0x0ff5_1703,
      `${bench.spec.host}/vda`,
    ]);
    const sweeping = sweep().then(() => order.push('swept'));
    await new Promise(resolve => setTimeout(resolve, 300));
    order.push('added');
    await adding.commit();
    await sweeping;
    expect(order).toEqual(['added', 'swept']);
  });
});

describe('files of a node that is down', () => {
  it('are removed by its own worker when it is back, though their rows are gone', async () => {
    const { run, directory } = await beginWriting(fullCopy());
    // The schedule is deleted by the worker of another node.
    const input = { scheduleUuid: bench.spec.uuid, request: { purge: false } };
    await bench.catalog.beginDelete(input);
    const files = await bench.catalog.filesToDrop(input);
    expect(files.map(({ node }) => node)).toEqual([NODE]);
    const { catalog, replicaRoot } = bench;
    expect(await createReplicaFiles({ catalog, replicaRoot, node: 'b2' }).remove(files)).toBe(0);
    await catalog.finishDelete(input);
    expect(await catalog.findLayout(run.diskTaskUuid)).toBeNull();
    expect(await namesIn(directory)).toHaveLength(3);

    const parts = { catalog, replicaRoot, log };
    expect(await removeLeftFiles({ ...parts, node: 'b2' })).toBe(0);
    expect(await removeLeftFiles({ ...parts, node: NODE })).toBe(3);
    expect(await namesIn(directory)).toEqual([]);
    expect(await catalog.filesToRemove(NODE)).not.toContain(files[0]?.path);
    expect(await removeLeftFiles({ ...parts, node: NODE })).toBe(0);
  });

  it('are never removed outside of the replica folder', async () => {
    const path = join(bench.root, 'elsewhere', strayName);
    await mkdir(dirname(path));
    await writeFile(path, 'theirs');
    await database().db('replica_files_to_remove').insert({ node: 'b9', path });
    const { catalog, replicaRoot } = bench;
    expect(await removeLeftFiles({ catalog, replicaRoot, log, node: 'b9' })).toBe(0);
    expect(await readFile(path, 'utf8')).toBe('theirs');
    expect(await catalog.filesToRemove('b9')).toEqual([path]);
  });
});
