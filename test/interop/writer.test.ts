import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createOverlay, writeImage } from '../../src/images/overlay.ts';
import type { BackingFile } from '../../src/images/qcow2/layout.ts';
import {
  qemuCheck,
  qemuIdentical,
  qemuImg,
  qemuIo,
  qemuMap,
  qemuSha256,
  withTempDir,
} from '../support/qemu.ts';
import {
  contentOf,
  mapOf,
  type Run,
  randomBytes,
  readerOf,
  sealLayer,
  withMemoryDir,
} from '../unit/images/replica-fixtures.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const TIB = 1024 * 1024 * MIB;
const SOUND = { corruptions: 0, leaks: 0, checkErrors: 0 };
const CLUSTER_SIZES = Array.from({ length: 13 }, (_, index) => 512 * 2 ** index);

const write = async (
  path: string,
  size: number,
  clusterSizeBytes: number,
  runs: readonly Run[],
  backing?: BackingFile,
) => {
  const map = mapOf(size, clusterSizeBytes, runs);
  const stream = randomBytes(map.dataBytes, clusterSizeBytes + runs.length);
  const base = { path, format: 'qcow2', map, readStream: readerOf(stream) } as const;
  await writeImage(backing === undefined ? base : { ...base, backing });
  return { map, stream };
};

describe('an image that we wrote, to QEMU', () => {
  it.each(CLUSTER_SIZES)(
    'takes writes, zeros, discards, growth and snapshots, clusters of %i',
    async size => {
      await withMemoryDir(async dir => {
        const path = join(dir, 'image.qcow2');
        // Ends inside a cluster and, in small clusters, needs several tables of each kind.
        const diskBytes = Math.min(4096 * size, 8 * MIB) + 512;
        const { map, stream } = await write(path, diskBytes, size, [
          ['data', 1],
          ['zero', 2],
          ['hole', 1],
          ['data', Math.floor(diskBytes / size / 2)],
        ]);
        expect(await qemuCheck(path)).toEqual(SOUND);
        const content = contentOf(map, stream, null);
        const end = diskBytes - 512;
        await qemuIo(
          path,
          [
            'read -P 0 0 0',
            `write -P 7 ${size} 1024`,
            `write -z ${size * 4} 512`,
            `write -P 9 ${end} 512`,
            `discard 0 ${size}`,
            `write -P 3 ${Math.floor(diskBytes / 1024) * 512} 4096`,
          ],
          ['-f', 'qcow2'],
        );
        content
          .fill(7, size, size + 1024)
          .fill(0, size * 4, size * 4 + 512)
          .fill(9, end, end + 512);
        content.fill(0, 0, size);
        const middle = Math.floor(diskBytes / 1024) * 512;
        content.fill(3, middle, middle + 4096);
        expect(await qemuCheck(path)).toEqual(SOUND);
        await qemuImg('snapshot', '-c', 'inner', path);
        await qemuImg('resize', '-q', '-f', 'qcow2', path, String(diskBytes + 3 * MIB));
        await qemuIo(path, [`write -P 1 ${diskBytes + MIB} 1M`], ['-f', 'qcow2']);
        expect(await qemuCheck(path)).toEqual(SOUND);
        const raw = join(dir, 'raw');
        await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
        expect((await readFile(raw)).subarray(0, diskBytes).equals(content)).toBe(true);
      });
    },
  );

  it.each([0, 512, 65536])('is sound at a size of %i bytes', async diskBytes => {
    await withMemoryDir(async dir => {
      const path = join(dir, 'image.qcow2');
      const { map, stream } = await write(path, diskBytes, 65536, [['data', 1]]);
      const content = contentOf(map, stream, null);
      expect(await qemuCheck(path)).toEqual(SOUND);
      await qemuImg('resize', '-q', '-f', 'qcow2', path, '1M');
      await qemuIo(path, ['write -P 5 512k 64k'], ['-f', 'qcow2']);
      expect(await qemuCheck(path)).toEqual(SOUND);
      const raw = join(dir, 'raw');
      await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
      expect((await readFile(raw)).subarray(0, diskBytes).equals(content)).toBe(true);
    });
  });

  it('has its extents where the map says, layer by layer', async () => {
    await withMemoryDir(async dir => {
      const c = 64 * KIB;
      await write(join(dir, 'base'), 10 * c, c, [
        ['data', 4],
        ['zero', 2],
      ]);
      const backing = { name: 'base', format: 'qcow2' } as const;
      await write(
        join(dir, 'top'),
        12 * c,
        c,
        [
          ['hole', 1],
          ['data', 1],
          ['zero', 1],
          ['hole', 4],
          ['data', 1],
        ],
        backing,
      );
      const map = (await qemuMap(join(dir, 'top'))).map(({ start, length, depth, present, zero, data }) => [
        start / c,
        length / c,
        present ? depth : null,
        data ? 'data' : zero ? 'zero' : 'other',
      ]);
      expect(map).toEqual([
        [0, 1, 1, 'data'],
        [1, 1, 0, 'data'],
        [2, 1, 0, 'zero'],
        [3, 1, 1, 'data'],
        [4, 2, 1, 'zero'],
        [6, 1, null, 'zero'],
        [7, 1, 0, 'data'],
        [8, 2, null, 'zero'],
        [10, 2, null, 'zero'],
      ]);
    });
  });

  it('of 4 TiB is small, checked in no time and written at its end', async () => {
    await withTempDir(async dir => {
      const path = join(dir, 'image.qcow2');
      await write(path, 4 * TIB, 64 * KIB, [
        ['data', 1],
        ['hole', 60_000_000],
        ['data', 3],
        ['zero', 1000],
      ]);
      expect((await stat(path)).size).toBeLessThan(MIB);
      await qemuIo(path, [`write -P 1 ${4 * TIB - 64 * KIB} 64k`], ['-f', 'qcow2']);
      expect(await qemuCheck(path)).toEqual(SOUND);
    });
  });
});

