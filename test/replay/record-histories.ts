/** Records histories of real runs for the replay tests. Run by scripts/record-history.mjs, once a release. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { History } from '@temporalio/common/lib/proto-utils.js';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { diskWorkflowId, scheduleWorkflowId, taskWorkflowId } from '../../src/contract/names.ts';
import { FakeSites, failure, hangUntilCancelled, until } from '../workflows/support/fake-sites.ts';

const folder = process.env.OFFSITE_HISTORY_FOLDER ?? '';
if (folder === '') throw new Error('run scripts/record-history.mjs');

let sites: FakeSites;
beforeEach(async () => {
  sites = new FakeSites();
  await sites.start();
});
afterEach(() => sites.stop());

/** Writes the histories of everything that a scenario ran: every run of the schedule, tasks, disks. */
async function save(scenario: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const { replicaSite, name } = sites.spec;
  let runId: string | undefined = (await sites.handle.describe()).raw.workflowExecutionInfo?.firstRunId ?? '';
  for (let run = 1; runId; run++) {
    const history: History = await write(
      `${scenario}.schedule-${run}`,
      scheduleWorkflowId(replicaSite, name),
      runId,
    );
    const last = history.events?.at(-1);
    runId = last?.workflowExecutionContinuedAsNewEventAttributes?.newExecutionRunId ?? undefined;
  }
  const tasks = sites.callsOf('createEmptyTask').map(({ input }) => input.taskUuid as string);
  for (const [index, taskUuid] of tasks.entries()) {
    await write(`${scenario}.task-${index + 1}`, taskWorkflowId(taskUuid));
    for (const plan of [1, 2]) {
      const id = diskWorkflowId(taskUuid, plan, 'vda');
      const ran = sites
        .callsOf('openReceiver')
        .some(({ input }) => input.taskUuid === taskUuid && input.fence.plan === plan);
      if (ran) await write(`${scenario}.task-${index + 1}.plan-${plan}.vda`, id);
    }
  }
}

async function write(file: string, workflowId: string, runId?: string): Promise<History> {
  const history: History = await sites.client.workflow.getHandle(workflowId, runId).fetchHistory();
  const path = join(folder, `${file}.json`);
  if (existsSync(path)) throw new Error(`${path} is there already: recorded histories are only added to`);
  const events = JSON.parse(historyToJSON(history), withoutPlaces);
  writeFileSync(path, `${JSON.stringify(events, null, 1)}\n`);
  return history;
}

/** Stack traces name folders of the machine, and replaying does not need them. */
const withoutPlaces = (key: string, value: unknown): unknown => (key === 'stackTrace' ? '' : value);

it('full run, increment, up to date', async () => {
  await sites.startSchedule();
  expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
  sites.snapshots = 2;
  await sites.request('runNow');
  await sites.untilTaskEnds(2);
  await sites.request('runNow');
  expect((await sites.untilTaskEnds(3)).outcome).toBe('upToDate');
  await save('published');
});

it('pause in the middle, resume, delete', async () => {
  const { sendDisk } = sites.activities;
  sites.activities.sendDisk = () => hangUntilCancelled();
  await sites.startSchedule();
  await sites.untilCalled('sendDisk', 2);
  await sites.request('pause');
  await sites.untilTaskEnds(1);
  sites.activities.sendDisk = sendDisk;
  await sites.request('resume');
  await sites.untilTaskEnds(2);
  await sites.request('delete', { purge: false });
  await sites.handle.result();
  await save('paused');
});

it('plan anew, after a receiver was opened twice', async () => {
  const { sendDisk } = sites.activities;
  sites.activities.sendDisk = async input => {
    if (input.fence.plan > 1) return sendDisk(input);
    if (input.receiver.epoch.openCount === 1) throw failure('ReopenNeeded', 'unreachable for 2 minutes');
    throw failure('PlanBroken', 'the base was edited');
  };
  await sites.startSchedule();
  expect((await sites.untilTaskEnds(1)).outcome).toBe('published');
  await save('planned-anew');
});

it('roll-over between tasks', async () => {
  await sites.startSchedule({ state: { rollOverAfterTasks: 1 } });
  await sites.untilTaskEnds(1);
  await sites.request('runNow');
  await sites.untilTaskEnds(2);
  await sites.request('pause');
  await until('the pause', async () => ((await sites.status()).state === 'paused' ? true : null));
  await save('rolled-over');
});
