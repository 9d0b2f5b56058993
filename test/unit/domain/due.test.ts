import { describe, expect, it } from 'vitest';
import type { ScheduleSettings } from '../../../src/contract/schedule.ts';
import { nextDue, nextRun } from '../../../src/domain/due.ts';

const everyMs = 1_000;

describe('the next due time', () => {
  it('is at once for the first run', () => {
    expect(nextDue({ everyMs, afterMs: null, nowMs: 77 })).toEqual({ nextRunAtMs: 77, skippedRuns: 0 });
  });
  it('stays on the grid of the first run', () => {
    expect(nextDue({ everyMs, afterMs: 5_000, nowMs: 5_300 })).toEqual({
      nextRunAtMs: 6_000,
      skippedRuns: 0,
    });
  });
  it('is at once after a run that took longer than its interval', () => {
    expect(nextDue({ everyMs, afterMs: 5_000, nowMs: 6_200 })).toEqual({
      nextRunAtMs: 6_000,
      skippedRuns: 0,
    });
  });
  it('catches up by one run, and counts the skipped', () => {
    expect(nextDue({ everyMs, afterMs: 5_000, nowMs: 9_500 })).toEqual({
      nextRunAtMs: 9_000,
      skippedRuns: 3,
    });
  });
  it('is at most one interval away when the clock was set back', () => {
    expect(nextDue({ everyMs, afterMs: 900_000, nowMs: 5_000 }).nextRunAtMs).toBe(6_000);
  });
  it('comes from the settings', () => {
    const settings: ScheduleSettings = {
      type: 'interval',
      everyMs,
      cron: null,
      timeZone: null,
      rpoMs: null,
      bandwidthBytesPerSecond: null,
    };
    expect(nextRun(settings, 5_000, 5_300).nextRunAtMs).toBe(6_000);
    expect(() => nextRun({ ...settings, everyMs: null }, null, 0)).toThrow('no interval');
  });
});
