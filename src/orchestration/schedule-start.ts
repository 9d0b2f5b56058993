/** How a schedule's workflow is started, whoever does it. */
import type { Client, WorkflowStartOptions } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import {
  purgeWorkflowId,
  releaseSummary,
  releaseWorkflowId,
  replicaQueue,
  scheduleWorkflowId,
  WORKFLOW_TYPES,
} from '../contract/names.ts';
import type { ScheduleSettings, ScheduleSpec, ScheduleState } from '../contract/schedule.ts';
import { purgingScheduleState } from '../domain/schedule-state.ts';
import { formatDuration } from '../lib/durations.ts';
import { effect } from '../lib/fault-points.ts';
import { lacksSearchAttributes, registerSearchAttributes, searchAttributesOf } from './search-attributes.ts';
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink } from './temporal-link.ts';

/** Where the spec is noted, so that it can be told while no worker answers. */
export const MEMO_SPEC = 'scheduleSpec';

/**
 * Starts the workflow, or finds the one of this name that runs. In a namespace without our search attributes they are
 * registered; where that may not be, the schedule lives without them.
 */
export async function startScheduleWorkflow(
  client: Client,
  spec: ScheduleSpec,
  state: ScheduleState,
): Promise<void> {
  const start = async (searchAttributes: boolean): Promise<void> => {
    const options: WorkflowStartOptions = {
      workflowId: scheduleWorkflowId(spec.replicaSite, spec.name),
      taskQueue: replicaQueue(spec.replicaSite),
      workflowIdConflictPolicy: 'USE_EXISTING',
      args: [spec, { ...state, searchAttributes }],
      memo: { [MEMO_SPEC]: spec },
      staticSummary: summaryOf(spec, state.settings),
      ...(searchAttributes ? { typedSearchAttributes: searchAttributesOf(spec, state) } : {}),
    };
    await effect('temporal.start.schedule', () => client.workflow.start(WORKFLOW_TYPES.schedule, options));
  };
  const isStarted = async (): Promise<boolean> => {
    try {
      await start(true);
      return true;
    } catch (error) {
      if (!lacksSearchAttributes(error)) throw error;
      return false;
    }
  };
  if (await isStarted()) return;
  // A cluster may take some seconds until all of it knows them.
  if ((await mayRegister(client)) && (await isStarted())) return;
  await start(false);
}

/** @returns whether the namespace has our search attributes now */
async function mayRegister({ connection, options: { namespace } }: Client): Promise<boolean> {
  try {
    await registerSearchAttributes(connection, namespace);
    return true;
  } catch {
    return false;
  }
}

const summaryOf = (spec: ScheduleSpec, settings: ScheduleSettings): string => {
  const rhythm =
    settings.everyMs === null
      ? (settings.cron ?? settings.type)
      : `every ${formatDuration(settings.everyMs)}`;
  return `host ${spec.host} from ${spec.sourceSite} to ${spec.replicaSite}, ${rhythm}`;
};

/** Removes the replicas of a schedule that was deleted before; finds the one that does so already. */
export async function startPurge(client: Client, spec: ScheduleSpec): Promise<void> {
  await effect('temporal.start.purge', () =>
    client.workflow.start(WORKFLOW_TYPES.schedule, {
      workflowId: purgeWorkflowId(spec.uuid),
      taskQueue: replicaQueue(spec.replicaSite),
      workflowIdConflictPolicy: 'USE_EXISTING',
      args: [spec, purgingScheduleState()],
      staticSummary: `${spec.name}: removes the replicas that stayed when it was deleted`,
    }),
  );
}

export interface ScheduleStarter {
  /** @throws {TemporalUnreachableError} {@link TemporalRefusedError} */
  isRunning(spec: ScheduleSpec): Promise<boolean>;
  /** @throws {TemporalUnreachableError} {@link TemporalRefusedError} */
  start(spec: ScheduleSpec, state: ScheduleState): Promise<void>;
  /** How the workflow stands that releases what the source holds for a deleted schedule; `gone` also when it failed. */
  releaseState(spec: ScheduleSpec): Promise<'running' | 'done' | 'gone'>;
  /** Starts it, or finds it running. */
  startRelease(spec: ScheduleSpec): Promise<void>;
  close(): Promise<void>;
}

/** For a site that gives its rows their workflows back. */
export function createScheduleStarter(settings: TemporalSettings): ScheduleStarter {
  const link = createTemporalLink(temporalTarget(settings));

  /** @returns null when Temporal does not know the workflow */
  async function statusOf(workflowId: string): Promise<string | null> {
    try {
      const { status } = await link.call(({ client }) => client.workflow.getHandle(workflowId).describe());
      return status.name;
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return null;
      throw error;
    }
  }

  return {
    isRunning: async ({ replicaSite, name }) =>
      (await statusOf(scheduleWorkflowId(replicaSite, name))) === 'RUNNING',
    start: (spec, state) => link.call(({ client }) => startScheduleWorkflow(client, spec, state)),
    async releaseState({ uuid }) {
      const status = await statusOf(releaseWorkflowId(uuid));
      if (status === 'COMPLETED') return 'done';
      return status === 'RUNNING' ? 'running' : 'gone';
    },
    async startRelease(spec) {
      await link.call(({ client }) =>
        effect('temporal.start.release', () =>
          client.workflow.start(WORKFLOW_TYPES.release, {
            workflowId: releaseWorkflowId(spec.uuid),
            taskQueue: replicaQueue(spec.replicaSite),
            workflowIdConflictPolicy: 'USE_EXISTING',
            args: [{ spec }],
            staticSummary: releaseSummary(spec),
          }),
        ),
      );
    },
    close: () => link.close(),
  };
}
