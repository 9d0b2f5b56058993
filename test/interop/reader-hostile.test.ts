/** Bent images and hostile names: each gives its typed error, in bounded time. */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, open, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { openChain } from '../../src/images/chain.ts';
import { hashContent } from '../../src/images/chain-hash.ts';
import { ImageError } from '../../src/images/errors.ts';
import { qemuImg, qemuIo, qemuSha256, withTempDir } from '../support/qemu.ts';
import { bends, Patcher } from './reader-bends.ts';

describe('a bent image is refused by name', () => {
  test.each(bends)('$name', async ({ options, bend, code, says }) => {
    await withTempDir(async dir => {
      const path = join(dir, 'image.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', ...(options ? ['-o', options] : []), path, '2M');
      await qemuIo(path, ['write -q -P 7 0 64k'], ['-f', 'qcow2']);
      await bend(new Patcher(path));
      const error = await faultOf(dir, path);
      expect(error.code).toBe(code);
      expect(error.message).toMatch(says);
      expect(error.message).toContain(path);
      expect(error.hint).not.toBeNull();
    });
  });

  test('L2 tables that are shared a million times', async () => {
    await withTempDir(async dir => {
      const path = join(dir, 'image.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', path, '512T');
      await qemuIo(path, ['write -q -z 0 512M'], ['-f', 'qcow2']);
      const image = new Patcher(path);
      const entry = Buffer.alloc(8);
      entry.writeBigUInt64BE(await image.readU64(await image.l1()));
      await image.write(await image.l1(), Buffer.alloc(8 * 1024 * 1024, entry));
      const error = await faultOf(dir, path);
      expect(error.code).toBe('ImageCorrupt');
      expect(error.message).toMatch(/some are shared/);
    });
  });

  test.each(['zlib', 'zstd'] as const)('a %s bomb stops at the size of a cluster', async compression => {
    await withTempDir(async dir => {
      const small = join(dir, 'small.qcow2');
      const large = join(dir, 'large.qcow2');
      for (const [path, bits] of [
        [small, 16],
        [large, 21],
      ] as const) {
        const options = `compression_type=${compression},cluster_size=${2 ** bits}`;
        await qemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, '2M');
      }
      await qemuIo(large, ['write -q -c -P 7 0 2M'], ['-f', 'qcow2']);
      await qemuIo(small, ['write -q -c -P 7 0 64k'], ['-f', 'qcow2']);
      const packed = Buffer.alloc(1024);
      const source = await open(large, 'r');
      const at = Number((await new Patcher(large).readU64(await new Patcher(large).l2())) & 0xffff_ffffn);
      await source.read(packed, 0, packed.length, at);
      await source.close();
      const image = new Patcher(small);
      const target = Number((await image.readU64(await image.l2())) & 0xffff_ffffn);
      await image.write(target, packed);
      await image.u64(await image.l2(), (0x4040_0000n << 32n) + BigInt(target));
      const error = await faultOf(dir, small);
      expect(error.code).toBe('ImageCorrupt');
      expect(error.message).toMatch(/larger than 65536 bytes/);
    });
  });
});

