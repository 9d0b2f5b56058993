import { randomUUID } from 'node:crypto';
import { Client, Connection } from '@temporalio/client';
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, test, vi } from 'vitest';
import {
  replicaQueue,
  scheduleWorkflowId,
  taskWorkflowId,
  WORKFLOW_TYPES,
} from '../../../src/contract/names.ts';
import { checkInvariants } from '../../support/invariants/check-invariants.ts';
import {
  createStateMaker,
  DELETED_SCHEDULE,
  SCHEDULE,
  type State,
  type StateMaker,
  TASKS,
} from './clean-state.ts';

let maker: StateMaker;
let connection: Connection;
let client: Client;
let state: State;
/** Of this test only, so that no workflow of another is in its way. No worker runs: a started one stays as it is. */
let replicaSite: string;
const started = new Set<string>();

beforeAll(async () => {
  maker = await createStateMaker(inject('postgresUrl'));
  connection = await Connection.connect({ address: inject('temporalAddress') });
  client = new Client({ connection });
});
afterAll(async () => {
  await connection.close();
  await maker.close();
});
beforeEach(async () => {
  state = await maker.make();
  replicaSite = `b${randomUUID().slice(0, 8)}`;
  await start(WORKFLOW_TYPES.schedule, scheduleWorkflowId(replicaSite, SCHEDULE.name));
});
afterEach(async () => {
  for (const id of started) await end(id);
});

async function start(type: string, workflowId: string): Promise<void> {
  await client.workflow.start(type, { workflowId, taskQueue: replicaQueue(replicaSite), args: [] });
  started.add(workflowId);
}

async function end(workflowId: string): Promise<void> {
  await client.workflow.getHandle(workflowId).terminate();
  started.delete(workflowId);
}

async function codes(quiescent = true): Promise<string[]> {
  const { sourceDb, replicaDb, replicaRoot } = state;
  const found = await checkInvariants({
    sourceDb,
    replicaDb,
    replicaRoots: [replicaRoot],
    temporal: { client, replicaSite },
    quiescent,
  });
  return found.map(violation => violation.code);
}

/** Temporal's list lags behind its truth by a moment. */
const untilListed = (expected: string[]) =>
  vi.waitFor(async () => expect(await codes()).toEqual(expected), { timeout: 10_000, interval: 200 });

const unfinish = () =>
  state.replica('remote_backup_tasks').where({ uuid: TASKS[2] }).update({ outcome: null, finished_at: null });

test('finds nothing when each live schedule and each unfinished task has its workflow', async () => {
  expect(await codes()).toEqual([]);
  await unfinish();
  await start(WORKFLOW_TYPES.task, taskWorkflowId(TASKS[2]));
  await start(WORKFLOW_TYPES.diskTask, `disk/${TASKS[2]}/1/vda`);
  expect(await codes(false)).toEqual([]);
  expect(await codes(true)).toEqual([]);
});

test('finds a live schedule without its workflow', async () => {
  await end(scheduleWorkflowId(replicaSite, SCHEDULE.name));
  expect(await codes()).toEqual(['workflowMissing']);
  expect(await codes(false)).toEqual(['workflowMissing']);
});

test('finds the workflow of a deleted schedule', async () => {
  await start(WORKFLOW_TYPES.schedule, scheduleWorkflowId(replicaSite, DELETED_SCHEDULE.name));
  expect(await codes()).toEqual(['workflowOfDeleted']);
});

test('finds an unfinished task that no workflow runs', async () => {
  await unfinish();
  expect(await codes(false)).toEqual(['taskWithoutWorkflow']);
});

test('finds a running task whose row is finished', async () => {
  await start(WORKFLOW_TYPES.task, taskWorkflowId(TASKS[2]));
  await untilListed(['workflowWithoutRow']);
});

test('finds a schedule that no row knows', async () => {
  await start(WORKFLOW_TYPES.schedule, scheduleWorkflowId(replicaSite, 'unknown'));
  await untilListed(['workflowWithoutRow']);
});
