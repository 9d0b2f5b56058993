/** Faults in the test's own process, for what no run of two sites reaches. */
import { expect } from 'vitest';
import { FaultInjectedError } from '../../../src/lib/fault-injection.ts';
import { type FaultPoint, setFaultInjector } from '../../../src/lib/fault-points.ts';

/**
 * Runs `work` with an error before the point, then with its reply dropped after it, then undisturbed. Both faults have
 * fired.
 * @param other another effect that fails every time, and how, so that the point is reached at all
 * @returns what the last run gave, or how it failed
 */
export async function interrupted<T>(
  point: FaultPoint,
  work: () => Promise<T>,
  other: { readonly point: FaultPoint; readonly code: string } | null = null,
): Promise<T> {
  for (const when of ['before', 'after'] as const) {
    let isFired = false;
    const reachSync = (reached: FaultPoint, side: 'before' | 'after'): void => {
      if (other?.point === reached && side === 'before') {
        throw Object.assign(new Error('as some file systems say'), { code: other.code });
      }
      if (isFired || reached !== point || side !== when) return;
      isFired = true;
      throw new FaultInjectedError(point, when);
    };
    setFaultInjector({ reach: async (reached, side) => reachSync(reached, side), reachSync });
    try {
      // Some failures are swallowed, since something stands behind them.
      await work().catch(() => undefined);
    } finally {
      setFaultInjector(null);
    }
    expect(isFired, `${when} ${point}`).toBe(true);
  }
  return work();
}
