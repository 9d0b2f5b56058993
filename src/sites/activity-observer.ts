/** Looks on as activities run: one line in the log at each end, and what the metrics count. */
import type { ActivityExecuteInput, ActivityInboundCallsInterceptor, Next } from '@temporalio/worker';
import { OffsiteError } from '../domain/errors.ts';
import type { Log } from '../lib/log.ts';

/** The ids that an activity works for, as far as its input and its workflow's id tell. */
export interface ActivityIds {
  readonly scheduleUuid?: string;
  readonly taskUuid?: string;
  readonly diskTaskUuid?: string;
  readonly host?: string;
  readonly disk?: string;
}

export interface EndedAttempt {
  readonly activity: string;
  /** From 1. */
  readonly attempt: number;
  readonly ids: ActivityIds;
  /** `ok`, `Cancelled`, an error's code, or `Unexpected` for one without. */
  readonly code: string;
  /** Undefined after a failure. */
  readonly result: unknown;
}

/** Is told of each attempt that has ended. */
export type AttemptListener = (attempt: EndedAttempt) => void;

/** What the observer needs to know of the activity's context. */
interface ObservedActivity {
  readonly info: {
    readonly activityType: string;
    readonly attempt: number;
    readonly workflowExecution?: { readonly workflowId: string } | undefined;
  };
}

/** To stand within {@link FailureInterceptor}, so that it sees the domain's own errors. */
export class ActivityObserver implements ActivityInboundCallsInterceptor {
  readonly #activity: ObservedActivity;
  readonly #log: Log;
  readonly #onEnd: AttemptListener;

  constructor(activity: ObservedActivity, log: Log, onEnd: AttemptListener) {
    this.#activity = activity;
    this.#log = log;
    this.#onEnd = onEnd;
  }

  async execute(
    input: ActivityExecuteInput,
    next: Next<ActivityInboundCallsInterceptor, 'execute'>,
  ): Promise<unknown> {
    const { activityType: activity, attempt, workflowExecution } = this.#activity.info;
    const ids = idsOf(input.args[0], workflowExecution?.workflowId ?? '');
    const startedAtMs = performance.now();
    const ended = (code: string, result?: unknown) => {
      this.#onEnd({ activity, attempt, ids, code, result });
      return { ...ids, activity, attempt, code, durationMs: Math.round(performance.now() - startedAtMs) };
    };
    try {
      const result = await next(input);
      this.#log.info(ended('ok', result), `${activity} is done`);
      return result;
    } catch (error) {
      const fields = ended(codeOf(error));
      if (fields.code === 'Cancelled') this.#log.info(fields, `${activity} was cancelled`);
      else this.#log.warn({ ...fields, ...reasonOf(error) }, `${activity} failed`);
      throw error;
    }
  }
}

function codeOf(error: unknown): string {
  if (error instanceof OffsiteError) return error.code;
  const { name } = (error ?? {}) as { name?: unknown };
  return name === 'CancelledFailure' || name === 'AbortError' ? 'Cancelled' : 'Unexpected';
}

/** What nobody foresaw is worth its stack; what we foresaw says what to do instead. */
function reasonOf(error: unknown): object {
  if (error instanceof OffsiteError) return { reason: error.message, hint: error.hint };
  return { err: error };
}

const TASK_ID = /^(?:task|disk)\/([0-9a-f-]{36})(?:\/\d+\/(.+))?$/;

function idsOf(input: unknown, workflowId: string): ActivityIds {
  const given = (input ?? {}) as Record<string, unknown>;
  const nested = (name: string): Record<string, unknown> => (given[name] ?? {}) as Record<string, unknown>;
  const [, taskUuid, disk] = TASK_ID.exec(workflowId) ?? [];
  const found = {
    scheduleUuid: given.scheduleUuid ?? nested('fence').scheduleUuid ?? nested('spec').uuid,
    taskUuid: given.taskUuid ?? taskUuid,
    diskTaskUuid: given.diskTaskUuid,
    host: given.host ?? nested('spec').host,
    disk: given.disk ?? disk,
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => typeof value === 'string'));
}
