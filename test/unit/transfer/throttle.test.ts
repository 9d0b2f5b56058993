import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createThrottle } from '../../../src/transfer/throttle.ts';

/** Fake timers: the bucket's time is the test's. */
describe('throttle', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const passed = async (takes: Promise<void>[]): Promise<number> => {
    let count = 0;
    for (const take of takes) void take.then(() => (count += 1)).catch(() => {});
    await vi.advanceTimersByTimeAsync(0);
    return count;
  };
  const clock = (): number => Date.now();

  test('does not wait without a rate', async () => {
    const throttle = createThrottle(null, clock);
    expect(throttle.pieceBytes(1_000_000)).toBe(1_000_000);
    expect(await passed([throttle.take(1e12), throttle.take(1e12)])).toBe(2);
  });

  test('lets the rate through over time, and no more', async () => {
    const throttle = createThrottle(1_000_000, clock);
    let bytes = 0;
    const pump = async (): Promise<void> => {
      for (;;) {
        await throttle.take(50_000);
        bytes += 50_000;
      }
    };
    void pump();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(bytes).toBeGreaterThan(9_800_000);
    expect(bytes).toBeLessThanOrEqual(10_100_000);
  });

  test('saves up no more than a tenth of a second while nobody takes', async () => {
    const throttle = createThrottle(1_000_000, clock);
    await vi.advanceTimersByTimeAsync(60_000);
    const takes = Array.from({ length: 20 }, () => throttle.take(10_000));
    expect(await passed(takes)).toBe(10);
  });

  test('cuts pieces so that none exceeds the burst, but not below 4 KiB', () => {
    expect(createThrottle(1_000_000, clock).pieceBytes(1_048_576)).toBe(98_304);
    expect(createThrottle(10, clock).pieceBytes(1_048_576)).toBe(4096);
  });

  test('lets a piece beyond the burst through and then makes up for it', async () => {
    const throttle = createThrottle(100_000, clock);
    const first = throttle.take(1_000_000);
    await vi.advanceTimersByTimeAsync(100);
    await first;
    const second = throttle.take(1);
    let isThrough = false;
    void second.then(() => {
      isThrough = true;
    });
    await vi.advanceTimersByTimeAsync(9_800);
    expect(isThrough).toBe(false);
    await vi.advanceTimersByTimeAsync(300);
    expect(isThrough).toBe(true);
  });

  test('a new rate holds for those who wait already', async () => {
    const throttle = createThrottle(1, clock);
    const take = throttle.take(1_000_000);
    await vi.advanceTimersByTimeAsync(200);
    const next = throttle.take(1_000_000);
    throttle.setRate(100_000_000);
    await vi.advanceTimersByTimeAsync(200);
    await Promise.all([take, next]);
    const last = throttle.take(1_000_000_000_000);
    throttle.setRate(null);
    await last;
  });

  test('an aborted wait ends with the reason and lets the next one go on', async () => {
    const throttle = createThrottle(1000, clock);
    const stop = new AbortController();
    const reason = new Error('stopped');
    const stuck = throttle.take(1e9, stop.signal);
    await vi.advanceTimersByTimeAsync(100);
    await stuck;
    const aborted = throttle.take(1e9, stop.signal);
    const after = throttle.take(10);
    stop.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    await expect(throttle.take(1, stop.signal)).rejects.toBe(reason);
    throttle.setRate(null);
    await after;
  });

  test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('refuses a rate of %s', rate => {
    expect(() => createThrottle(rate)).toThrow(RangeError);
  });
});
