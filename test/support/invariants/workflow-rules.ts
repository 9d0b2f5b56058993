/** Rules 2 and 6: what the catalogs say is going on is what Temporal runs. */
import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import {
  releaseWorkflowId,
  replicaQueue,
  scheduleWorkflowId,
  taskWorkflowId,
  WORKFLOW_TYPES,
} from '../../../src/contract/names.ts';
import type { ReplicaRows } from './site-rows.ts';
import type { Violation } from './violation.ts';

export interface WorkflowRuleInput {
  readonly client: Client;
  readonly replicaSite: string;
  readonly quiescent: boolean;
  /** Null for all. */
  readonly hosts: readonly string[] | null;
  /** Looks again: between the first look and Temporal's answer a task or schedule may have ended. */
  reload(): Promise<ReplicaRows>;
}

export async function* checkWorkflows(
  replica: ReplicaRows,
  input: WorkflowRuleInput,
): AsyncGenerator<Violation, undefined> {
  const { client, replicaSite, quiescent, hosts } = input;
  const liveNames = namesOfLive(replica);
  const looked = replica.schedules.filter(({ host }) => hosts === null || hosts.includes(host));
  for (const name of new Set(looked.map(schedule => schedule.name))) {
    const id = scheduleWorkflowId(replicaSite, name);
    const runs = await isRunning(client, id);
    if (liveNames.has(name) && !runs && namesOfLive(await input.reload()).has(name)) {
      yield { rule: 6, code: 'workflowMissing', text: `schedule ${name} lives, but ${id} does not run` };
    } else if (!liveNames.has(name) && runs && quiescent) {
      yield { rule: 2, code: 'workflowOfDeleted', text: `schedule ${name} is deleted, but ${id} runs` };
    }
  }
  for (const taskUuid of unfinishedTasks(replica)) {
    if (await isRunning(client, taskWorkflowId(taskUuid))) continue;
    if (!unfinishedTasks(await input.reload()).has(taskUuid)) continue;
    yield {
      rule: 2,
      code: 'taskWithoutWorkflow',
      text: `task ${taskUuid} is unfinished and no workflow runs it`,
    };
  }
  for (const uuid of owedReleases(replica)) {
    // Done, it is still known to Temporal until B has noted so.
    if (await isKnown(client, releaseWorkflowId(uuid))) continue;
    if (!owedReleases(await input.reload()).has(uuid)) continue;
    const text = `site A still has to be told of deleted schedule ${uuid}, and no workflow does`;
    yield { rule: 3, code: 'releaseLost', text };
  }
  if (!quiescent) return;
  yield* checkStrangers(client, replicaSite, replica);
}

/** Running workflows of this site that no row knows. */
async function* checkStrangers(
  client: Client,
  replicaSite: string,
  replica: ReplicaRows,
): AsyncGenerator<Violation, undefined> {
  const taskUuids = unfinishedTasks(replica);
  const known = new Set(
    replica.schedules.flatMap(row => [
      scheduleWorkflowId(replicaSite, row.name),
      ...(row.state === 'deleted' ? [releaseWorkflowId(row.uuid)] : []),
    ]),
  );
  const types = Object.values(WORKFLOW_TYPES).map(name => `'${name}'`);
  const query = `ExecutionStatus = 'Running' AND WorkflowType IN (${types.join(', ')}) AND TaskQueue = '${replicaQueue(replicaSite)}'`;
  for await (const { workflowId } of client.workflow.list({ query })) {
    const [kind, taskUuid = ''] = workflowId.split('/');
    const isKnown = known.has(workflowId) || (kind !== 'schedule' && taskUuids.has(taskUuid));
    // The list lags behind the truth; a second look tells what still runs.
    if (isKnown || !(await isRunning(client, workflowId))) continue;
    yield { rule: 2, code: 'workflowWithoutRow', text: `${workflowId} runs, but no row stands for it` };
  }
}

const namesOfLive = ({ schedules }: ReplicaRows): Set<string> =>
  new Set(schedules.filter(row => row.state !== 'deleted').map(row => row.name));

const unfinishedTasks = ({ tasks }: ReplicaRows): Set<string> =>
  new Set(tasks.filter(task => task.outcome === null).map(task => task.taskUuid));

const owedReleases = ({ schedules }: ReplicaRows): Set<string> =>
  new Set(schedules.filter(row => row.isReleasePending).map(row => row.uuid));

const isRunning = async (client: Client, workflowId: string): Promise<boolean> =>
  (await statusOf(client, workflowId)) === 'RUNNING';

const isKnown = async (client: Client, workflowId: string): Promise<boolean> =>
  ['RUNNING', 'COMPLETED'].includes((await statusOf(client, workflowId)) ?? '');

async function statusOf(client: Client, workflowId: string): Promise<string | null> {
  try {
    const { status } = await client.workflow.getHandle(workflowId).describe();
    return status.name;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return null;
    throw error;
  }
}