describe('a chain of replicas', () => {
  const runsOf: Run[][] = [[['data', 30]], [['hole', 3], ['data', 5], ['zero', 6]], [['zero', 2], ['hole', 20], ['data', 4]]]; // biome-ignore format: one layer an entry
  const sizes = [5 * MIB, 3 * MIB + 512, 6 * MIB];
  const sealChain = async (dir: string) => {
    const names: string[] = [];
    let content: Buffer | null = null;
    for (const [index, runs] of runsOf.entries()) {
      const below = names.at(-1);
      const backing = below === undefined ? null : ({ name: below, format: 'qcow2' } as const);
      const map = mapOf(sizes[index] ?? 0, 64 * KIB, runs);
      const stream = randomBytes(map.dataBytes, index + 40);
      names.push(
        await sealLayer(dir, {
          map,
          stream,
          backing,
          hostSnapshot: `00000000-0000-4000-8000-00000000000${index}`,
        }),
      );
      content = contentOf(map, stream, content);
    }
    const model = join(dir, 'model.raw');
    await writeFile(model, content ?? '');
    return { names, model };
  };
  const identical = (dir: string, name: string, model: string) =>
    qemuIdentical(join(dir, name), model, ['qcow2', 'raw']);

  it('compares equal, by QEMU, to what was replicated', async () => {
    await withMemoryDir(async dir => {
      const { names, model } = await sealChain(dir);
      const top = names.at(-1) ?? '';
      expect(await identical(dir, top, model)).toBe(true);
      expect(await qemuSha256(join(dir, top))).toBe(await qemuSha256(model, 'raw'));
      const info = JSON.parse(await qemuImg('info', '--output=json', '--backing-chain', join(dir, top)));
      expect(info.map((layer: Record<string, unknown>) => layer['backing-filename'])).toEqual([
        names[1],
        names[0],
        undefined,
      ]);
      expect(info[0]).toMatchObject({
        'backing-filename-format': 'qcow2',
        'virtual-size': 6 * MIB,
        'format-specific': { data: { compat: '1.1', 'lazy-refcounts': false, 'refcount-bits': 16 } },
      });
    });
  });

  it('is rebased to an older base, and renamed beneath, by QEMU', async () => {
    await withMemoryDir(async dir => {
      const { names, model } = await sealChain(dir);
      const [bottom = '', , top = ''] = names;
      await qemuImg('rebase', '-f', 'qcow2', '-b', bottom, '-F', 'qcow2', join(dir, top));
      expect(await qemuCheck(join(dir, top))).toEqual(SOUND);
      expect(await identical(dir, top, model)).toBe(true);
      await qemuImg(
        'convert',
        '-f',
        'qcow2',
        '-O',
        'qcow2',
        join(dir, bottom),
        join(dir, 'a-longer-name-of-the-same-base.qcow2'),
      );
      await qemuImg(
        'rebase',
        '-u',
        '-f',
        'qcow2',
        '-b',
        'a-longer-name-of-the-same-base.qcow2',
        '-F',
        'qcow2',
        join(dir, top),
      );
      expect(await qemuCheck(join(dir, top))).toEqual(SOUND);
      expect(await identical(dir, top, model)).toBe(true);
    });
  });

  it('is committed into its base by QEMU', async () => {
    await withMemoryDir(async dir => {
      const { names, model } = await sealChain(dir);
      const [, middle = '', top = ''] = names;
      await qemuImg('commit', '-q', '-f', 'qcow2', join(dir, top));
      expect(await qemuCheck(join(dir, middle))).toEqual(SOUND);
      expect(await identical(dir, middle, model)).toBe(true);
    });
  });
});

