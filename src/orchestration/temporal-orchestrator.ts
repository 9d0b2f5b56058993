import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkflowExecutionDescription } from '@temporalio/client';
import { replicaQueue, scheduleWorkflowId, WORKFLOW_TYPES } from '../contract/names.ts';
import type { ReplicaActivities } from '../contract/replica-activities.ts';
import type { ScheduleSettings, ScheduleSpec } from '../contract/schedule.ts';
import { initialScheduleState } from '../domain/schedule-state.ts';
import {
  ScheduleConflictError,
  ScheduleExistsError,
  ScheduleUnknownError,
  WorkerUnreachableError,
} from './errors.ts';
import type {
  LeftRelease,
  Orchestrator,
  ScheduleRef,
  ScheduleView,
  StartedSchedule,
} from './orchestrator.ts';
import { deleteSchedule, sendRequest } from './request-sending.ts';
import { readProgress } from './schedule-progress.ts';
import { startScheduleWorkflow } from './schedule-start.ts';
import {
  describeLive,
  describeSchedule,
  endingOf,
  isLive,
  queryStatus,
  viewSchedule,
} from './schedule-view.ts';
import { scheduleDifference } from './settings-difference.ts';
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink, type TemporalLink } from './temporal-link.ts';

/** How long a schedule may take to register itself before the operator is told that it did not. */
const ANSWER_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 100;
/** Schedules that `list` asks at once. */
const ASKED_AT_ONCE = 16;

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
    releases: replicaSite => listReleases(link, replicaSite),
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
    const view = await queryStatus(link, ref, await describeSchedule(link, ref));
    const description = await describeSchedule(link, ref);
    await throwIfEnded(link, ref, description);
    if (!view.reachable) return { registered: false, view };
    if (!isRegistering(description)) {
      const settled = await queryStatus(link, ref, description);
      await throwIfEnded(link, ref, await describeSchedule(link, ref));
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

/** What schedules that were deleted by force left to be released at their sources. */
async function listReleases(link: TemporalLink, replicaSite: string): Promise<readonly LeftRelease[]> {
  const ofSite = `TaskQueue = '${replicaQueue(replicaSite)}' AND ExecutionStatus = 'Running'`;
  const searched = `WorkflowType = '${WORKFLOW_TYPES.release}' AND ${ofSite}`;
  return link.call(async ({ client }) => {
    const releases: LeftRelease[] = [];
    for await (const { workflowId, startTime } of client.workflow.list({ query: searched })) {
      const { staticSummary } = await client.workflow.getHandle(workflowId).describe();
      releases.push({
        workflowId,
        startedAtMs: startTime.getTime(),
        summary: (await staticSummary()) ?? null,
      });
    }
    return releases;
  }, ANSWER_WITHIN_MS);
}
