import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  QueryNotRegisteredError,
  type WorkflowExecutionDescription,
  WorkflowFailedError,
} from '@temporalio/client';
import { ApplicationFailure, WorkflowNotFoundError } from '@temporalio/common';
import { replicaQueue, scheduleWorkflowId, WORKFLOW_TYPES } from '../contract/names.ts';
import type { ReplicaActivities } from '../contract/replica-activities.ts';
import {
  QUERIES,
  type ScheduleSettings,
  type ScheduleSpec,
  type ScheduleStatus,
  SIGNALS,
} from '../contract/schedule.ts';
import { OffsiteError } from '../domain/errors.ts';
import { initialScheduleState } from '../domain/schedule-state.ts';
import {
  RequestRefusedError,
  ScheduleConflictError,
  ScheduleExistsError,
  ScheduleUnknownError,
  TemporalUnreachableError,
  WorkerUnreachableError,
} from './errors.ts';
import type {
  Orchestrator,
  PlainRequest,
  ScheduleRef,
  ScheduleView,
  StartedSchedule,
} from './orchestrator.ts';
import { failureOf } from './pending-steps.ts';
import { lastPolledAt, readProgress } from './schedule-progress.ts';
import { MEMO_SPEC, startScheduleWorkflow } from './schedule-start.ts';
import { scheduleDifference } from './settings-difference.ts';
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink, grpcFault, isDeadline, type TemporalLink } from './temporal-link.ts';

/** How long a schedule may take to answer a request before the operator is told that it did not. */
const ANSWER_WITHIN_MS = 10_000;
/** How long `delete` waits for the end before it says `deleting`. */
const DELETED_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 100;
/** After so long without an answer it is looked whether anybody could give one. */
const PATIENCE_MS = 1_000;
/** Schedules that `list` asks at once. */
const ASKED_AT_ONCE = 16;

const workflowIdOf = (ref: ScheduleRef): string => scheduleWorkflowId(ref.replicaSite, ref.name);
const REGISTER_ACTIVITY: keyof ReplicaActivities = 'registerSchedule';

/**
 * Binds the orchestrator to the Temporal that a site's configuration names. Connects at the first call.
 * @throws {OffsiteError} `TemporalProfileInvalid`
 */
export function createOrchestrator({ temporal }: { readonly temporal: TemporalSettings }): Orchestrator {
  const link = createTemporalLink(temporalTarget(temporal));
  return {
    startSchedule: (spec, settings, options) => startSchedule(link, spec, settings, options),
    request: (ref, request) => sendRequest(link, ref, request),
    delete: (ref, request) => deleteSchedule(link, ref, request),
    list: replicaSite => listSchedules(link, replicaSite),
    status: ref => viewSchedule(link, ref),
    progress: async ref => {
      const description = await describeLive(link, ref);
      return readProgress(link, description);
    },
    close: () => link.close(),
  };
}

async function startSchedule(
  link: TemporalLink,
  spec: ScheduleSpec,
  settings: ScheduleSettings,
  { paused }: { readonly paused: boolean },
): Promise<StartedSchedule> {
  const ref = { replicaSite: spec.replicaSite, name: spec.name };
  await link.call(({ client }) =>
    startScheduleWorkflow(client, spec, initialScheduleState(settings, { paused })),
  );
  const { registered, view } = await awaitRegistered(link, ref);
  if (!view.reachable) {
    if (view.spec?.uuid === spec.uuid) return { created: true, spec, registered: false, view };
    throw new WorkerUnreachableError(
      `schedule '${spec.name}' exists already and could not be compared`,
      view.reason,
    );
  }
  const { status } = view;
  if (status.spec.uuid === spec.uuid) return { created: true, spec: status.spec, registered, view };
  if (status.state === 'deleting') throw new ScheduleExistsError(spec.name, 'it is being deleted just now');
  const difference = scheduleDifference(status, { spec, settings });
  if (difference !== null) throw new ScheduleExistsError(spec.name, difference);
  return { created: false, spec: status.spec, registered, view };
}

/**
 * Waits until the schedule has written its row. An answer to a query comes after the workflow has done all that it
 * could: the first shows that the registration was begun, the second that its outcome was processed.
 * @throws {ScheduleConflictError} when the workflow ended instead
 */
async function awaitRegistered(
  link: TemporalLink,
  ref: ScheduleRef,
): Promise<{ registered: boolean; view: ScheduleView }> {
  const deadlineMs = Date.now() + ANSWER_WITHIN_MS;
  for (;;) {
    const view = await query(link, ref, await describe(link, ref));
    const description = await describe(link, ref);
    await throwIfEnded(link, ref, description);
    if (!view.reachable) return { registered: false, view };
    if (!isRegistering(description)) {
      const settled = await query(link, ref, description);
      await throwIfEnded(link, ref, await describe(link, ref));
      return { registered: settled.reachable, view: settled };
    }
    if (Date.now() > deadlineMs) return { registered: false, view };
    await sleep(LOOK_EVERY_MS);
  }
}

const isRegistering = ({ raw }: WorkflowExecutionDescription): boolean =>
  (raw.pendingActivities ?? []).some(({ activityType }) => activityType?.name === REGISTER_ACTIVITY);

async function throwIfEnded(
  link: TemporalLink,
  ref: ScheduleRef,
  description: WorkflowExecutionDescription,
): Promise<void> {
  if (isLive(description)) return;
  throw new ScheduleConflictError(ref.name, await endingOf(link, description));
}

