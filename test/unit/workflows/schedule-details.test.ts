import { describe, expect, it } from 'vitest';
import type { ScheduleStatus, TaskSummary } from '../../../src/contract/schedule.ts';
import { scheduleDetails } from '../../../src/workflows/schedule-details.ts';

const AT_MS = Date.parse('2026-11-24T02:00:00Z');
const lastTask: TaskSummary = {
  taskUuid: 't1',
  generation: 1,
  outcome: 'waiting',
  reason: 'the source does not know the host web1',
  warnings: ['disk vda is sent in full'],
  startedAtMs: AT_MS,
  finishedAtMs: AT_MS,
  hostSnapshot: null,
  disks: [],
};
const status: ScheduleStatus = {
  spec: { contractVersion: 1, uuid: 'u', name: 'nightly', replicaSite: 'b', sourceSite: 'a', host: 'web1' },
  settings: {
    type: 'interval',
    everyMs: 5_400_000,
    cron: null,
    timeZone: null,
    rpoMs: 7_200_000,
    bandwidthBytesPerSecond: null,
  },
  state: 'waiting',
  paused: false,
  note: null,
  nextRunAtMs: AT_MS + 60_000,
  nextRunReason: null,
  blackout: null,
  skippedRuns: 0,
  skippedReason: null,
  newestPointAtMs: null,
  behindSinceMs: null,
  lastTask,
  runningTask: null,
  retry: { attempt: 3, atMs: AT_MS + 20_000 },
  requests: [],
};

describe('the details in the Web UI', () => {
  it('tell what waits, and why', () => {
    expect(scheduleDetails(status, 'default').split('\n')).toEqual([
      '**nightly** is **waiting**: host web1, from site a to site b',
      '',
      '- tries again: at 2026-11-24 02:00:20Z (attempt 3), because: the source does not know the host web1',
      '- runs: every 1h30m',
      '- limits: at most 2h behind',
      '- next run: 2026-11-24 02:01:00Z',
      '- last task: found nothing to send yet, 2026-11-24 02:00:00Z (the source does not know the host web1)',
      '- newest recovery point: none yet',
      '- ⚠: disk vda is sent in full',
      '',
      'At site b: `offsite schedule show nightly`',
    ]);
  });

  it('name the running task and what the state leaves open', () => {
    const note = 'pauses when the running task has ended';
    const details = scheduleDetails(
      { ...status, state: 'pausing', note, runningTask: { taskUuid: 't2' } },
      'default',
    );
    expect(details).toContain('**nightly** is **pausing**');
    expect(details).toContain(`- now: ${note}\n`);
    expect(details).toContain('- running task: [task/t2](/namespaces/default/workflows/task%2Ft2); ');
  });

  it('tell a paused schedule how it goes on', () => {
    const details = scheduleDetails({ ...status, state: 'paused', paused: true, retry: null }, 'default');
    expect(details).toContain('- next run: after `offsite schedule resume nightly`\n');
  });

  it('show what stands in settings that nobody has looked at', () => {
    const settings = { ...status.settings, everyMs: null, cron: '* *', timeZone: 'x' };
    expect(scheduleDetails({ ...status, settings }, 'default')).toContain('- runs: `* *` (x)');
  });
});
