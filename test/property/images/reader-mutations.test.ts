import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openChain } from '../../../src/images/chain.ts';
import { hashContent } from '../../../src/images/chain-hash.ts';
import { ImageError } from '../../../src/images/errors.ts';
import { qemuImg, qemuIo, qemuSha256, withTempDir } from '../../support/qemu.ts';

const SEED = Number(process.env.OFFSITE_PROPERTY_SEED ?? 20261124);
const RUNS = Number(process.env.OFFSITE_PROPERTY_RUNS ?? 250);
const MAX_HASHED_BYTES = 64 * 1024 * 1024;

/** A changed byte of the header, the L1 table, the L2 table, or packed data. */
const mutation = fc.record({
  area: fc.constantFrom('header', 'header', 'l1', 'l2', 'l2', 'packed'),
  at: fc.nat({ max: 119 }),
  value: fc.oneof(fc.nat({ max: 255 }), fc.constantFrom(0, 1, 2, 16, 64, 128, 255)),
});

test.each([
  'cluster_size=4096',
  'cluster_size=16384,extended_l2=on',
  'cluster_size=4096,compression_type=zstd',
])(
  'a mutated image (%s) is refused by name, or read as QEMU reads it',
  async options => {
    await withTempDir(async dir => {
      const path = join(dir, 'image.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, '1M');
      const packed = [0, 2, 5].map(cluster => `write -q -c -P ${cluster + 1} ${cluster * 16}k 16k`);
      await qemuIo(path, packed.concat(['write -q -P 9 16k 9k', 'write -q -z 48k 20k']), ['-f', 'qcow2']);
      const sound = await readFile(path);
      const l1 = Number(sound.readBigUInt64BE(40));
      const l2 = Number(sound.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
      const packedAt = Number(sound.readBigUInt64BE(l2) & 0xffff_ffffn);
      const starts = { header: 0, l1, l2, packed: packedAt };
      await fc.assert(
        fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async mutations => {
          const bent = Buffer.from(sound);
          for (const { area, at, value } of mutations) bent[starts[area] + at] = value;
          await writeFile(path, bent);
          const ours = await contentOf(dir, path);
          if (ours === null) return;
          const theirs = await qemuSha256(path).catch(() => null);
          if (theirs !== null) expect(ours).toBe(theirs);
        }),
        { seed: SEED, numRuns: RUNS },
      );
    });
  },
  90_000,
);

/** The content's hash; null when the image was refused, or made too large to be hashed here. */
async function contentOf(dir: string, path: string): Promise<string | null> {
  try {
    const chain = await openChain(path, { imageRoots: [dir] });
    try {
      await chain.map();
      return chain.virtualSizeBytes <= MAX_HASHED_BYTES ? await hashContent(chain) : null;
    } finally {
      await chain.close();
    }
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  }
}
