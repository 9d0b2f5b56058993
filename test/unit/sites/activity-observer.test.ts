import type { ActivityExecuteInput } from '@temporalio/worker';
import { describe, expect, it } from 'vitest';
import { PlanBrokenError } from '../../../src/domain/errors.ts';
import { ActivityObserver, type EndedAttempt } from '../../../src/sites/activity-observer.ts';

const TASK = '7b1f0a52-4c1d-4a39-9a8e-1c2d3e4f5a6b';

async function observe(input: object, work: () => Promise<unknown>, workflowId = `disk/${TASK}/3/vda`) {
  const logged: { level: string; fields: object; text: string }[] = [];
  const ended: EndedAttempt[] = [];
  const at = (level: string) => (fields: object, text: string) => logged.push({ level, fields, text });
  const log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  const info = { activityType: 'finishDiskTask', attempt: 2, workflowExecution: { workflowId } };
  const observer = new ActivityObserver({ info }, log, attempt => ended.push(attempt));
  const outcome = observer.execute({ args: [input], headers: {} } as ActivityExecuteInput, work);
  await outcome.catch(() => undefined);
  return { logged, ended, outcome };
}

describe('an activity that is observed', () => {
  it('leaves one line with the ids of its input and of its workflow', async () => {
    const input = { fence: { scheduleUuid: 's1', generation: 1, plan: 3 }, diskTaskUuid: 'd1' };
    const { logged, ended, outcome } = await observe(input, async () => 'path');
    expect(await outcome).toBe('path');
    const ids = { scheduleUuid: 's1', taskUuid: TASK, diskTaskUuid: 'd1', disk: 'vda' };
    const fields = { ...ids, activity: 'finishDiskTask', attempt: 2, code: 'ok', durationMs: 0 };
    expect(logged).toEqual([
      {
        level: 'info',
        fields: { ...fields, durationMs: expect.any(Number) },
        text: 'finishDiskTask is done',
      },
    ]);
    expect(ended).toMatchObject([
      { activity: 'finishDiskTask', attempt: 2, ids, code: 'ok', result: 'path' },
    ]);
  });

  it('fails with what it failed with, in one line with code and hint', async () => {
    const error = new PlanBrokenError('the base is gone');
    const { logged, ended, outcome } = await observe({}, () => Promise.reject(error));
    await expect(outcome).rejects.toBe(error);
    expect(logged).toMatchObject([
      { level: 'warn', fields: { code: 'PlanBroken', reason: 'the base is gone', hint: error.hint } },
    ]);
    expect(logged[0]?.fields).not.toHaveProperty('err');
    expect(ended).toMatchObject([{ code: 'PlanBroken' }]);
  });

  it('is no failure when it was cancelled', async () => {
    const error = Object.assign(new Error('CANCELLED'), { name: 'CancelledFailure' });
    const { logged } = await observe({}, () => Promise.reject(error));
    expect(logged).toMatchObject([{ level: 'info', fields: { code: 'Cancelled' } }]);
  });

  it('shows the stack of an error that nobody foresaw', async () => {
    const error = new TypeError('x is not a function');
    const { logged } = await observe({}, () => Promise.reject(error), 'schedule/b/nightly');
    expect(logged).toMatchObject([{ level: 'warn', fields: { code: 'Unexpected', err: error } }]);
    expect(logged[0]?.fields).not.toHaveProperty('taskUuid');
  });
});
