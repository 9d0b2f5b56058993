import { chmod, readdir, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createReplicaInventory } from '../../../src/catalog/replica-inventory.ts';
import { useTestDatabase } from '../../support/database.ts';
import { qemuCheck } from '../../support/qemu.ts';
import {
  chainDepth,
  createReplicaBench,
  layerOver,
  type ReplicaBench,
  readByQemu,
  type SentLayer,
} from './replica-bench.ts';

const MIB = 1024 * 1024;
const database = useTestDatabase();
let bench: ReplicaBench;
beforeEach(async () => {
  // Chains of two layers at most.
  bench = await createReplicaBench(database().db, 3);
});
afterEach(() => bench.close());

const full = (): SentLayer =>
  layerOver(null, 3 * MIB, [
    ['data', 20],
    ['hole', 8],
    ['data', 20],
  ]);
const increment = (below: SentLayer, sizeBytes = below.map.virtualSizeBytes): SentLayer =>
  layerOver(below, sizeBytes, [
    ['hole', 3],
    ['data', 2],
    ['zero', 4],
    ['hole', 9],
    ['data', 1],
  ]);

/** Two published layers, and an increment that would be the third. */
async function atTheLimit(): Promise<{ layer: SentLayer; basePath: string }> {
  const bottom = full();
  await bench.publish(bottom);
  const middle = increment(bottom);
  const basePath = await bench.publish(middle);
  return { layer: increment(middle, 4 * MIB), basePath };
}

it('a chain starts anew before it has as many layers as the limit, and sends increments all the same', async () => {
  const layers: SentLayer[] = [full()];
  for (const sizeBytes of [2 * MIB, 4 * MIB, 4 * MIB, 3.5 * MIB, 3.5 * MIB]) {
    layers.push(increment(layers.at(-1) as SentLayer, sizeBytes));
  }
  const published = new Map<string, SentLayer>();
  const depths: number[] = [];
  for (const layer of layers) {
    const path = await bench.publish(layer);
    published.set(path, layer);
    depths.push(await chainDepth(path));
  }
  expect(depths).toEqual([1, 2, 1, 2, 1, 2]);
  for (const [path, { content }] of published) {
    expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
    expect((await readByQemu(path, bench.root)).equals(content)).toBe(true);
  }
  const points = await createReplicaInventory(database().db).listPoints({ host: bench.spec.host });
  expect(points.map(({ disks }) => disks[0]?.chainDepth)).toEqual(depths);
  expect(await bench.files.doubts(await bench.catalog.cursorChains(bench.spec.uuid))).toEqual([]);
  // Nothing is left of what the increments were received in.
  const [first = ''] = published.keys();
  expect((await readdir(dirname(first))).length).toBe(2 * layers.length);
});

it('an interrupted increment at the limit is resumed, also by a later task, received and sealed', async () => {
  const { layer } = await atTheLimit();
  const earlier = await bench.begin(layer);
  const sink = await bench.openSink(earlier, layer);
  await sink.write(layer.stream.subarray(0, 65_536), 0);
  await sink.flush();
  await sink.close();

  const later = await bench.begin(layer);
  expect(await bench.receive(later, layer)).toEqual({ sentBytes: layer.stream.length - 65_536 });
  const afterReceiving = await bench.begin(layer);
  expect(await bench.receive(afterReceiving, layer)).toEqual({ sentBytes: 0 });
  const path = await bench.seal(afterReceiving);
  const afterSealing = await bench.begin(layer);
  expect(await bench.receive(afterSealing, layer)).toEqual({ sentBytes: 0 });
  expect(await bench.seal(afterSealing)).toBe(path);
  await bench.catalog.finishTask(afterSealing);
  expect((await readByQemu(path, bench.root)).equals(layer.content)).toBe(true);
  // An attempt that was given up and still ends does not change the file that was recorded.
  await bench.sealFile(afterSealing);
  expect(await bench.files.doubts(await bench.catalog.cursorChains(bench.spec.uuid))).toEqual([]);
});

it('two attempts to seal at once do not disturb each other', async () => {
  const { layer } = await atTheLimit();
  const run = await bench.begin(layer);
  await bench.receive(run, layer);
  const [first, second] = await Promise.all([bench.seal(run), bench.seal(run)]);
  expect(second).toBe(first);
  expect((await readByQemu(first, bench.root)).equals(layer.content)).toBe(true);
});

it('nothing is copied from a base that is in doubt: the plan is broken, and what was received stays', async () => {
  const { layer, basePath } = await atTheLimit();
  const run = await bench.begin(layer);
  await bench.receive(run, layer);
  await chmod(basePath, 0o644);
  await truncate(basePath, 65_536);
  await expect(bench.seal(run)).rejects.toMatchObject({
    code: 'PlanBroken',
    message: expect.stringContaining(basePath),
  });
  const again = await bench.begin(layer);
  expect(await bench.receive(again, layer)).toEqual({ sentBytes: 0 });
});
