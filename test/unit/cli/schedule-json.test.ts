import { describe, expect, it } from 'vitest';
import { renderSchedule, renderScheduleTable } from '../../../src/cli/render/schedule.ts';
import { scheduleJson } from '../../../src/cli/schedule-json.ts';
import type { ScheduleStatus, TaskSummary } from '../../../src/contract/schedule.ts';
import type { PendingStep, ScheduleProgress } from '../../../src/orchestration/orchestrator.ts';

const NOW_MS = Date.parse('2026-11-24T02:00:00Z');
const ref = { replicaSite: 'b', name: 'web1' };
const spec = { contractVersion: 1, uuid: 'u', name: 'web1', replicaSite: 'b', sourceSite: 'a', host: 'web1' };
const published: TaskSummary = {
  taskUuid: 'task-1',
  generation: 1,
  outcome: 'published',
  reason: null,
  warnings: [],
  startedAtMs: NOW_MS - 120_000,
  finishedAtMs: NOW_MS - 60_000,
  hostSnapshot: 'snapshot-1',
  disks: [{ disk: 'vda', method: 'full', reason: 'the first copy', bytesSent: 4096, bytesTotal: 4096 }],
};
const status: ScheduleStatus = {
  spec,
  settings: {
    type: 'interval',
    everyMs: 900_000,
    cron: null,
    timeZone: null,
    rpoMs: 60_000,
    bandwidthBytesPerSecond: null,
  },
  state: 'waiting',
  paused: false,
  note: null,
  nextRunAtMs: NOW_MS + 300_000,
  nextRunReason: null,
  blackout: null,
  skippedRuns: 0,
  skippedReason: null,
  newestPointAtMs: NOW_MS - 600_000,
  behindSinceMs: null,
  lastTask: published,
  runningTask: null,
  requests: [],
};
const sending: PendingStep = {
  level: 'disk',
  disk: 'vda',
  activity: 'sendDisk',
  attempt: 4,
  lastFailure: { code: 'DiskFull', message: 'the disk is full' },
  nextAttemptAtMs: NOW_MS + 5_000,
  waits: null,
  unserved: false,
  transfer: { diskTaskUuid: 'd', durableBytes: 1024, totalBytes: 8192, note: null },
};
const running: ScheduleProgress = {
  task: {
    ...published,
    taskUuid: 'task-2',
    outcome: null,
    finishedAtMs: null,
    disks: [{ disk: 'vda', method: 'incremental', reason: 'two layers', bytesSent: 0, bytesTotal: 0 }],
  },
  step: 'diskTasks',
  pending: [
    { ...sending, disk: null, level: 'task', activity: 'releaseOtherLocks', attempt: 2, transfer: null },
    sending,
    {
      ...sending,
      activity: 'awaitReceived',
      attempt: 1,
      lastFailure: null,
      waits: 'waits for a slot on node n1 of site b',
    },
  ],
};