describe('an overlay for the operator', () => {
  it.each(['absolute', 'relative', 'with a colon'])(
    'reads as its base and takes writes, named %s',
    async how => {
      await withMemoryDir(async dir => {
        const name = how === 'with a colon' ? 'vda:disk.qcow2' : 'vda.qcow2';
        const { map, stream } = await write(join(dir, name), 3 * MIB, 64 * KIB, [['data', 20]]);
        const content = contentOf(map, stream, null);
        const before = await readFile(join(dir, name));
        const path = join(dir, 'thin.qcow2');
        await createOverlay({
          path,
          backingPath: how === 'absolute' ? join(dir, name) : name,
          backingFormat: 'qcow2',
          virtualSizeBytes: 3 * MIB,
          clusterSizeBytes: 64 * KIB,
        });
        expect(await qemuCheck(path)).toEqual(SOUND);
        await writeFile(join(dir, 'model.raw'), content);
        expect(await qemuIdentical(path, join(dir, 'model.raw'), ['qcow2', 'raw'])).toBe(true);
        await qemuIo(path, ['write -P 8 1M 100k'], ['-f', 'qcow2']);
        await writeFile(join(dir, 'model.raw'), content.fill(8, MIB, MIB + 100 * KIB));
        expect(await qemuIdentical(path, join(dir, 'model.raw'), ['qcow2', 'raw'])).toBe(true);
        expect(await qemuCheck(path)).toEqual(SOUND);
        expect((await readFile(join(dir, name))).equals(before)).toBe(true);
      });
    },
  );

  it('and a full copy never replace a file, and leave no other behind', async () => {
    await withMemoryDir(async dir => {
      const path = join(dir, 'taken');
      await writeFile(path, 'mine');
      const map = mapOf(MIB, 64 * KIB, [['data', 1]]);
      const readStream = readerOf(randomBytes(map.dataBytes, 1));
      for (const attempt of [
        createOverlay({
          path,
          backingPath: '/x',
          backingFormat: 'raw',
          virtualSizeBytes: MIB,
          clusterSizeBytes: 65536,
        }),
        writeImage({ path, format: 'raw', map, readStream }),
        writeImage({ path, format: 'qcow2', map, readStream }),
      ]) {
        await expect(attempt).rejects.toMatchObject({ code: 'FileExists' });
      }
      // Even one that appears while the copy runs.
      const racing = writeImage({
        path: join(dir, 'racing'),
        format: 'raw',
        map,
        readStream: async () => writeFile(join(dir, 'racing'), 'mine too'),
      });
      await expect(racing).rejects.toMatchObject({ code: 'FileExists' });
      expect(await readdir(dir)).toEqual(['racing', 'taken']);
      expect(await readFile(join(dir, 'racing'), 'utf8')).toBe('mine too');
    });
  });

  it('a raw full copy is sparse', async () => {
    await withTempDir(async dir => {
      const map = mapOf(1024 * MIB, 64 * KIB, [
        ['hole', 1000],
        ['data', 2],
        ['zero', 100],
      ]);
      const path = join(dir, 'copy.raw');
      await writeImage({ path, format: 'raw', map, readStream: readerOf(randomBytes(map.dataBytes, 2)) });
      const { size, blocks } = await stat(path);
      expect(size).toBe(1024 * MIB);
      expect(blocks * 512).toBeLessThan(MIB);
    });
  });
});
