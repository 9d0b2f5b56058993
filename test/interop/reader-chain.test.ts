/** Chains and layer sources against QEMU's tools, case by case. */
import { randomFillSync } from 'node:crypto';
import { open, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { LayerProof } from '../../src/contract/sync.ts';
import { PlanBrokenError } from '../../src/domain/errors.ts';
import type { ExtentMap } from '../../src/domain/extent-map.ts';
import { type ImageChain, openChain } from '../../src/images/chain.ts';
import { hashContent } from '../../src/images/chain-hash.ts';
import { type ChainLayerSource, openLayerSource } from '../../src/images/layer-source.ts';
import { compareProofs, proveChain } from '../../src/images/proof.ts';
import { qemuImg, qemuIo, qemuSha256, withTempDir } from '../support/qemu.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

async function withChain<T>(dir: string, path: string, work: (chain: ImageChain) => Promise<T>): Promise<T> {
  const chain = await openChain(path, { imageRoots: [dir] });
  try {
    return await work(chain);
  } finally {
    await chain.close();
  }
}

const listed = (map: ExtentMap): string[] =>
  [...map].map(({ offset, length, kind }) => `${offset / KIB}k+${length / KIB}k ${kind}`);

describe('a chain', () => {
  test('clips at every layer: what a shorter layer cuts off reads as zeros', async () => {
    await withTempDir(async dir => {
      const [base, middle, top] = ['base', 'middle', 'top'].map(name => join(dir, `${name}.qcow2`)) as [
        string,
        string,
        string,
      ];
      await qemuImg('create', '-q', '-f', 'qcow2', base, '2M');
      await qemuIo(base, ['write -q -P 7 0 2M'], ['-f', 'qcow2']);
      await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', middle, '1M');
      await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'middle.qcow2', '-F', 'qcow2', top, '2M');
      await withChain(dir, top, async chain => {
        expect(await hashContent(chain)).toBe(await qemuSha256(top));
        expect(listed(await chain.map())).toEqual(['0k+1024k data', '1024k+1024k zero']);
        expect(listed(await chain.map({ above: 2 }))).toEqual(['0k+1024k hole', '1024k+1024k zero']);
        expect(listed(await chain.map({ above: 1 }))).toEqual(['0k+2048k hole']);
        expect(listed(await chain.map({ above: chain.layers[1]?.identity }))).toEqual(['0k+2048k hole']);
      });
    });
  });

  test('reads nested json: names, and backing: null hides what the header names', async () => {
    await withTempDir(async dir => {
      const [base, middle] = [join(dir, 'base.qcow2'), join(dir, 'middle.qcow2')];
      await qemuImg('create', '-q', '-f', 'qcow2', base, '1M');
      await qemuIo(base, ['write -q -P 7 0 1M'], ['-f', 'qcow2']);
      await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', middle);
      await qemuIo(middle, ['write -q -P 8 0 64k'], ['-f', 'qcow2']);
      const file = { driver: 'file', filename: middle };
      const names = [
        { driver: 'qcow2', file, backing: null },
        { driver: 'qcow2', file, backing: { driver: 'qcow2', file: { driver: 'file', filename: base } } },
        { driver: 'qcow2', 'file.filename': middle, 'backing.driver': 'raw', 'backing.file.filename': base },
      ];
      for (const [index, name] of names.entries()) {
        const top = join(dir, `top${index}.qcow2`);
        await qemuImg(
          'create',
          '-q',
          '-f',
          'qcow2',
          '-b',
          `json:${JSON.stringify(name)}`,
          '-F',
          'qcow2',
          top,
          '1M',
        );
        await withChain(dir, top, async chain => {
          expect(chain.layers).toHaveLength(index === 0 ? 2 : 3);
          expect(await hashContent(chain)).toBe(await qemuSha256(top));
        });
      }
    });
  });

  test.each(['zlib', 'zstd'])('reads a whole %s image of random and even data', async compression => {
    await withTempDir(async dir => {
      const raw = join(dir, 'content.raw');
      const content = randomFillSync(Buffer.alloc(6 * MIB));
      for (let at = 0; at < content.length; at += 300_000) content.fill(at % 251, at, at + 200_000);
      await writeFile(raw, content);
      const path = join(dir, 'packed.qcow2');
      await qemuImg('convert', '-c', '-O', 'qcow2', '-o', `compression_type=${compression}`, raw, path);
      await withChain(dir, path, async chain => {
        const target = Buffer.alloc(content.length - 777);
        await chain.read(target, 777);
        expect(target.equals(content.subarray(777))).toBe(true);
      });
    });
  });

  test('maps 8 TiB of almost nothing at once', async () => {
    await withTempDir(async dir => {
      const path = join(dir, 'huge.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4096', path, '8T');
      await qemuIo(path, ['write -q -P 1 7T 4k', 'write -q -z 3T 1M'], ['-f', 'qcow2']);
      const top = join(dir, 'top.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'huge.qcow2', '-F', 'qcow2', top);
      await withChain(dir, top, async chain => {
        const map = await chain.map();
        expect(map.clusterSizeBytes).toBe(4096);
        expect(map.extentCount).toBe(5);
        expect(map.dataBytes).toBe(4096);
      });
    });
  });

  test('a cluster of the replica that is partly hole and partly zero over a base is data', async () => {
    await withTempDir(async dir => {
      await qemuImg('create', '-q', '-f', 'qcow2', join(dir, 'base.qcow2'), '1M');
      const top = join(dir, 'top.qcow2');
      const options = ['-o', 'cluster_size=512', '-b', 'base.qcow2', '-F', 'qcow2'];
      await qemuImg('create', '-q', '-f', 'qcow2', ...options, top);
      await qemuIo(
        top,
        ['write -q -z 8k 512', 'write -q -z 16k 4k', 'write -q -P 1 33k 512'],
        ['-f', 'qcow2'],
      );
      await withChain(dir, top, async chain => {
        expect(listed(await chain.map({ above: 1 }))).toEqual([
          '0k+8k hole',
          '8k+4k data',
          '12k+4k hole',
          '16k+4k zero',
          '20k+12k hole',
          '32k+4k data',
          '36k+988k hole',
        ]);
        expect(listed(await chain.map())[1]).toBe('8k+4k zero');
      });
    });
  });
});

/** A base and a top of 4 MiB with scattered writes. */
async function makePair(dir: string): Promise<{ basePath: string; topPath: string; proof: LayerProof[] }> {
  const [basePath, topPath] = [join(dir, 'base.qcow2'), join(dir, 'top.qcow2')];
  await qemuImg('create', '-q', '-f', 'qcow2', basePath, '4M');
  await qemuIo(basePath, ['write -q -P 1 0 3M'], ['-f', 'qcow2']);
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', topPath);
  const writes = [3, 9, 10, 11, 30, 50].map(cluster => `write -q -P ${cluster} ${cluster * 64 + 1}k 62k`);
  await qemuIo(topPath, writes, ['-f', 'qcow2']);
  return { basePath, topPath, proof: await proveChain(topPath, { imageRoots: [dir] }) };
}

async function withSource<T>(
  dir: string,
  pair: { basePath: string | null; topPath: string; proof: readonly LayerProof[] },
  work: (source: ChainLayerSource) => Promise<T>,
): Promise<T> {
  const source = await openLayerSource({ ...pair, imageRoots: [dir] });
  try {
    return await work(source);
  } finally {
    await source.close();
  }
}

describe('a layer source', () => {
  test('gives the same stream in any pieces, overlapping and from any position', async () => {
    await withTempDir(async dir => {
      const pair = await makePair(dir);
      await withSource(dir, pair, async source => {
        expect(source.map.dataBytes).toBe(6 * 64 * KIB);
        const whole = Buffer.alloc(source.map.dataBytes);
        await source.readStream(whole, 0);
        const raw = join(dir, 'content.raw');
        await qemuImg('convert', '-O', 'raw', pair.topPath, raw);
        const content = await readFile(raw);
        const parts = [...source.map].filter(({ kind }) => kind === 'data');
        expect(
          whole.equals(Buffer.concat(parts.map(e => content.subarray(e.offset, e.offset + e.length)))),
        ).toBe(true);
        const pieces = [300_000, 0, 65_535, 12_345, 131_072].map(async position => {
          const piece = Buffer.alloc(70_000);
          await source.readStream(piece, position);
          return piece.equals(whole.subarray(position, position + piece.length));
        });
        expect(await Promise.all(pieces)).toEqual([true, true, true, true, true]);
        await expect(source.readStream(Buffer.alloc(2), source.map.dataBytes - 1)).rejects.toThrow(
          RangeError,
        );
        await source.assertUnchanged();
      });
    });
  });

  const changes: Record<string, (pair: { basePath: string; topPath: string }, dir: string) => Promise<void>> =
    {
      'the base is written to': ({ basePath }) =>
        qemuIo(basePath, ['write -q -P 5 0 4k'], ['-f', 'qcow2']).then(() => {}),
      'the base is gone': ({ basePath }) => rm(basePath),
      'the top is gone': ({ topPath }) => rm(topPath),
      'the base is replaced by an equal file': async ({ basePath }, dir) => {
        await writeFile(join(dir, 'copy'), await readFile(basePath));
        await rename(join(dir, 'copy'), basePath);
      },
      'the header is edited and the times are put back': async ({ topPath }) => {
        const file = await open(topPath, 'r+');
        const { atime, mtime } = await file.stat();
        await file.write(Buffer.of(0xff), 0, 1, 90);
        await file.close();
        await utimes(topPath, atime, mtime);
      },
      'the header is spoilt': ({ topPath }) => writeFile(topPath, 'nothing', { flag: 'r+' }),
      'the top is rebased': ({ topPath }) =>
        qemuImg('rebase', '-u', '-f', 'qcow2', '-b', '', topPath).then(() => {}),
    };

  test.each(Object.keys(changes))('breaks the plan when %s', async change => {
    await withTempDir(async dir => {
      const pair = await makePair(dir);
      await withSource(dir, pair, async source => {
        await changes[change]?.(pair, dir);
        await expect(source.assertUnchanged()).rejects.toThrow(PlanBrokenError);
      });
      await expect(openLayerSource({ ...pair, imageRoots: [dir] })).rejects.toThrow(PlanBrokenError);
    });
  });

  test('breaks the plan when the base is no layer beneath the top', async () => {
    await withTempDir(async dir => {
      const pair = await makePair(dir);
      const other = join(dir, 'other.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', other, '4M');
      for (const basePath of [other, join(dir, 'nothing.qcow2')]) {
        await expect(openLayerSource({ ...pair, basePath, imageRoots: [dir] })).rejects.toThrow(
          PlanBrokenError,
        );
      }
    });
  });

  test('proofs of an untouched chain agree, and name the first doubt', async () => {
    await withTempDir(async dir => {
      const { topPath, basePath, proof } = await makePair(dir);
      expect(compareProofs(proof, await proveChain(topPath, { imageRoots: [dir] }))).toBeNull();
      await qemuIo(basePath, ['write -q -P 5 0 4k'], ['-f', 'qcow2']);
      const after = await proveChain(topPath, { imageRoots: [dir] });
      expect(compareProofs(proof, after)).toMatch(/layer 1 .*written to/);
      expect(compareProofs(proof, after.slice(0, 1))).toMatch(/1 layers instead of 2/);
    });
  });
});
