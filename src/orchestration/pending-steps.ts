/** Turns what Temporal knows of a workflow's pending activities into words for an operator. */
import type { WorkflowExecutionDescription } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import type { TransferProgress } from '../contract/transfer.ts';
import type { PendingStep } from './orchestrator.ts';

type PendingActivity = NonNullable<WorkflowExecutionDescription['raw']['pendingActivities']>[number];
type Failure = NonNullable<PendingActivity['lastFailure']>;
type Timestamp = PendingActivity['scheduledTime'];

/** `PENDING_ACTIVITY_STATE_SCHEDULED`: nobody works on it. @see temporal/api/enums/v1/workflow.proto */
const STATE_SCHEDULED = 1;
/** A worker takes an activity at once when it has a slot: waiting shorter than this is not told. */
const WAIT_TOLD_MS = 2_000;
/** A live worker asks at least once a minute; without a question for this long it is taken for gone. */
const POLLER_GONE_MS = 75_000;

/** When a task queue was last asked by a worker; null for never (within the server's memory). */
export type LastPolled = (queue: string) => Promise<number | null>;

/** Gives the steps that a described workflow waits for. */
export async function pendingSteps(
  description: WorkflowExecutionDescription,
  place: Pick<PendingStep, 'level' | 'disk'>,
  { lastPolled, nowMs }: { lastPolled: LastPolled; nowMs: number },
): Promise<PendingStep[]> {
  const steps: PendingStep[] = [];
  const broken = brokenWorkflow(description, place);
  if (broken !== null) steps.push(broken);
  for (const activity of description.raw.pendingActivities ?? []) {
    const dueAtMs = toMs(activity.nextAttemptScheduleTime) ?? toMs(activity.scheduledTime) ?? nowMs;
    const scheduled = activity.state === STATE_SCHEDULED;
    steps.push({
      ...place,
      activity: activity.activityType?.name ?? 'activity',
      attempt: activity.attempt ?? 1,
      lastFailure: activity.lastFailure ? failureOf(activity.lastFailure) : null,
      nextAttemptAtMs: scheduled && dueAtMs > nowMs ? dueAtMs : null,
      waits: scheduled ? await waitOf(activity, nowMs - dueAtMs, lastPolled, nowMs) : null,
      transfer: transferOf(activity),
    });
  }
  return steps;
}

/** A workflow whose own code fails again and again shows as a step too. */
function brokenWorkflow(
  description: WorkflowExecutionDescription,
  place: Pick<PendingStep, 'level' | 'disk'>,
): PendingStep | null {
  const attempt = description.raw.pendingWorkflowTask?.attempt ?? 1;
  if (attempt <= 1) return null;
  const message = `the workflow ${description.workflowId} cannot go on; its history in the Web UI says why`;
  return {
    ...place,
    activity: description.type,
    attempt,
    lastFailure: { code: 'WorkflowTaskFailed', message },
    nextAttemptAtMs: null,
    waits: null,
    transfer: null,
  };
}

/** The innermost failure, which is the one that says what happened. */
export function failureOf(failure: Failure): { code: string | null; message: string } {
  let innermost = failure;
  while (innermost.cause) innermost = innermost.cause;
  const message = (innermost.message ?? '').trim();
  if (innermost.timeoutFailureInfo) {
    return { code: 'Timeout', message: message === '' ? 'the attempt took too long' : message };
  }
  return { code: innermost.applicationFailureInfo?.type ?? null, message };
}

async function waitOf(
  activity: PendingActivity,
  waitedMs: number,
  lastPolled: LastPolled,
  nowMs: number,
): Promise<string | null> {
  const queue = activity.activityOptions?.taskQueue?.name;
  if (waitedMs < WAIT_TOLD_MS || !queue) return null;
  const polledAtMs = await lastPolled(queue);
  if (polledAtMs === null) return `no worker ${placeOf(queue)} since ${iso(nowMs - waitedMs)}`;
  if (nowMs - polledAtMs > POLLER_GONE_MS) return `no worker ${placeOf(queue)} since ${iso(polledAtMs)}`;
  if (queue.endsWith('.transfer')) return `waits for a slot ${placeOf(queue)}`;
  return `waits for the worker ${placeOf(queue)}, last seen ${iso(polledAtMs)}`;
}

/** `a.n1.transfer` is of one node, `a.source` of a site. */
function placeOf(queue: string): string {
  const parts = queue.split('.');
  return parts.length === 3 ? `on node ${parts[1]} of site ${parts[0]}` : `of site ${parts[0]}`;
}

function transferOf(activity: PendingActivity): TransferProgress | null {
  const payload = activity.heartbeatDetails?.payloads?.[0];
  if (!payload) return null;
  const details: unknown = defaultPayloadConverter.fromPayload(payload);
  return isTransferProgress(details) ? details : null;
}

function isTransferProgress(details: unknown): details is TransferProgress {
  const { diskTaskUuid, durableBytes } = (details ?? {}) as Partial<TransferProgress>;
  return typeof diskTaskUuid === 'string' && typeof durableBytes === 'number';
}

/** @returns milliseconds of the epoch */
function toMs(timestamp: Timestamp): number | null {
  if (!timestamp?.seconds) return null;
  return Number(timestamp.seconds) * 1000 + Math.floor((timestamp.nanos ?? 0) / 1e6);
}

const iso = (ms: number): string => new Date(ms).toISOString();