describe('hostile places', () => {
  test('a backing file outside the image roots, directly or through a link', async () => {
    await withTempDir(async dir => {
      const root = join(dir, 'root');
      await mkdir(root);
      await qemuImg('create', '-q', '-f', 'qcow2', join(dir, 'secret.qcow2'), '1M');
      await symlink(join(dir, 'secret.qcow2'), join(root, 'link.qcow2'));
      for (const name of ['../secret.qcow2', join(dir, 'secret.qcow2'), 'link.qcow2']) {
        const path = join(root, 'top.qcow2');
        await qemuImg('create', '-q', '-f', 'qcow2', '-b', name, '-F', 'qcow2', path, '1M');
        expect((await faultOf(root, path)).code).toBe('ImageOutsideRoots');
      }
      expect((await faultOf(`${root}x`, join(root, 'top.qcow2'))).code).toBe('ImageOutsideRoots');
    });
  });

  test('a link inside the roots is followed, and names are taken from the folder of the link', async () => {
    await withTempDir(async dir => {
      await mkdir(join(dir, 'real'));
      await qemuImg('create', '-q', '-f', 'qcow2', join(dir, 'base.qcow2'), '1M');
      const real = join(dir, 'real', 'top.qcow2');
      await qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', real, '1M');
      await symlink(real, join(dir, 'top.qcow2'));
      expect((await faultOf(dir, real)).code).toBe('ImageVanished');
      const chain = await openChain(join(dir, 'top.qcow2'), { imageRoots: [dir] });
      expect(chain.layers.map(layer => layer.path)).toEqual([
        join(dir, 'top.qcow2'),
        join(dir, 'base.qcow2'),
      ]);
      await chain.close();
    });
  });

  test('a FIFO, a directory and a device never hang', async () => {
    await withTempDir(async dir => {
      await promisify(execFile)('mkfifo', [join(dir, 'fifo')]);
      expect((await faultOf(dir, join(dir, 'fifo'))).code).toBe('ImageNotRegular');
      await mkdir(join(dir, 'folder'));
      expect((await faultOf(dir, join(dir, 'folder'))).code).toBe('ImageNotRegular');
      expect((await faultOf('/dev', '/dev/zero')).code).toBe('ImageNotRegular');
      expect((await faultOf(dir, join(dir, 'nothing'))).code).toBe('ImageVanished');
    });
  });

  test('a chain that comes back to itself, by whatever name', async () => {
    await withTempDir(async dir => {
      const [a, b] = [join(dir, 'a.qcow2'), join(dir, 'b.qcow2')];
      await qemuImg('create', '-q', '-f', 'qcow2', a, '1M');
      await qemuImg('create', '-q', '-f', 'qcow2', '-b', a, '-F', 'qcow2', b, '1M');
      await symlink(b, join(dir, 'c.qcow2'));
      await qemuImg('rebase', '-u', '-f', 'qcow2', '-b', 'c.qcow2', '-F', 'qcow2', a);
      expect((await faultOf(dir, b)).code).toBe('ImageChainLoop');
    });
  });

  test('64 layers are read, 65 are not', async () => {
    await withTempDir(async dir => {
      const name = (index: number): string => `layer${index}.qcow2`;
      await qemuImg('create', '-q', '-f', 'qcow2', join(dir, name(0)), '1M');
      await qemuIo(join(dir, name(0)), ['write -q -P 9 0 1M'], ['-f', 'qcow2']);
      const template = join(dir, 'template.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', '-b', name(0), '-F', 'qcow2', template, '1M');
      const nameAt = Number(await new Patcher(template).readU64(8));
      for (let index = 1; index <= 64; index += 1) {
        await copyFile(template, join(dir, name(index)));
        const image = new Patcher(join(dir, name(index)));
        await image.write(nameAt, Buffer.from(name(index - 1)));
        await image.u32(16, name(index - 1).length);
      }
      const chain = await openChain(join(dir, name(63)), { imageRoots: [dir] });
      expect(await hashContent(chain)).toBe(await qemuSha256(join(dir, name(0))));
      await chain.close();
      expect((await faultOf(dir, join(dir, name(64)))).code).toBe('ImageChainTooDeep');
    });
  });

  test('internal snapshots are told, and the active state is read', async () => {
    await withTempDir(async dir => {
      const path = join(dir, 'image.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', path, '1M');
      await qemuIo(path, ['write -q -P 1 0 256k'], ['-f', 'qcow2']);
      await qemuImg('snapshot', '-c', 'before', path);
      await qemuIo(path, ['write -q -P 2 64k 256k'], ['-f', 'qcow2']);
      const chain = await openChain(path, { imageRoots: [dir] });
      expect(chain.warnings).toEqual([expect.stringContaining('1 internal snapshots')]);
      expect(await hashContent(chain)).toBe(await qemuSha256(path));
      await chain.close();
    });
  });

  test('a dirty image is read', async () => {
    await withTempDir(async dir => {
      const path = join(dir, 'image.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', path, '1M');
      await qemuIo(path, ['write -q -P 1 0 256k'], ['-f', 'qcow2']);
      const expected = await qemuSha256(path);
      await new Patcher(path).u8(79, 1);
      const chain = await openChain(path, { imageRoots: [dir] });
      expect(await hashContent(chain)).toBe(expected);
      await chain.close();
    });
  });

  test('a file that is renamed away stays readable through the open chain', async () => {
    await withTempDir(async dir => {
      const path = join(dir, 'image.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', path, '1M');
      await writeFile(join(dir, 'other'), 'x');
      const chain = await openChain(path, { imageRoots: [dir] });
      await rename(join(dir, 'other'), path);
      expect(await hashContent(chain)).toHaveLength(64);
      await chain.close();
    });
  });
});

/** Opens, maps and reads all of the image; gives the error that this must end in. */
async function faultOf(root: string, path: string): Promise<ImageError> {
  try {
    const chain = await openChain(path, { imageRoots: [root] });
    try {
      await chain.map();
      await hashContent(chain);
    } finally {
      await chain.close();
    }
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
  throw new Error(`${path} was read without an error`);
}
