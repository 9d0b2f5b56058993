import { describe, expect, it } from 'vitest';
import { renderSchedule } from '../../../src/cli/render/schedule.ts';
import { type ScheduleJson, scheduleJson } from '../../../src/cli/schedule-json.ts';
import type { ScheduleStatus } from '../../../src/contract/schedule.ts';
import { initialScheduleState } from '../../../src/domain/schedule-state.ts';

const NOW_MS = Date.parse('2026-11-24T02:00:00Z');
const spec = { contractVersion: 1, uuid: 'u', name: 'web1', replicaSite: 'b', sourceSite: 'a', host: 'web1' };
const nightly = initialScheduleState(
  {
    type: 'interval',
    everyMs: null,
    cron: '30 2 * * *',
    timeZone: 'Europe/Berlin',
    notBetween: ['08:00-12:00', '13:00-18:00'],
    rpoMs: null,
    bandwidthBytesPerSecond: null,
  },
  { paused: false },
);

function shown(change: object): ScheduleJson {
  const status = { ...nightly, spec, state: 'waiting', runningTask: null, note: null, ...change };
  const view = {
    reachable: true,
    ref: { replicaSite: 'b', name: 'web1' },
    status: status as ScheduleStatus,
  } as const;
  return scheduleJson(view, null, NOW_MS);
}

describe('when a schedule runs', () => {
  it('is told with its zone, what was skipped, and why it is not sooner', () => {
    const json = shown({
      nextRunAtMs: NOW_MS + 3_600_000,
      nextRunReason: 'was due at noon, waits',
      skippedRuns: 3,
      skippedReason: '2 in the blackout hours',
      blackout: { startsAtMs: NOW_MS, endsAtMs: NOW_MS + 3_600_000 },
    });
    expect(json).toMatchObject({
      cron: '30 2 * * *',
      timeZone: 'Europe/Berlin',
      notBetween: ['08:00-12:00', '13:00-18:00'],
      blackout: { startsAt: '2026-11-24T02:00:00.000Z', endsAt: '2026-11-24T03:00:00.000Z' },
      skippedRuns: 3,
    });
    const page = renderSchedule(json, NOW_MS);
    expect(page).toMatch(
      /^runs +30 2 \* \* \*, not between 08:00-12:00 and 13:00-18:00 \(Europe\/Berlin\)$/m,
    );
    expect(page).toMatch(/^ +was due at noon, waits$/m);
    expect(page).toMatch(/^skipped +3 due times in all; the last: 2 in the blackout hours$/m);
  });

  it('is told without what a workflow of an older version does not know', () => {
    const json = shown({
      nextRunReason: undefined,
      skippedReason: undefined,
      blackout: undefined,
      skippedRuns: 0,
    });
    expect(json).toMatchObject({ nextRunReason: null, skippedReason: null, blackout: null });
    expect(renderSchedule(json, NOW_MS)).not.toMatch(/^skipped/m);
  });
});
