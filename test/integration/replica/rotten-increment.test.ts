/** Bytes that rot between their reception and their seal: the layer is sent again, and nothing is built of them. */
import { open, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sealReceived } from '../../../src/activities/received-layer.ts';
import { computeLayout } from '../../../src/images/qcow2/layout.ts';
import { incrementName } from '../../../src/images/replica/names.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  createReplicaBench,
  type DiskRun,
  layerOver,
  type ReplicaBench,
  readByQemu,
  type SentLayer,
} from './replica-bench.ts';

const MIB = 1024 * 1024;
const database = useTestDatabase();
let bench: ReplicaBench;
beforeEach(async () => {
  // Chains of two layers at most: the third comes as an increment and is copied.
  bench = await createReplicaBench(database().db, 3);
});
afterEach(() => bench.close());

const increment = (below: SentLayer): SentLayer =>
  layerOver(below, below.map.virtualSizeBytes, [
    ['hole', 3],
    ['data', 2],
    ['zero', 4],
    ['data', 9],
  ]);

async function received(): Promise<{
  layer: SentLayer;
  run: DiskRun;
  files: string;
  partial: string;
  name: string;
}> {
  const bottom = layerOver(null, 3 * MIB, [['data', 48]]);
  await bench.publish(bottom);
  const middle = increment(bottom);
  await bench.publish(middle);
  const layer = increment(middle);
  const run = await bench.begin(layer);
  await bench.receive(run, layer);
  const layout = await bench.catalog.findLayout(run.diskTaskUuid);
  if (layout === null || !layout.standsAlone) throw new Error('the layer does not stand alone');
  const name = incrementName(layout.finalName);
  const all = await readdir(layout.directory);
  const partial = all.find(file => file.startsWith(name) && file.endsWith('.partial'));
  if (partial === undefined) throw new Error(`no increment among ${all.join(', ')}`);
  return { layer, run, files: layout.directory, partial: join(layout.directory, partial), name };
}

async function seal(run: DiskRun): Promise<string> {
  const { received: word } = (await bench.catalog.findSession(run.diskTaskUuid)) ?? {};
  if (word == null) throw new Error('nothing was received');
  const { path, file } = await sealReceived(bench, run, word, {});
  await bench.catalog.markSealed({ ...run, path, file });
  return path;
}

/** @param at in the file */
async function flip(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ 0x10;
  await file.write(byte, 0, 1, at);
  await file.close();
}

describe('a received increment whose file rots before it is sealed', () => {
  const rots: [
    what: string,
    rot: (at: Awaited<ReturnType<typeof received>>) => Promise<void>,
    told: RegExp,
  ][] = [
    [
      'in its data',
      ({ partial, layer }) => flip(partial, computeLayout(layer.map, null).dataStart + 70_000),
      /its bytes are not those that were sealed/,
    ],
    ['in its header', ({ partial }) => flip(partial, 0), /not relied upon/],
    [
      'in its digests and its data',
      async ({ partial, layer, files, name }) => {
        await writeFile(join(files, `${name}.digests`), 'rotten');
        await flip(partial, computeLayout(layer.map, null).dataStart + 70_000);
      },
      /not what both sites agreed on/,
    ],
  ];
  it.each(rots)('%s is removed, and comes whole under the next plan', async (_what, rot, told) => {
    const at = await received();
    await rot(at);
    const sealing = seal(at.run);
    await expect(sealing).rejects.toThrow(told);
    await expect(sealing).rejects.toMatchObject({ code: 'PlanBroken' });
    // Neither the increment nor a copy of it is left: two sealed layers with their digests are.
    expect((await readdir(at.files)).length).toBe(4);
    // As a retry whose answer was lost finds it.
    await expect(seal(at.run)).rejects.toMatchObject({ code: 'PlanBroken' });

    const path = await bench.publish(at.layer);
    expect((await readByQemu(path, bench.root)).equals(at.layer.content)).toBe(true);
  });

  it('is not given up while what ails is not its own', async () => {
    const at = await received();
    const full = {
      ...bench.files,
      seal: () => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' })),
    };
    const { received: word } = (await bench.catalog.findSession(at.run.diskTaskUuid)) ?? {};
    if (word == null) throw new Error('nothing was received');
    await expect(sealReceived({ ...bench, files: full }, at.run, word, {})).rejects.toMatchObject({
      code: 'EIO',
    });
    expect(await bench.catalog.findLayout(at.run.diskTaskUuid)).not.toBeNull();
    await seal(at.run);
  });
});
