/** What Temporal itself tells of schedules that run, try again and pause: all that its Web UI draws. */
import { defaultPayloadConverter } from '@temporalio/common';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TransferProgress } from '../../src/contract/transfer.ts';
import { type Cockpit, startCockpit } from '../support/cockpit.ts';
import { until } from '../support/e2e-host.ts';

let cockpit: Cockpit;
beforeAll(async () => {
  cockpit = await startCockpit();
}, 300_000);
afterAll(async () => {
  await cockpit?.sites.close();
});

const handle = (workflowId: string) => cockpit.sites.client.workflow.getHandle(workflowId);

/** What the Web UI asks for to draw *Current Details*. */
async function details(workflowId: string): Promise<string> {
  const { currentDetails } = await handle(workflowId).query<{ currentDetails: string }>(
    '__temporal_workflow_metadata',
  );
  return currentDetails;
}

async function searchAttributes(workflowId: string): Promise<Record<string, unknown>> {
  const { typedSearchAttributes } = await handle(workflowId).describe();
  return Object.fromEntries(typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value]));
}

const summary = async (workflowId: string): Promise<string | undefined> =>
  handle(workflowId)
    .describe()
    .then(description => description.staticSummary());

/** The pending activities of a workflow by name, with what was heartbeated. */
async function pending(workflowId: string) {
  const { raw } = await handle(workflowId).describe();
  return Object.fromEntries(
    (raw.pendingActivities ?? []).map(({ activityType, attempt, lastFailure, heartbeatDetails }) => {
      const payload = heartbeatDetails?.payloads?.[0];
      const heartbeat = payload ? defaultPayloadConverter.fromPayload<TransferProgress>(payload) : null;
      return [activityType?.name ?? '', { attempt, lastFailure, heartbeat }];
    }),
  );
}

const ids = async (query: string): Promise<string[]> => {
  const found: string[] = [];
  for await (const { workflowId } of cockpit.sites.client.workflow.list({ query })) found.push(workflowId);
  return found.sort();
};

test('a running schedule leads to its task, that to its disks, and those tell their bytes', async () => {
  const { taskUuid, hostSnapshot } = cockpit.running;
  const [schedule, task, disk] = ['schedule/b/web1', `task/${taskUuid}`, `disk/${taskUuid}/1/vda`];

  expect(await summary(schedule)).toBe('host web1 from a to b, every 1h');
  const told = await until(
    'how far it is behind',
    () => details(schedule),
    found => found.includes('- behind since: '),
  );
  expect(told).toContain('**web1** is **running**: host web1, from site a to site b');
  expect(told).toContain(
    `- running task: [${task}](/namespaces/default/workflows/${encodeURIComponent(task)})`,
  );
  expect(told).toContain('- limits: at most 30m behind, at most 100 KiB/s');
  expect(told).toContain('(vda full 40 MiB, vdb full 24 MiB)');
  expect(await searchAttributes(schedule)).toMatchObject({
    OffsiteHost: 'web1',
    OffsiteSchedule: 'web1',
    OffsiteState: 'running',
    OffsiteBehindSince: expect.any(Date),
  });
  const { memo } = await handle(schedule).describe();
  expect(memo).toMatchObject({ scheduleSpec: { host: 'web1', replicaSite: 'b', sourceSite: 'a' } });

  expect(await summary(task)).toBe('schedule web1: host web1 from a to b');
  const ofTask = await details(task);
  expect(ofTask).toContain('**web1**, task 2, sends 2 disks, since ');
  expect(ofTask).toContain(
    `](/namespaces/default/workflows/${encodeURIComponent(disk)}): is sent, incremental`,
  );
  expect(ofTask).toContain(`- host snapshot: \`${hostSnapshot}\` of web1, taken `);

  expect(await summary(disk)).toBe('web1 vda: incremental, on the same chain');
  expect(await details(disk)).toContain('**web1 vda** is being sent, since ');
  expect(await details(disk)).toContain('/pending-activities)');
  const activities = await pending(disk);
  expect(Object.keys(activities).sort()).toEqual(['awaitReceived', 'sendDisk']);
  for (const { attempt, heartbeat, lastFailure } of Object.values(activities)) {
    expect(attempt).toBe(1);
    expect(lastFailure ?? null).toBeNull();
    expect(heartbeat?.totalBytes).toBe(200 * 1024 * 1024);
    expect(heartbeat?.durableBytes).toBeGreaterThan(0);
    expect(heartbeat?.progress).toMatch(/^█+░+ \d+ %, \d+\.\d MiB of 200 MiB$/);
  }
  // By host or schedule all of it is found, not the schedule alone.
  const running = `ExecutionStatus = 'Running' AND OffsiteHost = 'web1'`;
  const all = [schedule, task, disk, `disk/${taskUuid}/1/vdb`].sort();
  expect(
    await until(
      'the list',
      () => ids(running),
      found => found.length === all.length,
    ),
  ).toEqual(all);
  expect(await ids(`OffsiteSchedule = 'web1' AND OffsiteState = 'running'`)).toEqual([schedule]);
}, 300_000);

test('one that tries again says why, at the step that does', async () => {
  const task = `task/${cockpit.retrying.taskUuid}`;
  expect(await details('schedule/b/mail1')).toContain(`[${task}](`);
  expect(await details(task)).toContain('asks site a what to sync, since ');
  const { querySyncInfo, ...others } = await pending(task);
  expect(others).toEqual({});
  expect(querySyncInfo?.attempt).toBeGreaterThan(2);
  expect(querySyncInfo?.lastFailure).toMatchObject({
    message:
      "site b may not have host mail1. Add the host under source.replicaSites of site b in this site's configuration.",
    applicationFailureInfo: { type: 'HostNotAllowed', nonRetryable: false },
  });
  expect((await cockpit.sites.cli('b', 'status')).exitCode).toBe(1);
}, 300_000);

test('a paused one says how it goes on, and since when it is behind', async () => {
  const told = await details('schedule/b/db1');
  expect(told).toContain('**db1** is **paused**');
  expect(told).toContain('- next run: after `offsite schedule resume db1`');
  expect(told).toContain('- last task: was paused, ');
  expect(await searchAttributes('schedule/b/db1')).toMatchObject({
    OffsiteState: 'paused',
    OffsiteBehindSince: expect.any(Date),
  });
  expect(await details(`task/${cockpit.paused.taskUuid}`)).toContain('**db1**, task 1, ended as paused');
  const paused = `ExecutionStatus = 'Running' AND OffsiteState = 'paused'`;
  expect(
    await until(
      'the list',
      () => ids(paused),
      found => found.length > 0,
    ),
  ).toEqual(['schedule/b/db1']);
}, 300_000);
