/** Asks a schedule's workflow how it stands, and finds out why it does not answer. */
import {
  QueryNotRegisteredError,
  type WorkflowExecutionDescription,
  WorkflowFailedError,
} from '@temporalio/client';
import { ApplicationFailure, WorkflowNotFoundError } from '@temporalio/common';
import { replicaQueue, scheduleWorkflowId } from '../contract/names.ts';
import { QUERIES, type ScheduleSpec, type ScheduleStatus } from '../contract/schedule.ts';
import { OffsiteError } from '../domain/errors.ts';
import { ScheduleUnknownError, TemporalUnreachableError } from './errors.ts';
import type { ScheduleRef, ScheduleView } from './orchestrator.ts';
import { brokenReason, failureOf } from './pending-steps.ts';
import { lastPolledAt } from './schedule-progress.ts';
import { MEMO_SPEC } from './schedule-start.ts';
import { grpcFault, isDeadline, type TemporalLink } from './temporal-link.ts';

/** After so long without an answer it is looked whether anybody could give one. */
const PATIENCE_MS = 1_000;

export const workflowIdOf = (ref: ScheduleRef): string => scheduleWorkflowId(ref.replicaSite, ref.name);

/** @throws {ScheduleUnknownError} */
export async function viewSchedule(link: TemporalLink, ref: ScheduleRef): Promise<ScheduleView> {
  return queryStatus(link, ref, await describeLive(link, ref));
}

/** How a described schedule stands by its own word. @throws {ScheduleUnknownError} when it ended meanwhile */
export async function queryStatus(
  link: TemporalLink,
  ref: ScheduleRef,
  description: WorkflowExecutionDescription,
): Promise<ScheduleView> {
  try {
    return { reachable: true, ref, status: await ask(link, ref) };
  } catch (error) {
    if (error instanceof OffsiteError) throw error;
    if (error instanceof WorkflowNotFoundError) throw new ScheduleUnknownError(ref.replicaSite, ref.name);
    const spec = (description.memo?.[MEMO_SPEC] as ScheduleSpec | undefined) ?? null;
    const reason = brokenReason(description) ?? (await silenceOf(link, ref, error));
    return { reachable: false, ref, reason, spec };
  }
}

/** Asks a schedule; gives up early where no worker polls, for then nobody can answer. */
async function ask(link: TemporalLink, ref: ScheduleRef): Promise<ScheduleStatus> {
  const givingUp = new AbortController();
  const lookAtWorkers = async (): Promise<void> => {
    const polledAtMs = await lastPolledAt(link, replicaQueue(ref.replicaSite), 'workflow');
    if (polledAtMs === null) givingUp.abort();
  };
  // A failed look changes nothing: the call has its own deadline.
  const timer = setTimeout(() => void lookAtWorkers().catch(() => undefined), PATIENCE_MS);
  try {
    return await link.call(({ client, connection }) =>
      connection.withAbortSignal(givingUp.signal, () =>
        client.workflow.getHandle(workflowIdOf(ref)).query<ScheduleStatus>(QUERIES.status),
      ),
    );
  } finally {
    clearTimeout(timer);
  }
}

/** Why a schedule did not answer. @throws {TemporalUnreachableError} when it is Temporal that does not */
async function silenceOf(link: TemporalLink, ref: ScheduleRef, error: unknown): Promise<string> {
  if (error instanceof QueryNotRegisteredError) return `its workflow cannot answer: ${error.message}`;
  const queue = replicaQueue(ref.replicaSite);
  const { details } = grpcFault(error);
  if (!isDeadline(error) && !/no poller/i.test(details)) return details;
  try {
    const polledAtMs = await lastPolledAt(link, queue, 'workflow');
    const since = polledAtMs === null ? '' : ` (last seen ${new Date(polledAtMs).toISOString()})`;
    return `no worker of site ${ref.replicaSite} answers on ${queue}${since}`;
  } catch (failure) {
    if (isDeadline(failure))
      throw new TemporalUnreachableError(link.target.address, 'it gives no answer in time');
    throw failure;
  }
}

/** @throws {ScheduleUnknownError} also when it has ended */
export async function describeLive(
  link: TemporalLink,
  ref: ScheduleRef,
): Promise<WorkflowExecutionDescription> {
  const description = await describeSchedule(link, ref);
  if (isLive(description)) return description;
  const endedAt = description.closeTime?.toISOString() ?? 'some time ago';
  const how = description.status.name === 'COMPLETED' ? 'deleted' : await endingOf(link, description);
  throw new ScheduleUnknownError(ref.replicaSite, ref.name, `${how}, ${endedAt}`);
}

/** @throws {ScheduleUnknownError} {@link TemporalUnreachableError} */
export async function describeSchedule(
  link: TemporalLink,
  ref: ScheduleRef,
): Promise<WorkflowExecutionDescription> {
  try {
    return await link.call(({ client }) => client.workflow.getHandle(workflowIdOf(ref)).describe());
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) throw new ScheduleUnknownError(ref.replicaSite, ref.name);
    if (isDeadline(error))
      throw new TemporalUnreachableError(link.target.address, 'it gives no answer in time');
    throw error;
  }
}

/** Why a workflow ended, in words. */
export async function endingOf(
  link: TemporalLink,
  { workflowId, runId, status }: WorkflowExecutionDescription,
): Promise<string> {
  if (status.name !== 'FAILED') return `its workflow ended as ${status.name.toLowerCase()}`;
  try {
    await link.call(({ client }) => client.workflow.getHandle(workflowId, runId).result());
    return 'its workflow ended';
  } catch (error) {
    if (!(error instanceof WorkflowFailedError)) throw error;
    let cause: Error = error;
    while (cause.cause instanceof Error) cause = cause.cause;
    return cause instanceof ApplicationFailure && cause.failure
      ? failureOf(cause.failure).message
      : cause.message;
  }
}

export const isLive = ({ status }: WorkflowExecutionDescription): boolean => status.name === 'RUNNING';
