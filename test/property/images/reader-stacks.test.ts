import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ExtentKind, ExtentMap } from '../../../src/domain/extent-map.ts';
import { type ImageChain, openChain } from '../../../src/images/chain.ts';
import { hashContent } from '../../../src/images/chain-hash.ts';
import { openLayerSource } from '../../../src/images/layer-source.ts';
import { proveChain } from '../../../src/images/proof.ts';
import { fileSha256, type QemuMapEntry, qemuImg, qemuMap, withTempDir } from '../../support/qemu.ts';
import { makeStack, stackPlan } from './reader-stacks.ts';

const SEED = Number(process.env.OFFSITE_PROPERTY_SEED ?? 20261124);
const RUNS = Number(process.env.OFFSITE_PROPERTY_RUNS ?? 60);

test('random stacks read, map and flatten as QEMU has them', async () => {
  await fc.assert(
    fc.asyncProperty(stackPlan, fc.nat(), (plan, pick) =>
      withTempDir(async dir => {
        const topPath = await makeStack(dir, plan);
        const chain = await openChain(topPath, { imageRoots: [dir] });
        try {
          const target = await rawContent(dir, topPath, 'qcow2');
          expect(target.length).toBe(chain.virtualSizeBytes);
          expect(await hashContent(chain)).toBe(await fileSha256(join(dir, 'content.raw')));
          await expectSameReads(chain, target, pick);
          const entries = await qemuMap(topPath);
          expectSameMap(chain, await chain.map(), entries, chain.layers.length);
          const base = 1 + (pick % chain.layers.length);
          if (base < chain.layers.length) await expectIncrement(dir, chain, base, target, entries);
        } finally {
          await chain.close();
        }
      }),
    ),
    { seed: SEED, numRuns: RUNS },
  );
}, 120_000);

async function rawContent(dir: string, path: string, format: string): Promise<Buffer> {
  await qemuImg('convert', '-f', format, '-O', 'raw', path, join(dir, 'content.raw'));
  return readFile(join(dir, 'content.raw'));
}

async function expectSameReads(chain: ImageChain, target: Buffer, pick: number): Promise<void> {
  for (let round = 0; round < 4; round += 1) {
    const offset = (pick * 7919 * (round + 1)) % target.length;
    const part = Buffer.alloc(Math.min(100_003 * round + 17, target.length - offset), 0xee);
    await chain.read(part, offset);
    expect(part.equals(target.subarray(offset, offset + part.length)), `read at ${offset}`).toBe(true);
  }
}

/** What the layers above `baseIndex` say of each sector, by `qemu-img map`. */
function sectorKinds(chain: ImageChain, entries: readonly QemuMapEntry[], baseIndex: number): ExtentKind[] {
  const kinds: ExtentKind[] = new Array(chain.virtualSizeBytes / 512).fill('hole');
  // QEMU calls what a shorter layer cuts off unallocated; for us that layer says zero.
  const shortest = Math.min(...chain.layers.slice(0, baseIndex).map(layer => layer.virtualSizeBytes));
  kinds.fill('zero', shortest / 512);
  for (const { start, length, depth, present, data } of entries) {
    if (!present || depth >= baseIndex) continue;
    // A raw file's own holes are data to us.
    const isRaw = chain.layers[depth]?.format === 'raw';
    const rawEnd = isRaw ? (chain.layers[depth]?.virtualSizeBytes ?? 0) : 0;
    for (let sector = start / 512; sector < (start + length) / 512; sector += 1) {
      kinds[sector] = data || sector * 512 < rawEnd ? 'data' : 'zero';
    }
  }
  return kinds;
}

function expectSameMap(
  chain: ImageChain,
  map: ExtentMap,
  entries: readonly QemuMapEntry[],
  base: number,
): void {
  const kinds = sectorKinds(chain, entries, base);
  const baseEnd = chain.layers[base]?.virtualSizeBytes ?? 0;
  for (const { offset, length, kind } of map) {
    for (let start = offset; start < offset + length; start += map.clusterSizeBytes) {
      const end = Math.min(start + map.clusterSizeBytes, offset + length);
      const seen = new Set(kinds.slice(start / 512, end / 512));
      const shown = new Set(kinds.slice(start / 512, Math.max(start, Math.min(end, baseEnd)) / 512));
      const allowed = kindsAllowed(seen, shown);
      expect(allowed, `cluster at ${start}, QEMU says ${[...seen].join('+')}`).toContain(kind);
    }
  }
}

/** @param seen what the layers say of the whole cluster @param shown what they say where there is a base beneath */
function kindsAllowed(seen: ReadonlySet<ExtentKind>, shown: ReadonlySet<ExtentKind>): ExtentKind[] {
  if (seen.has('data') || (shown.has('zero') && shown.has('hole'))) return ['data'];
  // Where nothing deeper could show, zero and hole mean the same.
  return shown.size === 0 ? ['zero', 'hole'] : [...shown];
}

async function expectIncrement(
  dir: string,
  chain: ImageChain,
  base: number,
  target: Buffer,
  entries: readonly QemuMapEntry[],
): Promise<void> {
  const layer = chain.layers[base];
  const topPath = chain.layers[0]?.path ?? '';
  if (layer === undefined) throw new Error('no such layer');
  const proof = await proveChain(topPath, { imageRoots: [dir] });
  const source = await openLayerSource({ topPath, basePath: layer.path, imageRoots: [dir], proof });
  try {
    expect(Buffer.from(source.map.encoded)).toEqual(Buffer.from((await chain.map({ above: base })).encoded));
    expectSameMap(chain, source.map, entries, base);
    const flat = Buffer.alloc(target.length);
    (await baseContent(dir, chain, base)).copy(flat);
    let position = 0;
    for (const { offset, length, kind } of source.map) {
      if (kind === 'zero') flat.fill(0, offset, offset + length);
      if (kind !== 'data') continue;
      await source.readStream(flat.subarray(offset, offset + length), position);
      position += length;
    }
    expect(position).toBe(source.map.dataBytes);
    expect(flat.equals(target), 'base and increment give the target').toBe(true);
    await source.assertUnchanged();
  } finally {
    await source.close();
  }
}

/** The base as QEMU shows it within this chain: a json: name may have cut off what lies beneath. */
async function baseContent(dir: string, chain: ImageChain, base: number): Promise<Buffer> {
  let spec: object | null = null;
  for (const layer of chain.layers.slice(base).reverse()) {
    const node: object = { driver: layer.format, file: { driver: 'file', filename: layer.path } };
    spec = layer.format === 'raw' ? node : { ...node, backing: spec };
  }
  await qemuImg('convert', '-O', 'raw', `json:${JSON.stringify(spec)}`, join(dir, 'base.raw'));
  return readFile(join(dir, 'base.raw'));
}
