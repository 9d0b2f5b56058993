/** Work on the control queue of one node, which no worker may be serving just now. */
import { sleep } from '@temporalio/workflow';
import { backoffMs } from '../domain/backoff.ts';
import { isUnserved } from './failure-codes.ts';

/**
 * Repeats `work` while no worker serves the node's queue, so that a dead node shows and heals.
 * @param onSilence is told since when nobody answers, and null when somebody does again
 */
export async function untilServed<Result>(
  work: () => Promise<Result>,
  onSilence: (sinceMs: number | null) => void,
): Promise<Result> {
  const sinceMs = Date.now();
  for (let failures = 1; ; failures++) {
    try {
      const result = await work();
      if (failures > 1) onSilence(null);
      return result;
    } catch (error) {
      if (!isUnserved(error)) throw error;
      onSilence(sinceMs);
      await sleep(backoffMs(failures));
    }
  }
}
