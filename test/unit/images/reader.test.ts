import { zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { parseBackingName } from '../../../src/images/chain-backing.ts';
import { ByteLru } from '../../../src/images/chain-cache.ts';
import { replicaClusterSize } from '../../../src/images/chain-map.ts';
import { BackingFormatMissingError, ImageUnsupportedError } from '../../../src/images/errors.ts';
import { unpackCluster, zstdFrameEnd } from '../../../src/images/qcow2/unpack.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const TIB = 1024 ** 4;

test.each([
  { granularities: [65_536], size: MIB, expected: 65_536 },
  { granularities: [65_536, 2048, 2 * MIB], size: MIB, expected: 4096 },
  { granularities: [16_384, null], size: MIB, expected: 16_384 },
  { granularities: [2 * MIB], size: MIB, expected: 65_536 },
  { granularities: [null], size: MIB, expected: 65_536 },
  { granularities: [], size: 0, expected: 65_536 },
  { granularities: [512], size: 8 * TIB, expected: 4096 },
  { granularities: [512], size: 8 * TIB + 512, expected: 8192 },
  { granularities: [512], size: 64 * TIB, expected: 16_384 },
  { granularities: [65_536], size: 2 ** 53 - 512, expected: 131_072 },
])(
  'the replica of $granularities over $size bytes has clusters of $expected',
  ({ granularities, size, expected }) => {
    expect(replicaClusterSize(granularities, size)).toBe(expected);
  },
);

describe('a backing name', () => {
  const overlay = '/images/vm/top.qcow2';
  const json = (value: unknown): string => `json:${JSON.stringify(value)}`;
  const file = { driver: 'file', filename: '/x/base.qcow2' };

  test.each([
    ['base.qcow2', '/images/vm/base.qcow2'],
    ['../base.qcow2', '/images/vm/../base.qcow2'],
    ['./a:b.qcow2', '/images/vm/./a:b.qcow2'],
    ['/other/base.qcow2', '/other/base.qcow2'],
    ['file:/other/base.qcow2', '/other/base.qcow2'],
    [json({ driver: 'qcow2', file }), '/x/base.qcow2'],
    [json({ file }), '/x/base.qcow2'],
    [json({ driver: 'qcow2', 'file.filename': '/x/base.qcow2' }), '/x/base.qcow2'],
  ])('%s is found', (name, path) => {
    expect(parseBackingName(overlay, name, 'qcow2')).toEqual({ path, format: 'qcow2', backing: undefined });
  });

  test('carries what json: says of the layers beneath', () => {
    const nested = {
      driver: 'qcow2',
      file,
      backing: { driver: 'raw', file: { ...file, filename: '/x/raw' } },
    };
    expect(parseBackingName(overlay, json(nested), null).backing).toEqual({
      path: '/x/raw',
      format: 'raw',
      backing: undefined,
    });
    expect(
      parseBackingName(overlay, json({ driver: 'qcow2', file, backing: null }), null).backing,
    ).toBeNull();
  });

  test.each([
    'nbd://10.0.0.1/disk',
    'nbd:unix:/run/x',
    'ssh://host/disk',
    'http://host/disk',
    'blkdebug::x',
    'file:base.qcow2',
    'json:{',
    'json:[]',
    'json:null',
    json({ driver: 'nbd', host: 'x' }),
    json({ driver: 'qcow2' }),
    json({ driver: 'qcow2', file: 'node0' }),
    json({ driver: 'qcow2', file: { driver: 'nbd', host: 'x' } }),
    json({ driver: 'qcow2', file: { driver: 'host_device', filename: '/dev/sda' } }),
    json({ driver: 'qcow2', file: { driver: 'file', filename: 'relative.qcow2' } }),
    json({ driver: 'qcow2', file: { driver: 'blkdebug', image: file } }),
    json({ driver: 'qcow2', file, 'file.filename': '/y' }),
    json({ driver: 'qcow2', file, 'encrypt.format': 'luks' }),
    json({ driver: 'raw', file, offset: 512 }),
    json({ driver: 'raw', file, backing: { driver: 'raw', file } }),
    json({ driver: 'raw', file }),
    json({ driver: 'vmdk', file }),
  ])('%s is refused', name => {
    expect(() => parseBackingName(overlay, name, 'qcow2')).toThrow(ImageUnsupportedError);
  });

  test('is never probed for its format', () => {
    expect(() => parseBackingName(overlay, 'base.qcow2', null)).toThrow(BackingFormatMissingError);
    expect(() => parseBackingName(overlay, json({ file }), null)).toThrow(BackingFormatMissingError);
    expect(() => parseBackingName(overlay, 'base.vmdk', 'vmdk')).toThrow(/vmdk/);
  });
});

describe('a zstd cluster', () => {
  const cluster = Buffer.alloc(65_536, 'offsite');

  test('ends where its blocks say, whatever follows', async () => {
    const frame = zstdCompressSync(cluster);
    const padded = Buffer.concat([frame, Buffer.alloc(300, 0xff)]);
    expect(zstdFrameEnd(padded, 0)).toBe(frame.length);
    expect((await unpackCluster(padded, 'zstd', cluster.length)).equals(cluster)).toBe(true);
  });

  test('may consist of several frames', async () => {
    const frames = [cluster.subarray(0, 30_000), cluster.subarray(30_000)].map(part =>
      zstdCompressSync(part),
    );
    expect((await unpackCluster(Buffer.concat(frames), 'zstd', cluster.length)).equals(cluster)).toBe(true);
  });

  test('that is cut, too short or too long is refused', async () => {
    const frame = zstdCompressSync(cluster);
    for (let length = 0; length < frame.length; length += 7) {
      await expect(unpackCluster(frame.subarray(0, length), 'zstd', cluster.length)).rejects.toThrow();
    }
    await expect(unpackCluster(frame, 'zstd', 131_072)).rejects.toThrow();
    await expect(unpackCluster(frame, 'zstd', 512)).rejects.toThrow();
  });

  test('of endless empty frames ends', async () => {
    const empty = zstdCompressSync(Buffer.alloc(0));
    const frames = Buffer.concat(new Array(1000).fill(empty));
    await expect(unpackCluster(frames, 'zstd', cluster.length)).rejects.toThrow(/zstd/);
  });
});

test('the cache forgets what was used least recently, beyond its bytes', () => {
  const cache = new ByteLru<string, number>(100);
  cache.set('a', 1, 40);
  cache.set('b', 2, 40);
  cache.get('a');
  cache.set('c', 3, 40);
  expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual([1, undefined, 3]);
  cache.set('large', 4, 1000);
  expect([cache.get('a'), cache.get('c'), cache.get('large')]).toEqual([undefined, undefined, 4]);
});
