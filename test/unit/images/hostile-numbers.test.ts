/** Numbers that a mutation campaign found to be handed on: each is refused now where it is read. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { OpenImage } from '../../../src/images/chain-file.ts';
import { ImageUnsupportedError } from '../../../src/images/errors.ts';
import { createRawLayer } from '../../../src/images/raw/raw-layer.ts';
import {
  decodeDigestFile,
  encodeDigestFile,
  readDigestHead,
} from '../../../src/images/replica/digest-file.ts';
import { ReplicaFileError } from '../../../src/images/replica/errors.ts';
import { ProgressFile } from '../../../src/images/replica/progress-file.ts';
import { seal } from '../../../src/images/replica/record.ts';
import { withMemoryDir } from './replica-fixtures.ts';

const head = {
  virtualSizeBytes: 65_536,
  clusterSizeBytes: 4096,
  dataBytes: 4096,
  mapDigest: Buffer.alloc(16, 1),
  contentDigest: Buffer.alloc(16, 2),
};

test('a raw image that ends beyond the last exact number is refused', () => {
  const file = { path: '/images/huge.raw', sizeBytes: Number.MAX_SAFE_INTEGER } as OpenImage;
  expect(() => createRawLayer(file)).toThrow(ImageUnsupportedError);
  const largest = { ...file, sizeBytes: Number.MAX_SAFE_INTEGER - 511 };
  expect(createRawLayer(largest).virtualSizeBytes).toBe(Number.MAX_SAFE_INTEGER - 511);
});

test.each([
  ['a size beyond 2^53', 16, 2n ** 53n, 8],
  ['more data than the disk has', 24, 65_537n, 8],
  ['clusters of no size', 12, 0n, 4],
  ['clusters of 64 MiB', 12, 2n ** 26n, 4],
])('a digest file with %s is refused, though its checksum is right', (_name, at, value, width) => {
  const bytes = encodeDigestFile(head, Buffer.alloc(0));
  if (width === 8) bytes.writeBigUInt64LE(value, at);
  else bytes.writeUInt32LE(Number(value), at);
  expect(() => decodeDigestFile('/x.digests', seal(bytes))).toThrow(ReplicaFileError);
});

test('the head of a digest file that is cut is refused', async () => {
  await withMemoryDir(async dir => {
    const path = join(dir, 'x.digests');
    for (const length of [0, 7, 8, 40, 79]) {
      await writeFile(path, encodeDigestFile(head, Buffer.alloc(0)).subarray(0, length));
      await expect(readDigestHead(path)).rejects.toBeInstanceOf(ReplicaFileError);
    }
  });
});

test.each([
  ['a sequence', 16],
  ['a progress', 24],
])('a progress slot with %s beyond 2^53 counts as torn', async (_name, at) => {
  await withMemoryDir(async dir => {
    const path = join(dir, 'x.progress');
    const slot = Buffer.alloc(512);
    slot.write('OFFSPRG\0', 0, 'latin1');
    slot.writeUInt32LE(1, 8);
    slot.writeBigUInt64LE(1n, 16);
    slot.writeBigUInt64LE(100n, 24);
    slot.set(head.mapDigest, 32);
    slot.writeBigUInt64LE(2n ** 64n - 1n, at);
    await writeFile(path, Buffer.concat([seal(slot), Buffer.alloc(512)]));
    const file = await ProgressFile.open(path, head.mapDigest);
    expect(await file.durableBytes()).toBe(0);
    await file.store(4096);
    expect(await file.durableBytes()).toBe(4096);
    await file.close();
  });
});