/** Why a workflow ended, in words. */
async function endingOf(
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

async function sendRequest(
  link: TemporalLink,
  ref: ScheduleRef,
  request: PlainRequest,
): Promise<ScheduleView> {
  const requestId = randomUUID();
  await sendSignal(link, ref, SIGNALS[request], { requestId });
  const words = request === 'runNow' ? 'run now' : request;
  const view = await awaitAnswer(link, ref, requestId, words);
  if (view === null) throw new ScheduleUnknownError(ref.replicaSite, ref.name, 'it ended meanwhile');
  return view;
}

async function deleteSchedule(
  link: TemporalLink,
  ref: ScheduleRef,
  { purge }: { readonly purge: boolean },
): Promise<'deleted' | 'deleting'> {
  const before = await describe(link, ref);
  if (before.status.name === 'COMPLETED') return 'deleted';
  const requestId = randomUUID();
  await sendSignal(link, ref, SIGNALS.delete, { requestId, purge });
  if ((await awaitAnswer(link, ref, requestId, 'be deleted')) === null) return 'deleted';
  const deadlineMs = Date.now() + DELETED_WITHIN_MS;
  while (Date.now() < deadlineMs) {
    const description = await describe(link, ref);
    if (!isLive(description)) return 'deleted';
    await sleep(LOOK_EVERY_MS);
  }
  return 'deleting';
}

async function sendSignal(
  link: TemporalLink,
  ref: ScheduleRef,
  signal: string,
  argument: object,
): Promise<void> {
  try {
    await link.call(({ client }) => client.workflow.getHandle(workflowIdOf(ref)).signal(signal, argument));
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
): Promise<ScheduleView | null> {
  const deadlineMs = Date.now() + ANSWER_WITHIN_MS;
  for (;;) {
    const description = await describe(link, ref);
    if (!isLive(description)) {
      if (description.status.name === 'COMPLETED') return null;
      throw new RequestRefusedError(ref.name, words, await endingOf(link, description));
    }
    const view = await query(link, ref, description);
    const answer = view.reachable
      ? view.status.requests.find(request => request.requestId === requestId)
      : undefined;
    if (answer?.accepted) return view;
    if (answer !== undefined)
      throw new RequestRefusedError(ref.name, words, answer.reason ?? 'no reason given');
    if (Date.now() > deadlineMs || !view.reachable) {
      const reason = view.reachable ? 'its workflow has not answered yet' : view.reason;
      throw new WorkerUnreachableError(`the request is stored and will be carried out, but not now`, reason);
    }
    await sleep(LOOK_EVERY_MS);
  }
}

async function listSchedules(link: TemporalLink, replicaSite: string): Promise<readonly ScheduleView[]> {
  const prefix = scheduleWorkflowId(replicaSite, '');
  const listed = await link.call(async ({ client }) => {
    const names: string[] = [];
    const searched = `WorkflowType = '${WORKFLOW_TYPES.schedule}' AND ExecutionStatus = 'Running'`;
    for await (const { workflowId } of client.workflow.list({ query: searched })) {
      if (workflowId.startsWith(prefix)) names.push(workflowId.slice(prefix.length));
    }
    return names;
  }, ANSWER_WITHIN_MS);
  const names = [...new Set(listed)].sort();
  const views: ScheduleView[] = [];
  while (views.length < names.length) {
    const asked = names.slice(views.length, views.length + ASKED_AT_ONCE);
    const answers = await Promise.all(asked.map(name => viewOrGone(link, { replicaSite, name })));
    names.splice(views.length, asked.length, ...asked.filter((_, index) => answers[index] !== null));
    views.push(...answers.filter(answer => answer !== null));
  }
  return views;
}

async function viewOrGone(link: TemporalLink, ref: ScheduleRef): Promise<ScheduleView | null> {
  try {
    return await viewSchedule(link, ref);
  } catch (error) {
    if (error instanceof ScheduleUnknownError) return null;
    throw error;
  }
}

async function viewSchedule(link: TemporalLink, ref: ScheduleRef): Promise<ScheduleView> {
  return query(link, ref, await describeLive(link, ref));
}

async function query(
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
    return { reachable: false, ref, reason: await silenceOf(link, ref, error), spec };
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
async function describeLive(link: TemporalLink, ref: ScheduleRef): Promise<WorkflowExecutionDescription> {
  const description = await describe(link, ref);
  if (isLive(description)) return description;
  const endedAt = description.closeTime?.toISOString() ?? 'some time ago';
  const how = description.status.name === 'COMPLETED' ? 'deleted' : await endingOf(link, description);
  throw new ScheduleUnknownError(ref.replicaSite, ref.name, `${how}, ${endedAt}`);
}

async function describe(link: TemporalLink, ref: ScheduleRef): Promise<WorkflowExecutionDescription> {
  try {
    return await link.call(({ client }) => client.workflow.getHandle(workflowIdOf(ref)).describe());
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) throw new ScheduleUnknownError(ref.replicaSite, ref.name);
    if (isDeadline(error))
      throw new TemporalUnreachableError(link.target.address, 'it gives no answer in time');
    throw error;
  }
}

const isLive = ({ status }: WorkflowExecutionDescription): boolean => status.name === 'RUNNING';
