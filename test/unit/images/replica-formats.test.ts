import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { encodeDigestFile } from '../../../src/images/replica/digest-file.ts';
import { decodeMapFile, encodeMapFile } from '../../../src/images/replica/map-file.ts';
import { ProgressFile } from '../../../src/images/replica/progress-file.ts';
import { mapOf, withMemoryDir } from './replica-fixtures.ts';

// The bytes of docs/formats/replica-files.md. If one of these changes, old files are no longer understood.
const map = mapOf(0x40200, 65536, [
  ['data', 1],
  ['zero', 2],
]);
const mapDigest = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
const backing = { name: 'base', format: 'qcow2' } as const;

const hexOf = (bytes: Buffer, from: number, to: number) => bytes.toString('hex', from, to);

it('the map file is as documented', () => {
  const bytes = encodeMapFile({ map, backing });
  expect(hexOf(bytes, 0, 39)).toBe(
    [
      '4f4646534d415000',
      '01000000',
      '00000100',
      '0002040000000000',
      '03000000',
      '0400',
      '01',
      '00',
      '62617365',
      // 1 cluster of data, 2 of zeros, 2 of hole: 4 + 2, 8 + 1, 8 + 0.
      '060908',
    ].join(''),
  );
  expect(bytes.length).toBe(39 + 16);
  expect(decodeMapFile(bytes)).toEqual({ map, backing });
});

it('the digest file is as documented', () => {
  const head = {
    virtualSizeBytes: map.virtualSizeBytes,
    clusterSizeBytes: map.clusterSizeBytes,
    dataBytes: map.dataBytes,
    mapDigest,
    contentDigest: Buffer.alloc(16, 0xcc),
  };
  const bytes = encodeDigestFile(head, Buffer.concat([Buffer.alloc(8), Buffer.alloc(16, 0xdd)]));
  expect(hexOf(bytes, 0, bytes.length - 16)).toBe(
    [
      '4f46465344494700',
      '01000000',
      '00000100',
      '0002040000000000',
      '0000010000000000',
      mapDigest.toString('hex'),
      'cc'.repeat(16),
      '0100000000000000',
      '0000000000000000',
      '0000000000000000',
      'dd'.repeat(16),
    ].join(''),
  );
});

it('the progress file is as documented', async () => {
  await withMemoryDir(async dir => {
    const path = join(dir, 'progress');
    const progress = await ProgressFile.open(path, mapDigest);
    await progress.store(0x1234);
    await progress.store(0x5678);
    await progress.close();
    const bytes = await readFile(path);
    expect(bytes.length).toBe(1024);
    const slot = (sequence: string, durable: string) =>
      [
        '4f46465350524700',
        '01000000',
        '00000000',
        `${sequence}00000000000000`,
        `${durable}000000000000`,
      ].join('') +
      mapDigest.toString('hex') +
      '00'.repeat(448);
    expect(hexOf(bytes, 512, 1024 - 16)).toBe(slot('01', '3412'));
    expect(hexOf(bytes, 0, 512 - 16)).toBe(slot('02', '7856'));
  });
});
