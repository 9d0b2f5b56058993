/** Records histories of real runs for the replay tests. Run by scripts/record-history.mjs, once a release. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { History } from '@temporalio/common/lib/proto-utils.js';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { diskWorkflowId, releaseWorkflowId, taskWorkflowId } from '../../src/contract/names.ts';
import { ensureSearchAttributes } from '../../src/orchestration/search-attributes.ts';
import {
  allBut,
  FakeSites,
  failure,
  hangUntilCancelled,
  SETTINGS,
  until,
} from '../workflows/support/fake-sites.ts';

const folder = process.env.OFFSITE_HISTORY_FOLDER ?? '';
if (folder === '') throw new Error('run scripts/record-history.mjs');

let sites: FakeSites;
beforeEach(() => {
  sites = new FakeSites();
});
afterEach(() => sites.stop());

/** Writes the histories of everything that a scenario ran: every run of the schedule, tasks, disks. */
async function save(scenario: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const histories = await until('the last run at work', async () => {
    const found = await sites.scheduleHistories();
    return found.at(-1)?.events?.some(event => event.workflowTaskCompletedEventAttributes) ? found : null;
  });
  for (const [index, history] of histories.entries()) {
    write(`${scenario}.schedule-${index + 1}`, history);
  }
  const tasks = sites.callsOf('createEmptyTask').map(({ input }) => input.taskUuid as string);
  for (const [index, taskUuid] of tasks.entries()) {
    write(`${scenario}.task-${index + 1}`, await fetch(taskWorkflowId(taskUuid)));
    for (const plan of [1, 2]) {
      const id = diskWorkflowId(taskUuid, plan, 'vda');
      const ran = sites
        .callsOf('openReceiver')
        .some(({ input }) => input.taskUuid === taskUuid && input.fence.plan === plan);
      if (ran) write(`${scenario}.task-${index + 1}.plan-${plan}.vda`, await fetch(id));
    }
  }
}

const fetch = (workflowId: string): Promise<History> =>
  sites.client.workflow.getHandle(workflowId).fetchHistory();

function write(file: string, history: History): void {
  const path = join(folder, `${file}.json`);
  if (existsSync(path)) throw new Error(`${path} is there already: recorded histories are only added to`);
  const events = JSON.parse(historyToJSON(history), withoutPlaces);
  writeFileSync(path, `${JSON.stringify(events, null, 1)}\n`);
}

/** Stack traces name folders of the machine, and replaying does not need them. */
const withoutPlaces = (key: string, value: unknown): unknown => (key === 'stackTrace' ? '' : value);

it('full run, increment, up to date', async () => {
  await sites.start();
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
  await sites.start();
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
  await sites.start();
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
  await sites.start();
  await sites.startSchedule({ state: { rollOverAfterTasks: 1 } });
  await sites.untilTaskEnds(1);
  await sites.request('runNow');
  await sites.untilTaskEnds(2);
  await sites.request('pause');
  await sites.untilStatus({ state: 'paused' });
  await save('rolled-over');
});

it('roll-over while signals come', async () => {
  await sites.start();
  await sites.startSchedule({ state: { rollOverAfterTasks: 1 } });
  for (let round = 1; round <= 100; round++) {
    if (round % 8 === 0 && (await sites.sawSignalBetweenRuns())) break;
    await sites.handle.signal('runNow', { requestId: `run-${round}` });
    const settings = { rpoMs: round * 1_000 };
    await sites.handle.signal('updateSettings', { requestId: `update-${round}`, settings });
    await new Promise(resolve => setTimeout(resolve, 25));
  }
  expect(await sites.sawSignalBetweenRuns()).toBe(true);
  await sites.request('pause');
  await sites.untilStatus({ state: 'paused', runningTask: null });
  await save('rolled-over-signalled');
});

it('drain, then release; new settings while a task runs', async () => {
  await sites.start();
  const { sendDisk } = sites.activities;
  const held = sites.hold('finishTask');
  await sites.startSchedule();
  await held.reached;
  await sites.request('pause', { mode: 'drain' });
  held.release();
  await sites.untilStatus({ state: 'paused', runningTask: null });
  sites.snapshots = 2;
  sites.activities.sendDisk = () => hangUntilCancelled();
  await sites.request('resume');
  await sites.request('runNow');
  await sites.untilCalled('sendDisk', 4);
  await sites.request('updateSettings', { settings: { bandwidthBytesPerSecond: 4096, everyMs: 60_000 } });
  await sites.untilCalled('setRate');
  await sites.request('pause', { mode: 'release' });
  await sites.untilCalled('releaseUnfinished');
  await sites.untilStatus({ state: 'paused', runningTask: null, note: null });
  sites.activities.sendDisk = sendDisk;
  await sites.request('resume');
  await sites.untilTaskEnds(3);
  await save('released');
});

it('delete in the middle of a disk', async () => {
  await sites.start();
  sites.activities.sendDisk = () => hangUntilCancelled();
  await sites.startSchedule();
  await sites.untilCalled('sendDisk', 2);
  await sites.request('delete', { purge: true });
  await sites.handle.result();
  await save('deleted');
});

it('delete by force while the source is silent', async () => {
  await sites.start(allBut('source'));
  await sites.startSchedule();
  await sites.untilCalled('createEmptyTask');
  await sites.request('delete', { purge: false });
  await sites.untilCalled('beginDelete', 2);
  await sites.request('delete', { purge: false, force: true });
  await sites.handle.result();
  await sites.start(['source']);
  const releaseId = releaseWorkflowId(sites.spec.uuid);
  await sites.client.workflow.getHandle(releaseId).result();
  await save('forced');
  write('forced.release', await fetch(releaseId));
});

it('continuous, told of a snapshot', async () => {
  await sites.start();
  await sites.startSchedule({ state: { settings: { ...SETTINGS, type: 'continuous', everyMs: null } } });
  await sites.untilTaskEnds(2);
  sites.snapshots = 3;
  await sites.handle.signal('snapshotAvailable', { requestId: 'hint', host: sites.spec.host, sequence: 3 });
  await sites.untilTaskEnds(5);
  await sites.untilStatus({ state: 'waiting' });
  await save('continuous');
});

it('stopped by blackout hours', async () => {
  await sites.start();
  const { sendDisk } = sites.activities;
  sites.activities.sendDisk = () => hangUntilCancelled();
  const startsAtMs = Date.now() + 1_500;
  sites.activities.planNextRun = async ({ afterMs }) => ({
    nextRunAtMs: afterMs === null ? Date.now() : afterMs + 3_600_000,
    skippedRuns: 0,
  });
  sites.activities.findBlackout = async () => ({ startsAtMs, endsAtMs: startsAtMs + 1_500 });
  await sites.startSchedule({ state: { settings: { ...SETTINGS, notBetween: ['08:00-18:00'] } } });
  await sites.untilCalled('closeSessions');
  sites.activities.sendDisk = sendDisk;
  await sites.untilTaskEnds(2);
  await save('blackout');
});

it('with search attributes, over a roll-over', async () => {
  await ensureSearchAttributes({ address: inject('temporalAddress') });
  await sites.start();
  await sites.startSchedule({ state: { searchAttributes: true, rollOverAfterTasks: 1 } });
  await sites.untilTaskEnds(1);
  await sites.handle.signal('snapshotAvailable', { requestId: 'hint', host: sites.spec.host, sequence: 2 });
  sites.snapshots = 2;
  await sites.request('pause');
  await sites.untilStatus({ state: 'paused' });
  await sites.request('resume');
  await sites.request('runNow');
  await sites.untilTaskEnds(2);
  await save('searchable');
});
