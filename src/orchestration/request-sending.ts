/** Sends an operator's requests to a schedule's workflow, and waits for its answer. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowNotFoundError } from '@temporalio/common';
import { purgeWorkflowId, releaseWorkflowId } from '../contract/names.ts';
import { type DeleteRequest, type ScheduleSpec, SIGNALS } from '../contract/schedule.ts';
import { effect } from '../lib/fault-points.ts';
import { RequestRefusedError, ScheduleUnknownError, WorkerUnreachableError } from './errors.ts';
import type { AnsweredRequest, DeletedSchedule, OperatorRequest, ScheduleRef } from './orchestrator.ts';
import { MEMO_SPEC, startPurge } from './schedule-start.ts';
import { describeSchedule, endingOf, isLive, queryStatus, workflowIdOf } from './schedule-view.ts';
import type { TemporalLink } from './temporal-link.ts';

/** How long a schedule may take to answer a request before the operator is told that it did not. */
const ANSWER_WITHIN_MS = 10_000;
/** How long `delete` waits for the end before it says `deleting`. */
const DELETED_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 100;

const WORDS: Readonly<Record<'pause' | 'resume' | 'runNow' | 'updateSettings', string>> = {
  pause: 'pause',
  resume: 'resume',
  runNow: 'run now',
  updateSettings: 'take these settings',
};

/** @throws {ScheduleUnknownError} {@link RequestRefusedError} {@link WorkerUnreachableError} */
export async function sendRequest(
  link: TemporalLink,
  ref: ScheduleRef,
  request: OperatorRequest,
): Promise<AnsweredRequest> {
  const { kind, ...details } = typeof request === 'string' ? { kind: request } : request;
  const requestId = randomUUID();
  await sendSignal(link, ref, SIGNALS[kind], { requestId, ...details });
  const answered = await awaitAnswer(link, ref, requestId, WORDS[kind]);
  if (answered === null) throw new ScheduleUnknownError(ref.replicaSite, ref.name, 'it ended meanwhile');
  return answered;
}

/** @throws {ScheduleUnknownError} {@link RequestRefusedError} {@link WorkerUnreachableError} */
export async function deleteSchedule(
  link: TemporalLink,
  ref: ScheduleRef,
  request: DeleteRequest,
): Promise<DeletedSchedule> {
  const { status, memo } = await describeSchedule(link, ref);
  const spec = (memo?.[MEMO_SPEC] as ScheduleSpec | undefined) ?? null;
  const uuid = spec?.uuid ?? null;
  const ended = async (): Promise<DeletedSchedule> => ({
    state: 'deleted',
    releaseWorkflowId: uuid === null ? null : await runningRelease(link, uuid),
  });
  if (status.name === 'COMPLETED') {
    return spec !== null && request.purge && !(await isPurged(link, spec)) ? STILL_DELETING : ended();
  }
  const requestId = randomUUID();
  await sendSignal(link, ref, SIGNALS.delete, { requestId, ...request });
  if ((await awaitAnswer(link, ref, requestId, 'be deleted')) === null) return ended();
  const deadlineMs = Date.now() + DELETED_WITHIN_MS;
  while (Date.now() < deadlineMs) {
    if (!isLive(await describeSchedule(link, ref))) return ended();
    await sleep(LOOK_EVERY_MS);
  }
  return STILL_DELETING;
}

const STILL_DELETING: DeletedSchedule = { state: 'deleting', releaseWorkflowId: null };

/** Removes what a schedule left that was deleted before. @returns false when it is not done yet */
async function isPurged(link: TemporalLink, spec: ScheduleSpec): Promise<boolean> {
  await link.call(({ client }) => startPurge(client, spec));
  const deadlineMs = Date.now() + DELETED_WITHIN_MS;
  for (;;) {
    const { status } = await link.call(({ client }) =>
      client.workflow.getHandle(purgeWorkflowId(spec.uuid)).describe(),
    );
    if (status.name !== 'RUNNING') return status.name === 'COMPLETED';
    if (Date.now() > deadlineMs) return false;
    await sleep(LOOK_EVERY_MS);
  }
}

/** The workflow that still releases what a schedule holds at its source; null when none does. */
async function runningRelease(link: TemporalLink, scheduleUuid: string): Promise<string | null> {
  const workflowId = releaseWorkflowId(scheduleUuid);
  try {
    const { status } = await link.call(({ client }) => client.workflow.getHandle(workflowId).describe());
    return status.name === 'RUNNING' ? workflowId : null;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return null;
    throw error;
  }
}

async function sendSignal(
  link: TemporalLink,
  ref: ScheduleRef,
  signal: string,
  argument: object,
): Promise<void> {
  try {
    await link.call(({ client }) =>
      effect('temporal.signal.request', () =>
        client.workflow.getHandle(workflowIdOf(ref)).signal(signal, argument),
      ),
    );
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) throw new ScheduleUnknownError(ref.replicaSite, ref.name);
    throw error;
  }
}

/**
 * @returns null when the workflow ended as it should before it could be seen to answer
 * @throws {RequestRefusedError} {@link WorkerUnreachableError}
 */
async function awaitAnswer(
  link: TemporalLink,
  ref: ScheduleRef,
  requestId: string,
  words: string,
): Promise<AnsweredRequest | null> {
  const deadlineMs = Date.now() + ANSWER_WITHIN_MS;
  for (;;) {
    const description = await describeSchedule(link, ref);
    if (!isLive(description)) {
      if (description.status.name === 'COMPLETED') return null;
      throw new RequestRefusedError(ref.name, words, await endingOf(link, description));
    }
    const view = await queryStatus(link, ref, description);
    const answer = view.reachable
      ? view.status.requests.find(request => request.requestId === requestId)
      : undefined;
    if (answer?.accepted) return { view, reason: answer.reason };
    if (answer !== undefined)
      throw new RequestRefusedError(ref.name, words, answer.reason ?? 'no reason given');
    if (Date.now() > deadlineMs || !view.reachable) {
      const reason = view.reachable ? 'its workflow has not answered yet' : view.reason;
      throw new WorkerUnreachableError(`the request is stored and will be carried out, but not now`, reason);
    }
    await sleep(LOOK_EVERY_MS);
  }
}
