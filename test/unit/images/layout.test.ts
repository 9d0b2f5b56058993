import { describe, expect, it } from 'vitest';
import type { ExtentMap } from '../../../src/domain/extent-map.ts';
import { type BackingFile, computeLayout, metadataChunks } from '../../../src/images/qcow2/layout.ts';
import { mapOf } from './replica-fixtures.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const TIB = 1024 * 1024 * MIB;

function metadataOf(map: ExtentMap, backing: BackingFile | null = null): Buffer {
  return Buffer.concat([...metadataChunks(computeLayout(map, backing))].map(chunk => Buffer.from(chunk)));
}

/** Chunks are reused, so only their lengths may be kept. */
function metadataBytes(map: ExtentMap): { total: number; largest: number } {
  let total = 0;
  let largest = 0;
  for (const chunk of metadataChunks(computeLayout(map, null))) {
    total += chunk.length;
    largest = Math.max(largest, chunk.length);
  }
  return { total, largest };
}

describe('the layout of a qcow2 file', () => {
  it('puts metadata first and data behind it in map order', () => {
    const map = mapOf(10 * MIB, 64 * KIB, [
      ['data', 1],
      ['zero', 2],
      ['hole', 3],
      ['data', 2],
    ]);
    const layout = computeLayout(map, null);
    const metadata = metadataOf(map);
    expect(metadata.length).toBe(layout.dataStart);
    expect(layout.fileSizeBytes).toBe(layout.dataStart + 3 * 64 * KIB);
    const entry = (cluster: number) =>
      metadata.readBigUInt64BE(layout.l2Tables.hostOffset + cluster * 8).toString(16);
    const data = (streamCluster: number) =>
      (2n ** 63n + BigInt(layout.dataStart + streamCluster * 64 * KIB)).toString(16);
    expect([0, 1, 2, 3, 5, 6, 7, 8].map(entry)).toEqual([data(0), '1', '1', '0', '0', data(1), data(2), '0']);
  });

  it('costs little for a disk of 4 TiB with few extents', () => {
    const map = mapOf(4 * TIB, 64 * KIB, [
      ['hole', 30_000_000],
      ['data', 1],
      ['hole', 20_000_000],
      ['zero', 5],
    ]);
    const { total, largest } = metadataBytes(map);
    // Header, refcount table and block, L1 of 8192 entries, two L2 tables.
    expect(total).toBe(6 * 64 * KIB);
    expect(largest).toBeLessThanOrEqual(256 * KIB);
  });

  it('keeps its pieces small however many tables there are', () => {
    const { total, largest } = metadataBytes(mapOf(8 * 1024 * MIB, 4 * KIB, [['zero', 2_000_000]]));
    expect(total).toBeGreaterThan(15 * MIB);
    expect(largest).toBeLessThanOrEqual(256 * KIB);
  });

  it('rounds the size of a stand-alone disk up to whole sectors, as QEMU does', () => {
    const map = mapOf(1000, 512, [['data', 2]]);
    expect(computeLayout(map, null).virtualSizeBytes).toBe(1024);
  });

  it.each(['nbd:x', 'json:{"driver":"null-co"}', 'vda:1.qcow2'])('keeps the name %s a file', name => {
    const metadata = metadataOf(mapOf(MIB, 512, []), { name, format: 'qcow2' });
    expect(metadata.toString('utf8', 128, 128 + metadata.readUInt32BE(16))).toBe(`./${name}`);
  });

  it.each([
    ['an overlay of broken size', () => computeLayout(mapOf(1000, 512, []), { name: 'b', format: 'raw' })],
    ['an L1 table beyond QEMU', () => computeLayout(mapOf(TIB, 512, []), null)],
    ['an empty backing name', () => computeLayout(mapOf(MIB, 512, []), { name: '', format: 'qcow2' })],
    ['a zero byte in it', () => computeLayout(mapOf(MIB, 512, []), { name: 'a\0b', format: 'qcow2' })],
    [
      'a name of 1024 bytes',
      () => computeLayout(mapOf(MIB, 65536, []), { name: 'x'.repeat(1024), format: 'qcow2' }),
    ],
    [
      'a name beyond the first cluster',
      () => computeLayout(mapOf(MIB, 512, []), { name: 'x'.repeat(385), format: 'qcow2' }),
    ],
  ])('refuses %s', (_what, compute) => {
    expect(compute).toThrow(expect.objectContaining({ code: 'ImageLayoutImpossible' }));
  });
});
