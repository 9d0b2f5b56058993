import { describe, expect, it } from 'vitest';
import { ReplayIndex } from '../../../src/images/cdp/replay-index.ts';

const MIB = 2 ** 20;

describe('the index of a replay', () => {
  it('holds a discard of a whole large disk in little memory', () => {
    const sizeBytes = 64 * 1024 * MIB;
    const index = new ReplayIndex(sizeBytes);
    const before = process.memoryUsage().arrayBuffers;
    index.put(0, sizeBytes, null);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(MIB);
  });

  it('takes a later write, whole or in part, out of zeros that many chunks share', () => {
    const index = new ReplayIndex(8 * MIB + 512);
    index.put(4096 + 100, 50, 7_000);
    index.put(0, 8 * MIB + 512, null);
    index.put(2 * MIB, 4096, 9_000);
    index.put(6 * MIB + 10, 20, 11_000);
    const data = [...index.dataBlocks()].map(({ block, source }) => [
      block,
      typeof source === 'number' ? source : [source.beneath, source.pieces],
    ]);
    expect(data).toEqual([
      [512, 9_000],
      [1536, ['zeros', [{ start: 10, end: 30, place: 11_000 }]]],
    ]);
    const kinds = [...index.map()].map(({ kind, length }) => [kind, length]);
    expect(kinds).toEqual([
      ['zero', 2 * MIB],
      ['data', 4096],
      ['zero', 4 * MIB - 4096],
      ['data', 4096],
      ['zero', 2 * MIB - 4096 + 512],
    ]);
  });
});
