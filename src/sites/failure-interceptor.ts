/** Activities throw plain domain errors; this is the one place where Temporal gets to see them. */
import type { ActivityExecuteInput, ActivityInboundCallsInterceptor, Next } from '@temporalio/worker';
import { toFailure } from '../activities/failure.ts';
import { effect } from '../lib/fault-points.ts';

export class FailureInterceptor implements ActivityInboundCallsInterceptor {
  async execute(
    input: ActivityExecuteInput,
    next: Next<ActivityInboundCallsInterceptor, 'execute'>,
  ): Promise<unknown> {
    try {
      return await effect('temporal.activity', () => next(input));
    } catch (error) {
      throw toFailure(error);
    }
  }
}
