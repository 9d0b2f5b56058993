/** How a schedule's workflow is started, whoever does it. */
import type { Client, WorkflowStartOptions } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { replicaQueue, scheduleWorkflowId, WORKFLOW_TYPES } from '../contract/names.ts';
import type { ScheduleSettings, ScheduleSpec, ScheduleState } from '../contract/schedule.ts';
import { formatDuration } from '../lib/durations.ts';
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink } from './temporal-link.ts';

/** Where the spec is noted, so that it can be told while no worker answers. */
export const MEMO_SPEC = 'scheduleSpec';

/** Starts the workflow, or finds the one of this name that runs. */
export async function startScheduleWorkflow(
  client: Client,
  spec: ScheduleSpec,
  state: ScheduleState,
): Promise<void> {
  const options: WorkflowStartOptions = {
    workflowId: scheduleWorkflowId(spec.replicaSite, spec.name),
    taskQueue: replicaQueue(spec.replicaSite),
    workflowIdConflictPolicy: 'USE_EXISTING',
    args: [spec, state],
    memo: { [MEMO_SPEC]: spec },
    staticSummary: summaryOf(spec, state.settings),
  };
  await client.workflow.start(WORKFLOW_TYPES.schedule, options);
}

const summaryOf = (spec: ScheduleSpec, settings: ScheduleSettings): string => {
  const rhythm =
    settings.everyMs === null ? (settings.cron ?? settings.type) : formatDuration(settings.everyMs);
  return `${spec.host}: ${spec.sourceSite} → ${spec.replicaSite}, ${rhythm}`;
};

export interface ScheduleStarter {
  /** @throws {TemporalUnreachableError} {@link TemporalRefusedError} */
  isRunning(spec: ScheduleSpec): Promise<boolean>;
  /** @throws {TemporalUnreachableError} {@link TemporalRefusedError} */
  start(spec: ScheduleSpec, state: ScheduleState): Promise<void>;
  close(): Promise<void>;
}

/** For a site that gives its rows their workflows back. */
export function createScheduleStarter(settings: TemporalSettings): ScheduleStarter {
  const link = createTemporalLink(temporalTarget(settings));
  return {
    async isRunning({ replicaSite, name }) {
      try {
        const { status } = await link.call(({ client }) =>
          client.workflow.getHandle(scheduleWorkflowId(replicaSite, name)).describe(),
        );
        return status.name === 'RUNNING';
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return false;
        throw error;
      }
    },
    start: (spec, state) => link.call(({ client }) => startScheduleWorkflow(client, spec, state)),
    close: () => link.close(),
  };
}
