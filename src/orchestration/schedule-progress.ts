/** Looks below a schedule: its running task, that task's disks, and what each of them waits for. */
import type { WorkflowExecutionDescription } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { WORKFLOW_TYPES } from '../contract/names.ts';
import { QUERIES, type TaskStatus } from '../contract/schedule.ts';
import { OffsiteError } from '../domain/errors.ts';
import type { PendingStep, ScheduleProgress } from './orchestrator.ts';
import { type LastPolled, pendingSteps } from './pending-steps.ts';
import type { TemporalLink } from './temporal-link.ts';

/** Task queue types. @see temporal/api/enums/v1/task_queue.proto */
const QUEUE_TYPES = { workflow: 1, activity: 2 } as const;
export type QueueType = keyof typeof QUEUE_TYPES;

/** Reads what runs below a described schedule. What ended between two looks is left out. */
export async function readProgress(
  link: TemporalLink,
  schedule: WorkflowExecutionDescription,
): Promise<ScheduleProgress> {
  const context = { lastPolled: rememberedPolls(link), nowMs: Date.now() };
  const pending = await pendingSteps(schedule, { level: 'schedule', disk: null }, context);
  const [taskId] = childrenOf(schedule, WORKFLOW_TYPES.task);
  const task = taskId === undefined ? null : await describeOrNull(link, taskId);
  if (taskId === undefined || task === null) return { task: null, step: null, pending };

  pending.push(...(await pendingSteps(task, { level: 'task', disk: null }, context)));
  const stepsOfDisk = async (workflowId: string): Promise<PendingStep[]> => {
    const description = await describeOrNull(link, workflowId);
    const disk = workflowId.split('/').at(-1) ?? null;
    return description === null ? [] : pendingSteps(description, { level: 'disk', disk }, context);
  };
  const [status, ...diskSteps] = await Promise.all([
    askTask(link, taskId),
    ...childrenOf(task, WORKFLOW_TYPES.diskTask).map(stepsOfDisk),
  ]);
  pending.push(...diskSteps.flat());
  return { task: status?.summary ?? null, step: status?.step ?? null, pending };
}

const childrenOf = ({ raw }: WorkflowExecutionDescription, type: string): string[] =>
  (raw.pendingChildren ?? []).flatMap(({ workflowId, workflowTypeName }) =>
    workflowId && workflowTypeName === type ? [workflowId] : [],
  );

async function describeOrNull(
  link: TemporalLink,
  workflowId: string,
): Promise<WorkflowExecutionDescription | null> {
  try {
    return await link.call(({ client }) => client.workflow.getHandle(workflowId).describe());
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return null;
    throw error;
  }
}

/** A task that does not answer is shown without its own word: the view of its schedule says why. */
async function askTask(link: TemporalLink, workflowId: string): Promise<TaskStatus | null> {
  try {
    return await link.call(({ client }) =>
      client.workflow.getHandle(workflowId).query<TaskStatus>(QUERIES.taskStatus),
    );
  } catch (error) {
    if (error instanceof OffsiteError) throw error;
    return null;
  }
}

function rememberedPolls(link: TemporalLink): LastPolled {
  const asked = new Map<string, Promise<number | null>>();
  return queue => {
    const answer = asked.get(queue) ?? lastPolledAt(link, queue, 'activity');
    asked.set(queue, answer);
    return answer;
  };
}

/** When a worker last asked a task queue for work, in ms; null when the server remembers none (some minutes). */
export async function lastPolledAt(
  link: TemporalLink,
  queue: string,
  type: QueueType,
): Promise<number | null> {
  const { pollers } = await link.call(({ connection }) =>
    connection.workflowService.describeTaskQueue({
      namespace: link.target.namespace,
      taskQueue: { name: queue },
      taskQueueType: QUEUE_TYPES[type],
    }),
  );
  const times = (pollers ?? []).map(
    ({ lastAccessTime: at }) => Number(at?.seconds ?? 0) * 1000 + Math.floor((at?.nanos ?? 0) / 1e6),
  );
  return times.length === 0 ? null : Math.max(...times);
}
