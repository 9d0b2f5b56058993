/** What a receiver may still write that was held up while the replica site went on without it. */
import { readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { setFaultInjector } from '../../../src/lib/fault-points.ts';
import { useTestDatabase } from '../../support/database.ts';
import { randomBytes } from '../../unit/images/replica-fixtures.ts';
import { recordPaused } from '../catalog/fixtures.ts';
import {
  createReplicaBench,
  layerOver,
  type ReplicaBench,
  readByQemu,
  type SentLayer,
} from './replica-bench.ts';

const MIB = 1024 * 1024;
const CLUSTER = 65_536;
const database = useTestDatabase();
let nowMs = 0;
let bench: ReplicaBench;
beforeEach(async () => {
  nowMs = 0;
  bench = await createReplicaBench(database().db, undefined, () => nowMs);
});
afterEach(() => bench.close());

const fullCopy = (): SentLayer => layerOver(null, 2 * MIB, [['data', 32]]);

/** A sink that has written its first cluster. */
async function beginWriting(layer: SentLayer) {
  const run = await bench.begin(layer);
  const sink = await bench.openSink(run, layer);
  await sink.write(layer.stream.subarray(0, CLUSTER), 0);
  return { run, sink, writeOn: () => sink.write(layer.stream.subarray(CLUSTER, 2 * CLUSTER), CLUSTER) };
}

describe('a writer that was held up', () => {
  it('writes nothing more into the file of a task that took over', async () => {
    const layer = fullCopy();
    const { sink, writeOn } = await beginWriting(layer);
    const next = await bench.begin(layer);
    await bench.receive(next, layer);
    const path = await bench.seal(next);
    await bench.catalog.finishTask(next);

    nowMs += 60_000;
    await expect(writeOn()).rejects.toMatchObject({ code: 'ReopenNeeded' });
    await expect(sink.flush()).rejects.toMatchObject({ code: 'ReopenNeeded' });
    await expect(sink.finish()).rejects.toMatchObject({ code: 'ReopenNeeded' });
    await sink.close();
    expect(await bench.files.doubts(await bench.catalog.cursorChains(bench.spec.uuid))).toEqual([]);
    expect((await readByQemu(path, bench.root)).equals(layer.content)).toBe(true);
  });

  it('stops after a pause, whichever process recorded it', async () => {
    const { sink, writeOn } = await beginWriting(fullCopy());
    await recordPaused(bench.catalog, bench.spec.uuid, true);
    await bench.catalog.closeSessions(bench.spec.uuid);
    nowMs += 1_000;
    await expect(writeOn()).rejects.toMatchObject({ code: 'ReopenNeeded' });
    await sink.close();
  });

  it('goes on while its session is its own', async () => {
    const layer = fullCopy();
    const { run, sink } = await beginWriting(layer);
    for (let at = CLUSTER; at < layer.stream.length; at += CLUSTER) {
      nowMs += 5_000;
      await sink.write(layer.stream.subarray(at, at + CLUSTER), at);
    }
    await sink.finish();
    await sink.close();
    expect(await bench.receive(run, layer)).toEqual({ sentBytes: 0 });
  });
});

describe('a copy that starts a new chain', () => {
  it('stops when another process has sealed the file, and the next attempt finds it done', async () => {
    // Chains of one layer: each increment is copied into a file of its own.
    const each = await createReplicaBench(database().db, 2, () => (nowMs += 2_000));
    const bottom = fullCopy();
    await each.publish(bottom);
    const layer = layerOver(bottom, 2 * MIB, [
      ['data', 3],
      ['hole', 29],
    ]);
    const run = await each.begin(layer);
    await each.receive(run, layer);
    const rows = database().db('snapshot_storages').where({ state: 'partial' }).clone();
    await rows.update({ state: 'sealed' });
    await expect(each.seal(run)).rejects.toMatchObject({ code: 'SealedMeanwhile' });
    await database().db('snapshot_storages').where({ state: 'sealed' }).update({ state: 'partial' });
    const path = await each.seal(run);
    await each.catalog.finishTask(run);
    expect((await readByQemu(path, each.root)).equals(layer.content)).toBe(true);
    await each.close();
  });
});

describe('a sealed file that was not published', () => {
  it('is replaced when the source has another content under the same map', async () => {
    const before = fullCopy();
    const first = await bench.begin(before);
    await bench.receive(first, before);
    const path = await bench.seal(first);

    const stream = randomBytes(before.map.dataBytes, 999);
    const after = { ...before, stream, content: stream };
    const second = await bench.begin(after);
    const sink = await bench.openSink(second, after);
    expect(sink.durableBytes).toBe(after.stream.length);
    await sink.finish();
    await expect(sink.discard?.()).rejects.toMatchObject({ code: 'PlanBroken' });
    await sink.close();
    expect(await readdir(dirname(path))).toEqual([]);

    const published = await bench.publish(after);
    expect((await readByQemu(published, bench.root)).equals(after.content)).toBe(true);
  });
});

describe('a received file that the storage did not make durable', () => {
  it('is given up by its own task only, and comes anew under another name', async () => {
    const layer = fullCopy();
    const run = await bench.begin(layer);
    await bench.receive(run, layer);
    let isFired = false;
    setFaultInjector({
      async reach(point, when) {
        if (point !== 'replica.seal.fsync' || when !== 'before' || isFired) return;
        isFired = true;
        throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' });
      },
      reachSync: () => {},
    });
    try {
      await expect(bench.sealFile(run)).rejects.toMatchObject({ code: 'SyncFailed' });
    } finally {
      setFaultInjector(null);
    }
    expect(isFired).toBe(true);
    const older = { ...run, fence: { ...run.fence, generation: run.fence.generation - 1 } };
    await expect(bench.catalog.rejectReceived(older)).rejects.toMatchObject({ code: 'InvalidInput' });
    const file = await bench.catalog.rejectReceived(run);
    expect(file?.node).toBe('b1');
    expect(await bench.files.remove(file === null ? [] : [file])).toBe(4);
    const path = await bench.publish(layer);
    expect(path).not.toBe(file?.path);
    expect((await readByQemu(path, bench.root)).equals(layer.content)).toBe(true);
  });
});
