import { describe, expect, it } from 'vitest';
import { freshFor } from '../../../src/sites/reading.ts';

describe('a reading', () => {
  it('is made once for all who ask at a time, and told while it is fresh', async () => {
    let reads = 0;
    const read = freshFor(60_000, 1_000, async () => (reads += 1));
    expect(await Promise.all([read(), read()])).toEqual([1, 1]);
    expect(await read()).toBe(1);
  });

  it('is null when it fails', async () => {
    const read = freshFor(0, 1_000, () => Promise.reject(new Error('away')));
    expect(await read()).toBeNull();
  });

  it('holds nobody up: who waits too long gets null, and it is not begun a second time', async () => {
    let reads = 0;
    const { promise, resolve } = Promise.withResolvers<string>();
    const read = freshFor(60_000, 5, () => {
      reads += 1;
      return promise;
    });
    expect(await read()).toBeNull();
    expect(await read()).toBeNull();
    resolve('late');
    await promise;
    expect(await read()).toBe('late');
    expect(reads).toBe(1);
  });
});
