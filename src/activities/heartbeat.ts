/** Heartbeats that go on while a step is silent, and sleeps that end with the activity. */
import { Context } from '@temporalio/activity';
import type { TransferProgress } from '../contract/transfer.ts';
import { formatDuration } from '../lib/durations.ts';
import { formatSize } from '../lib/sizes.ts';

const BEAT_MS = 1_000;

/**
 * Runs `work` with a heartbeat each second that repeats the newest detail it gave to `beat`, as `told` puts it then.
 * The signal tells that the activity was cancelled or given up; its reason is what to throw.
 */
export async function heartbeating<Detail, Result>(
  first: Detail,
  work: (beat: (detail: Detail) => void, signal: AbortSignal) => Promise<Result>,
  told: (detail: Detail) => Detail = detail => detail,
): Promise<Result> {
  const context = Context.current();
  let detail = first;
  const send = () => context.heartbeat(told(detail));
  send();
  const timer = setInterval(send, BEAT_MS);
  try {
    return await work(next => {
      detail = next;
    }, context.cancellationSignal);
  } finally {
    clearInterval(timer);
  }
}

/** As {@link heartbeating}, with a bar for those who read it in the Web UI. */
export const heartbeatingTransfer = <Result>(
  first: TransferProgress,
  work: (beat: (progress: TransferProgress) => void, signal: AbortSignal) => Promise<Result>,
): Promise<Result> => heartbeating(first, work, progress => withBar(withLag(progress, Date.now())));

/** A journal that has not moved since is further behind each time that it is told. */
export function withLag(told: TransferProgress, nowMs: number): TransferProgress {
  const { caughtUpAtMs } = told;
  if (caughtUpAtMs === undefined) return told;
  const lagMs = Math.max(0, Math.round(nowMs - caughtUpAtMs));
  const text = lagMs < UP_TO_DATE_MS ? 'follows, up to date' : `follows, ${formatDuration(lagMs)} behind`;
  return { progress: text, ...told, lagMs };
}

const UP_TO_DATE_MS = 5_000;

const BAR_WIDTH = 20;

/** First of the keys, since the Web UI shows them in this order. */
export function withBar(told: TransferProgress): TransferProgress {
  const { durableBytes, totalBytes } = told;
  if (totalBytes === null) return told;
  const share = totalBytes === 0 ? 1 : Math.min(1, durableBytes / totalBytes);
  const full = Math.floor(share * BAR_WIDTH);
  const bar = '█'.repeat(full) + '░'.repeat(BAR_WIDTH - full);
  const bytes = `${formatSize(durableBytes)} of ${formatSize(totalBytes)}`;
  return { progress: `${bar} ${Math.floor(share * 100)} %, ${bytes}`, ...told };
}

/** @throws CancelledFailure when the activity is cancelled meanwhile */
export async function sleepUnlessCancelled(delayMs: number): Promise<void> {
  await Context.current().sleep(delayMs);
}
