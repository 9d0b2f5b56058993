/** A Temporal worker until its end, also where the SDK does not tell it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from '@temporalio/worker';
import { OffsiteError } from '../domain/errors.ts';

const LOOK_EVERY_MS = 1_000;
/** So long a worker that has failed may take to say so itself, with its reason. */
const LAST_WORDS_MS = 5_000;

class WorkerFailedError extends OffsiteError {
  constructor(taskQueue: string) {
    super(
      'WorkerFailed',
      `Temporal's worker of ${taskQueue} has failed and does not end`,
      'The lines above in the log say why; the process ends, and its service starts it anew.',
    );
  }
}

/**
 * As `worker.run()`. A worker that has failed because its namespace is gone never ends by itself (SDK 1.24): its
 * process would stay, and serve nothing.
 * @throws {OffsiteError} WorkerFailed; else what the worker failed with
 */
export async function runToEnd(
  worker: Pick<Worker, 'run' | 'getState'> & { readonly options: { readonly taskQueue: string } },
  { lookEveryMs = LOOK_EVERY_MS, lastWordsMs = LAST_WORDS_MS } = {},
): Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  const untilFailed = async (): Promise<void> => {
    while (worker.getState() !== 'FAILED') await sleep(lookEveryMs, undefined, { signal });
    await sleep(lastWordsMs, undefined, { signal });
    throw new WorkerFailedError(worker.options.taskQueue);
  };
  try {
    await Promise.race([worker.run(), untilFailed()]);
  } finally {
    over.abort();
  }
}
