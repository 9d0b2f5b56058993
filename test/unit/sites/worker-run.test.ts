import type { State } from '@temporalio/worker';
import { expect, it } from 'vitest';
import { runToEnd } from '../../../src/sites/worker-run.ts';

const QUICK = { lookEveryMs: 1, lastWordsMs: 5 };
const worker = (run: () => Promise<void>, getState: () => State) => ({
  run,
  getState,
  options: { taskQueue: 'b.replica' },
});

it('ends as the worker does', async () => {
  await runToEnd(
    worker(
      async () => undefined,
      () => 'RUNNING',
    ),
    QUICK,
  );
  const failing = worker(
    () => Promise.reject(new Error('no namespace')),
    () => 'FAILED',
  );
  await expect(runToEnd(failing, QUICK)).rejects.toThrow('no namespace');
});

it('ends when the worker has failed and does not say so', async () => {
  let looks = 0;
  const silent = worker(
    () => new Promise(() => undefined),
    () => {
      looks += 1;
      return looks < 3 ? 'RUNNING' : 'FAILED';
    },
  );
  await expect(runToEnd(silent, QUICK)).rejects.toMatchObject({ code: 'WorkerFailed' });
});
