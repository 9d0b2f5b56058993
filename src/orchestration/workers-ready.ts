/** Waits until a site's workers ask for work. */
import { setTimeout as sleep } from 'node:timers/promises';
import { lastPolledAt, type QueueType } from './schedule-progress.ts';
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink } from './temporal-link.ts';

const LOOK_EVERY_MS = 100;

export interface AwaitedQueue {
  readonly queue: string;
  readonly type: QueueType;
}

/**
 * Waits until a worker has asked each queue for work, as far as Temporal remembers.
 * @returns the queues that nobody has asked within that time: none, when all is well
 * @throws {TemporalUnreachableError}
 */
export async function untilWorkersPoll(
  temporal: TemporalSettings,
  queues: readonly AwaitedQueue[],
  { withinMs, signal }: { withinMs: number; signal: AbortSignal },
): Promise<readonly string[]> {
  const link = createTemporalLink(temporalTarget(temporal));
  const deadlineMs = Date.now() + withinMs;
  try {
    for (;;) {
      const polled = await Promise.all(queues.map(({ queue, type }) => lastPolledAt(link, queue, type)));
      const silent = queues.filter((_, index) => polled[index] === null).map(({ queue }) => queue);
      if (silent.length === 0 || Date.now() > deadlineMs) return silent;
      await sleep(LOOK_EVERY_MS, undefined, { signal });
    }
  } finally {
    await link.close();
  }
}