describe('scheduleJson', () => {
  it('has the documented keys for a schedule that waits', () => {
    expect(scheduleJson({ reachable: true, ref, status }, null, NOW_MS)).toMatchObject({
      name: 'web1',
      uuid: 'u',
      host: 'web1',
      type: 'interval',
      state: 'waiting',
      paused: false,
      ageMs: 600_000,
      behindMs: 0,
      rpoMet: true,
      nextRunAt: '2026-11-24T02:05:00.000Z',
      lastTask: {
        taskUuid: 'task-1',
        outcome: 'published',
        startedAt: '2026-11-24T01:58:00.000Z',
        finishedAt: '2026-11-24T01:59:00.000Z',
        disks: [{ disk: 'vda', method: 'full', reason: 'the first copy', bytesSent: 4096, bytesTotal: 4096 }],
      },
      retry: null,
    });
  });

  it('shows the running task with the bytes of its transfers, and the step that failed most often', () => {
    const late = { ...status, behindSinceMs: NOW_MS - 90_000, runningTask: { taskUuid: 'task-2' } };
    const json = scheduleJson({ reachable: true, ref, status: late }, running, NOW_MS);
    expect(json).toMatchObject({
      behindMs: 90_000,
      rpoMet: false,
      step: 'diskTasks',
      lastTask: {
        taskUuid: 'task-2',
        outcome: null,
        finishedAt: null,
        disks: [{ bytesSent: 1024, bytesTotal: 8192 }],
      },
      retry: { attempt: 4, reason: 'the disk is full', activity: 'sendDisk', disk: 'vda' },
      waits: ['receiving vda: waits for a slot on node n1 of site b'],
    });
  });

  it.each([
    { lags: [300, 2_000], behindMs: 0, rpoMet: true },
    { lags: [300, 90_000], behindMs: 90_000, rpoMet: false },
    { lags: [], behindMs: 600_000, rpoMet: false },
  ])('judges a journal that is followed by what B lacks now: $lags', ({ lags, behindMs, rpoMet }) => {
    const followed = { ...status, state: 'running' as const, behindSinceMs: NOW_MS - 600_000 };
    const pending = ['vda', 'vdb'].map((disk, index) => ({
      ...{ ...sending, disk, attempt: 1, lastFailure: null },
      transfer: {
        ...{ diskTaskUuid: disk, durableBytes: 1, totalBytes: null, note: null },
        ...(lags[index] !== undefined && { lagMs: lags[index] }),
      },
    }));
    const json = scheduleJson({ reachable: true, ref, status: followed }, { ...running, pending }, NOW_MS);
    expect(json).toMatchObject({ behindMs, rpoMet });
  });

  it('tells as a retry that no worker serves a node', () => {
    const waits = 'no worker on node a1 of site a since 2026-11-24T01:00:00.000Z';
    const lost: PendingStep = { ...sending, attempt: 1, lastFailure: null, waits, unserved: true };
    const json = scheduleJson({ reachable: true, ref, status }, { ...running, pending: [lost] }, NOW_MS);
    expect(json.retry).toMatchObject({ attempt: 1, reason: waits, code: 'NoWorker', disk: 'vda' });
    const page = renderSchedule(json, NOW_MS);
    expect(page).toMatch(
      /^retries +sending vda: no worker on node a1 of site a since 2026-11-24T01:00:00.000Z$/m,
    );
    expect(page).not.toMatch(/^waits/m);
  });

  it('tells as a retry what a task did not find, until another finds it', () => {
    const lastTask: TaskSummary = { ...published, outcome: 'waiting', reason: 'the source does not know it' };
    const fruitless = { ...status, lastTask, retry: { attempt: 3, atMs: NOW_MS + 5_000 } };
    const json = scheduleJson({ reachable: true, ref, status: fruitless }, null, NOW_MS);
    expect(json.retry).toEqual({
      attempt: 3,
      reason: 'the source does not know it',
      code: null,
      activity: 'remoteBackupTask',
      disk: null,
      nextAttemptAt: '2026-11-24T02:00:05.000Z',
    });
    const page = renderSchedule(json, NOW_MS);
    expect(page).toMatch(/^retries +the source does not know it \(attempt 3 at 02:00:05Z\)$/m);
    expect(page.match(/does not know it/g)).toHaveLength(1);
    const found = { ...fruitless, retry: null, lastTask: published };
    expect(scheduleJson({ reachable: true, ref, status: found }, null, NOW_MS).retry).toBeNull();
  });

  it('names the running task even when it does not answer', () => {
    const view = {
      reachable: true,
      ref,
      status: { ...status, runningTask: { taskUuid: 'task-2' } },
    } as const;
    const silent = { task: null, step: null, pending: [] };
    expect(scheduleJson(view, silent, NOW_MS).lastTask).toMatchObject({
      taskUuid: 'task-2',
      outcome: null,
      disks: [],
    });
  });

  it('says why a schedule could not be asked, and what is known all the same', () => {
    const reason = 'no worker of site b answers on b.replica';
    const json = scheduleJson({ reachable: false, ref, reason, spec }, null, NOW_MS);
    expect(json).toMatchObject({
      state: 'unreachable',
      unreachable: reason,
      host: 'web1',
      ageMs: null,
      paused: null,
    });
    expect(renderSchedule(json, NOW_MS)).toContain(`unreachable: ${reason}`);
  });
});

describe('in words', () => {
  const json = scheduleJson(
    { reachable: true, ref, status: { ...status, behindSinceMs: NOW_MS - 90_000 } },
    running,
    NOW_MS,
  );

  it('tells a page', () => {
    const page = renderSchedule(json, NOW_MS);
    expect(page).toMatch(/^runs +every 15m$/m);
    expect(page).toMatch(/^behind +1m30s \(RPO 1m is NOT met\)$/m);
    expect(page).toMatch(/^retries +sending vda: the disk is full \(attempt 4 at 02:00:05Z\)$/m);
    expect(page).toMatch(/^vda +incremental +1\.0 KiB +8\.0 KiB +two layers$/m);
  });

  it('tells a table', () => {
    const [, row] = renderScheduleTable([json], NOW_MS, 'b').split('\n');
    expect(row).toMatch(/^web1 +web1 +waiting +10m +1m30s! /);
    expect(renderScheduleTable([], NOW_MS, 'b')).toBe("Site 'b' has no schedules.");
  });
});
