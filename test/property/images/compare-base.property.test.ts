import { createHash } from 'node:crypto';
import { chmod, open } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BaseRun, openCompareBase } from '../../../src/images/replica/compare-base.ts';
import { readDigestFile } from '../../../src/images/replica/digest-file.ts';
import { blake3, toHex } from '../../../src/lib/digest.ts';
import {
  contentOf,
  mapOf,
  type Run,
  randomBytes,
  sealLayer,
  withMemoryDir,
} from '../../unit/images/replica-fixtures.ts';

const KIB = 1024;
const CLUSTER = 64 * KIB;

interface MadeLayer {
  readonly clusters: number;
  readonly runs: readonly Run[];
}

const layer: fc.Arbitrary<MadeLayer> = fc.record({
  clusters: fc.integer({ min: 1, max: 60 }),
  runs: fc.array(
    fc.tuple(
      fc.constantFrom('data' as const, 'zero' as const, 'hole' as const),
      fc.integer({ min: 1, max: 20 }),
    ),
    { maxLength: 8 },
  ),
});
const stack = fc.array(layer, { minLength: 1, maxLength: 4 });
const clusterSizes = fc.constantFrom(16 * KIB, 64 * KIB, 2048 * KIB);

/** Seals a chain of layers. @returns its files, the top first, and what a guest reads */
async function makeChain(dir: string, layers: readonly MadeLayer[]) {
  const paths: string[] = [];
  let content: Buffer | null = null;
  for (const [index, { clusters, runs }] of layers.entries()) {
    const map = mapOf(clusters * CLUSTER, CLUSTER, runs);
    const stream = randomBytes(map.dataBytes, index + 1);
    const below = paths[0];
    const backing =
      below === undefined ? null : { name: below.slice(dir.length + 1), format: 'qcow2' as const };
    const hostSnapshot = `00000000-0000-4000-8000-00000000000${index}`;
    content = contentOf(map, stream, content);
    paths.unshift(join(dir, await sealLayer(dir, { map, stream, backing, hostSnapshot })));
  }
  const expected = await Promise.all(
    paths.map(async path => toHex((await readDigestFile(`${path}.digests`)).contentDigest)),
  );
  return { paths, content: content ?? Buffer.alloc(0), expected };
}

interface Hashed {
  readonly runs: readonly BaseRun[];
  readonly doubt: string | null;
}

async function hashed(
  dir: string,
  topPath: string,
  expected: readonly string[] | null,
  shape: { virtualSizeBytes: number; clusterSizeBytes: number },
): Promise<Hashed> {
  const base = await openCompareBase({ topPath, topFormat: 'qcow2', imageRoots: [dir], shape, expected });
  try {
    const runs: BaseRun[] = [];
    for await (const run of base.runs()) runs.push({ ...run, hashes: Buffer.from(run.hashes) });
    return { runs, doubt: base.doubt };
  } finally {
    await base.close();
  }
}

/** Every cluster once and in order, zeros only where the content has them, hashes those of the content. */
function assertHashes(
  { runs }: Hashed,
  content: Buffer,
  { virtualSizeBytes, clusterSizeBytes }: { virtualSizeBytes: number; clusterSizeBytes: number },
): void {
  const seen = Buffer.alloc(virtualSizeBytes);
  content.copy(seen);
  let offset = 0;
  for (const run of runs) {
    expect(run.offset).toBe(offset);
    for (let index = 0; index < run.clusters; index += 1) {
      const cluster = seen.subarray(offset, Math.min(offset + clusterSizeBytes, virtualSizeBytes));
      if (run.kind === 'zero') expect(cluster.every(byte => byte === 0)).toBe(true);
      else expect(run.hashes.subarray(index * 32, index * 32 + 32).equals(blake3(cluster))).toBe(true);
      offset += cluster.length;
    }
  }
  expect(offset).toBe(virtualSizeBytes);
  expect(runs.some((run, index) => run.kind === 'zero' && runs[index + 1]?.kind === 'zero')).toBe(false);
}

describe('what a replica has, hashed to be compared with', () => {
  it('is every cluster of the disk as a guest reads it, smaller or larger than the base, and proves the base', async () => {
    await fc.assert(
      fc.asyncProperty(
        stack,
        clusterSizes,
        fc.integer({ min: 1, max: 70 }),
        (layers, clusterSizeBytes, clusters) =>
          withMemoryDir(async dir => {
            const { paths, content, expected } = await makeChain(dir, layers);
            const shape = { virtualSizeBytes: clusters * CLUSTER, clusterSizeBytes };
            const found = await hashed(dir, paths[0] ?? '', expected, shape);
            assertHashes(found, content.subarray(0, shape.virtualSizeBytes), shape);
            expect(found.doubt).toBeNull();
            expect(await hashed(dir, paths[0] ?? '', expected, shape)).toEqual(found);
          }),
      ),
      { numRuns: 60 },
    );
  }, 60_000);

  it('tells of every byte of data that changed, in whatever layer, and hashes what is there now', async () => {
    await fc.assert(
      fc.asyncProperty(stack, fc.nat(), fc.nat(), (layers, which, where) =>
        withMemoryDir(async dir => {
          const { paths, content, expected } = await makeChain(dir, layers);
          const path = paths[which % paths.length] ?? '';
          const { dataBytes } = await readDigestFile(`${path}.digests`);
          fc.pre(dataBytes > 0);
          await chmod(path, 0o644);
          const file = await open(path, 'r+');
          const at = (await file.stat()).size - dataBytes + (where % dataBytes);
          const byte = Buffer.alloc(1);
          await file.read(byte, 0, 1, at);
          await file.write(Buffer.from([(byte[0] ?? 0) ^ 0xff]), 0, 1, at);
          await file.close();
          const shape = { virtualSizeBytes: content.length, clusterSizeBytes: CLUSTER };
          const found = await hashed(dir, paths[0] ?? '', expected, shape);
          expect(found.doubt).toContain(path);
          const differing = found.runs
            .flatMap(run => (run.kind === 'hashed' ? [run] : []))
            .reduce(
              (sum, run) =>
                sum +
                Array.from({ length: run.clusters }, (_, index) => {
                  const start = run.offset + index * CLUSTER;
                  const hash = run.hashes.subarray(index * 32, index * 32 + 32);
                  return hash.equals(blake3(content.subarray(start, start + CLUSTER))) ? 0 : 1;
                }).reduce<number>((left, right) => left + right, 0),
              0,
            );
          expect(differing).toBeLessThanOrEqual(1);
        }),
      ),
      { numRuns: 60 },
    );
  }, 60_000);

  it('is in doubt with another digest in the catalog, and never proven without digest files', async () => {
    await withMemoryDir(async dir => {
      const { paths, content, expected } = await makeChain(dir, [{ clusters: 20, runs: [['data', 4]] }]);
      const shape = { virtualSizeBytes: content.length, clusterSizeBytes: CLUSTER };
      const top = paths[0] ?? '';
      const other = createHash('md5').update('other').digest('hex');
      expect((await hashed(dir, top, [other], shape)).doubt).toContain('another content');
      expect((await hashed(dir, top, [...expected, other], shape)).doubt).toContain('1 layers');
      expect((await hashed(dir, top, null, shape)).doubt).toContain('no digests');
    });
  });
});
