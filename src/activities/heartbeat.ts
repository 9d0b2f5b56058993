/** Heartbeats that go on while a step is silent, and sleeps that end with the activity. */
import { Context } from '@temporalio/activity';

const BEAT_MS = 1_000;

/**
 * Runs `work` with a heartbeat each second that repeats the newest detail it gave to `beat`. The signal tells that
 * the activity was cancelled or given up; its reason is what to throw.
 */
export async function heartbeating<Detail, Result>(
  first: Detail,
  work: (beat: (detail: Detail) => void, signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const context = Context.current();
  let detail = first;
  const send = () => context.heartbeat(detail);
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

/** @throws CancelledFailure when the activity is cancelled meanwhile */
export async function sleepUnlessCancelled(delayMs: number): Promise<void> {
  await Context.current().sleep(delayMs);
}
