/** Turns what Temporal knows of a workflow's pending activities into words for an operator. */
import type { WorkflowExecutionDescription } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import type { TransferProgress } from '../contract/transfer.ts';
import { plainWords } from '../domain/plain-words.ts';
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
    const wait = scheduled ? await waitOf(activity, nowMs - dueAtMs, lastPolled, nowMs) : null;
    steps.push({
      ...place,
      activity: activity.activityType?.name ?? 'activity',
      attempt: activity.attempt ?? 1,
      lastFailure: activity.lastFailure && !bytesFlow(activity) ? failureOf(activity.lastFailure) : null,
      nextAttemptAtMs: scheduled && dueAtMs > nowMs ? dueAtMs : null,
      waits: wait?.why ?? null,
      unserved: wait?.unserved ?? false,
      transfer: transferOf(activity),
    });
  }
  return steps;
}

/** Why a workflow whose own code has failed gives no answer; null when it has not. */
export function brokenReason({ raw, workflowId }: WorkflowExecutionDescription): string | null {
  if ((raw.pendingWorkflowTask?.attempt ?? 1) <= 1) return null;
  return `the workflow ${workflowId} cannot go on; its history in the Web UI says why`;
}

/** A workflow whose own code fails again and again shows as a step too. */
function brokenWorkflow(
  description: WorkflowExecutionDescription,
  place: Pick<PendingStep, 'level' | 'disk'>,
): PendingStep | null {
  const message = brokenReason(description);
  if (message === null) return null;
  return {
    ...place,
    activity: description.type,
    attempt: description.raw.pendingWorkflowTask?.attempt ?? 1,
    lastFailure: { code: 'WorkflowTaskFailed', message },
    nextAttemptAtMs: null,
    waits: null,
    unserved: false,
    transfer: null,
  };
}

/** By `TimeoutType`. @see temporal/api/enums/v1/workflow.proto */
const TIMEOUT_WORDS: Readonly<Record<number, string>> = {
  1: 'the attempt took too long, or its worker died',
  2: 'no worker took it in time',
  3: 'all attempts together took too long',
  4: 'its worker fell silent',
};

/**
 * The failure that says what happened: beneath what Temporal wraps around it, and above the error that it was
 * made from, whose type is no code and whose words lack the hint.
 */
export function failureOf(failure: Failure): { code: string | null; message: string } {
  let told = failure;
  while (told.cause && !told.applicationFailureInfo) told = told.cause;
  const message = plainWords(told.message ?? '');
  if (told.timeoutFailureInfo) {
    const words = TIMEOUT_WORDS[told.timeoutFailureInfo.timeoutType ?? 0];
    return { code: 'Timeout', message: words ?? (message === '' ? 'the attempt took too long' : message) };
  }
  return { code: told.applicationFailureInfo?.type ?? null, message };
}

async function waitOf(
  activity: PendingActivity,
  waitedMs: number,
  lastPolled: LastPolled,
  nowMs: number,
): Promise<{ why: string; unserved: boolean } | null> {
  const queue = activity.activityOptions?.taskQueue?.name;
  if (waitedMs < WAIT_TOLD_MS || !queue) return null;
  // A worker whose slots are all taken does not ask for more; its control queue tells whether it lives.
  const polledAtMs = await lastPolled(queue.replace(/\.(transfer|follow)$/, '.control'));
  if (polledAtMs !== null && nowMs - polledAtMs <= POLLER_GONE_MS && /\.(transfer|follow)$/.test(queue)) {
    return { why: `waits for a slot ${placeOf(queue)}`, unserved: false };
  }
  return { why: silenceOf(queue, polledAtMs, nowMs - waitedMs, nowMs), unserved: true };
}

function silenceOf(queue: string, polledAtMs: number | null, dueAtMs: number, nowMs: number): string {
  if (polledAtMs === null) return `no worker ${placeOf(queue)} since ${iso(dueAtMs)}`;
  if (nowMs - polledAtMs > POLLER_GONE_MS) return `no worker ${placeOf(queue)} since ${iso(polledAtMs)}`;
  return `waits for the worker ${placeOf(queue)}, last seen ${iso(polledAtMs)}`;
}

/** `a.n1.transfer` is of one node, `a.source` of a site. */
function placeOf(queue: string): string {
  const parts = queue.split('.');
  return parts.length === 3 ? `on node ${parts[1]} of site ${parts[0]}` : `of site ${parts[0]}`;
}

/** Notes of a transfer that moves bytes: none, or the receiver's. */
const FLOWING_NOTES: readonly (string | null)[] = [null, 'receives'];

/** The attempt that runs has got on: what the one before failed of is mended. */
function bytesFlow(activity: PendingActivity): boolean {
  const transfer = transferOf(activity);
  // Details of a heartbeat outlive their attempt.
  if (!isOfThisAttempt(activity) || transfer === null || transfer.durableBytes === 0) return false;
  return FLOWING_NOTES.includes(transfer.note);
}

function transferOf(activity: PendingActivity): TransferProgress | null {
  const payload = activity.heartbeatDetails?.payloads?.[0];
  if (!payload) return null;
  const details: unknown = defaultPayloadConverter.fromPayload(payload);
  if (!isTransferProgress(details)) return null;
  const { lagMs, ...progress } = details;
  return {
    ...progress,
    note: details.note === null ? null : plainWords(details.note),
    // What an attempt before this one told is of another time.
    ...(isOfThisAttempt(activity) && isBytes(lagMs) && { lagMs }),
  };
}

function isOfThisAttempt({ lastHeartbeatTime, lastStartedTime, state }: PendingActivity): boolean {
  return state !== STATE_SCHEDULED && (toMs(lastHeartbeatTime) ?? 0) > (toMs(lastStartedTime) ?? 0);
}

function isTransferProgress(details: unknown): details is TransferProgress {
  const { diskTaskUuid, durableBytes, totalBytes, note } = (details ?? {}) as Partial<TransferProgress>;
  const isWhole = typeof diskTaskUuid === 'string' && isBytes(durableBytes);
  return (
    isWhole && (totalBytes === null || isBytes(totalBytes)) && (note === null || typeof note === 'string')
  );
}

const isBytes = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

/** @returns milliseconds of the epoch */
function toMs(timestamp: Timestamp): number | null {
  if (!timestamp?.seconds) return null;
  return Number(timestamp.seconds) * 1000 + Math.floor((timestamp.nanos ?? 0) / 1e6);
}

const iso = (ms: number): string => new Date(ms).toISOString();
