import { chmod, copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { ExtentKind, ExtentMap } from '../../../src/domain/extent-map.ts';
import { createOverlay, writeImage } from '../../../src/images/overlay.ts';
import type { BackingFile } from '../../../src/images/qcow2/layout.ts';
import { verifySealed } from '../../../src/images/replica/verify.ts';
import { qemuCheck, qemuImg, qemuIo } from '../../support/qemu.ts';
import {
  contentOf,
  mapOf,
  type Run,
  randomBytes,
  readerOf,
  sealLayer,
  withMemoryDir,
} from '../../unit/images/replica-fixtures.ts';

const SECTOR_BYTES = 512;
const MAX_DISK_BYTES = 4 * 1024 * 1024;
const SOUND = { corruptions: 0, leaks: 0, checkErrors: 0 };

const kind = fc.constantFrom<ExtentKind>('data', 'zero', 'hole');

/** A disk of its own size over the last layer: some larger, some smaller, most no multiple of the cluster. */
const layer = fc.integer({ min: 9, max: 21 }).chain(clusterBits => {
  const clusterSizeBytes = 2 ** clusterBits;
  const maxClusters = Math.min(300, Math.max(4, MAX_DISK_BYTES / clusterSizeBytes));
  const run = fc.tuple(kind, fc.integer({ min: 1, max: Math.ceil(maxClusters / 4) }));
  return fc.record({
    clusterSizeBytes: fc.constant(clusterSizeBytes),
    sectors: fc.integer({ min: 0, max: (maxClusters * clusterSizeBytes) / SECTOR_BYTES }),
    runs: fc.array(run, { maxLength: 12 }),
    pieceBytes: fc.integer({ min: 1000, max: 1024 * 1024 }),
  });
});

const chain = fc.record({
  layers: fc.array(layer, { minLength: 1, maxLength: 4 }),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
  write: fc.record({ sector: fc.nat(), sectors: fc.integer({ min: 1, max: 300 }) }),
});

interface Replica {
  readonly name: string;
  readonly map: ExtentMap;
  readonly stream: Buffer;
  readonly content: Buffer;
}

/** Seals each layer over the one before, and checks it. */
async function sealChain(dir: string, { layers, seed }: { layers: Layer[]; seed: number }): Promise<Replica> {
  let top: Replica | null = null;
  let content: Buffer | null = null;
  for (const [index, { clusterSizeBytes, sectors, runs, pieceBytes }] of layers.entries()) {
    const map = mapOf(sectors * SECTOR_BYTES, clusterSizeBytes, runs as Run[]);
    const stream = randomBytes(map.dataBytes, seed + index);
    const backing: BackingFile | null = top === null ? null : { name: top.name, format: 'qcow2' };
    const hostSnapshot = `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
    const name = await sealLayer(dir, { map, stream, backing, hostSnapshot }, pieceBytes);
    const path = join(dir, name);
    expect(await qemuCheck(path)).toEqual(SOUND);
    expect(await verifySealed(path, { imageRoots: [dir] })).toMatchObject({ damage: null });
    content = contentOf(map, stream, content);
    top = { name, map, stream, content };
  }
  if (top === null) throw new Error('a chain has at least one layer');
  return top;
}

type Layer = { clusterSizeBytes: number; sectors: number; runs: [ExtentKind, number][]; pieceBytes: number };

async function readByQemu(dir: string, name: string): Promise<Buffer> {
  const raw = join(dir, `${name}.raw`);
  await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', join(dir, name), raw);
  return readFile(raw);
}

it('QEMU reads any chain of our layers as the model does, finds no fault, and may write into it', async () => {
  await fc.assert(
    fc.asyncProperty(chain, async input => {
      await withMemoryDir(async dir => {
        const top = await sealChain(dir, input);
        const { name, content, map } = top;
        const { virtualSizeBytes } = map;
        expect((await readByQemu(dir, name)).equals(content)).toBe(true);
        if (virtualSizeBytes === 0) return;

        const offset = (input.write.sector * SECTOR_BYTES) % virtualSizeBytes;
        const length = Math.min(input.write.sectors * SECTOR_BYTES, virtualSizeBytes - offset);
        const written = Buffer.from(content).fill(0x5a, offset, offset + length);
        await createOverlay({
          path: join(dir, 'thin.qcow2'),
          backingPath: name,
          backingFormat: 'qcow2',
          ...{ virtualSizeBytes, clusterSizeBytes: map.clusterSizeBytes },
        });
        await copyFile(join(dir, name), join(dir, 'copy.qcow2'));
        await chmod(join(dir, 'copy.qcow2'), 0o644);
        for (const target of ['thin.qcow2', 'copy.qcow2']) {
          await qemuIo(join(dir, target), [`write -P 0x5a ${offset} ${length}`], ['-f', 'qcow2']);
          expect(await qemuCheck(join(dir, target))).toEqual(SOUND);
          expect((await readByQemu(dir, target)).equals(written)).toBe(true);
        }
      });
    }),
    { numRuns: 25 },
  );
});

it('a full copy, raw or qcow2, is what its map and stream say, also at sizes that are no sectors', async () => {
  const copy = fc.record({ layer, tail: fc.integer({ min: 0, max: 511 }), seed: fc.integer({ min: 1 }) });
  await fc.assert(
    fc.asyncProperty(copy, async ({ layer: { clusterSizeBytes, sectors, runs }, tail, seed }) => {
      await withMemoryDir(async dir => {
        const map = mapOf(sectors * SECTOR_BYTES + tail, clusterSizeBytes, runs);
        const stream = randomBytes(map.dataBytes, seed);
        const content = contentOf(map, stream, null);
        for (const format of ['raw', 'qcow2'] as const) {
          await writeImage({ path: join(dir, format), format, map, readStream: readerOf(stream) });
        }
        expect((await readFile(join(dir, 'raw'))).equals(content)).toBe(true);
        expect(await qemuCheck(join(dir, 'qcow2'))).toEqual(SOUND);
        const padded = Buffer.concat([content, Buffer.alloc((SECTOR_BYTES - (tail || 512)) % 512)]);
        expect((await readByQemu(dir, 'qcow2')).equals(padded)).toBe(true);
      });
    }),
    { numRuns: 20 },
  );
});
