import { describe, expect, it } from 'vitest';
import type { ScheduleSettings } from '../../../src/contract/schedule.ts';
import { dueTime, MAX_COUNTED, nextRun } from '../../../src/domain/due.ts';

const HOUR_MS = 3_600_000;
const settings: ScheduleSettings = {
  type: 'interval',
  everyMs: 1_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};
const hourly: ScheduleSettings = { ...settings, everyMs: HOUR_MS, notBetween: ['08:00-18:00'] };
const nightly: ScheduleSettings = {
  ...settings,
  everyMs: null,
  cron: '30 2 * * *',
  timeZone: 'Europe/Berlin',
};

const at = (iso: string): number => Date.parse(iso);
const iso = (atMs: number): string => new Date(atMs).toISOString().replace(':00.000Z', 'Z');
const due = (of: ScheduleSettings, after: string | null, now: string): string =>
  iso(dueTime(of, after === null ? null : at(after), at(now)));

describe('the next due time of an interval', () => {
  it('is at once for the first run', () => {
    expect(dueTime(settings, null, 77)).toBe(77);
  });
  it('stays on the grid of the first run', () => {
    expect(nextRun(settings, 5_000, 5_300)).toEqual({
      nextRunAtMs: 6_000,
      skippedRuns: 0,
      skippedReason: null,
      nextRunReason: null,
      blackout: null,
    });
  });
  it('is at once after a run that took longer than its interval, and says so', () => {
    const next = nextRun(settings, 5_000, 6_200, { startedAtMs: 5_010, finishedAtMs: 6_199 });
    expect(next).toMatchObject({ nextRunAtMs: 6_000, skippedRuns: 0, skippedReason: null });
    expect(next.nextRunReason).toBe('was due at 1970-01-01T00:00:06.000Z, while the last run was not done');
  });
  it('catches up by one run, and tells why the others were skipped', () => {
    const next = nextRun(settings, 5_000, 9_500, { startedAtMs: 7_400, finishedAtMs: 9_499 });
    expect(next).toMatchObject({ nextRunAtMs: 9_000, skippedRuns: 3 });
    expect(next.skippedReason).toBe('2 before the last run could begin, 1 while the last run was not done');
  });
  it('counts without counting up', () => {
    const next = nextRun(settings, 0, 10 * 365 * 24 * HOUR_MS);
    expect(next.skippedRuns).toBe(10 * 365 * 24 * 3600 - 1);
    expect(next.skippedReason).toBe(
      `${MAX_COUNTED} while the site was down, or the run before took longer than its interval, and more`,
    );
  });
  it('is at most one interval away when the clock was set back', () => {
    expect(dueTime(settings, 900_000, 5_000)).toBe(6_000);
  });
  it('is refused where there is no interval', () => {
    expect(() => dueTime({ ...settings, everyMs: null }, null, 0)).toThrow('no interval');
  });
});

describe('the next due time by cron', () => {
  it('is the first after now for the first run', () => {
    expect(due(nightly, null, '2026-06-01T12:00Z')).toBe('2026-06-02T00:30Z');
  });
  it('catches up by one run', () => {
    const next = nextRun(nightly, at('2026-06-02T00:30Z'), at('2026-06-05T12:00Z'));
    expect(iso(next.nextRunAtMs)).toBe('2026-06-05T00:30Z');
    expect(next.skippedRuns).toBe(2);
  });
  it('runs a skipped local time at the next valid one, a doubled one once', () => {
    expect(due(nightly, '2026-03-28T01:30Z', '2026-03-28T02:00Z')).toBe('2026-03-29T01:00Z');
    expect(due(nightly, '2026-10-24T00:30Z', '2026-10-24T02:00Z')).toBe('2026-10-25T00:30Z');
    expect(due(nightly, '2026-10-25T00:30Z', '2026-10-25T02:00Z')).toBe('2026-10-26T01:30Z');
  });
  it('counts so many skipped runs and no more', () => {
    const minutely = { ...nightly, cron: '* * * * *' };
    const next = nextRun(minutely, at('2026-01-01T00:00Z'), at('2027-01-01T00:00Z'));
    expect(iso(next.nextRunAtMs)).toBe('2027-01-01T00:00Z');
    expect(next.skippedRuns).toBe(MAX_COUNTED - 1);
    expect(next.skippedReason).toContain('and more');
  });
});

describe('blackout hours', () => {
  it('put a run off until they end, and skip those between', () => {
    const next = nextRun(hourly, at('2026-06-01T07:00Z'), at('2026-06-01T07:10Z'));
    expect(iso(next.nextRunAtMs)).toBe('2026-06-01T18:00Z');
    expect(next.skippedRuns).toBe(10);
    expect(next.skippedReason).toBe('10 in the blackout hours 08:00-18:00 (UTC)');
    expect(next.blackout).toEqual({ startsAtMs: at('2026-06-01T08:00Z'), endsAtMs: at('2026-06-01T18:00Z') });
  });
  it('tell when the run was due by itself', () => {
    const noon = { ...nightly, cron: '0 12 * * *', timeZone: 'UTC', notBetween: ['08:00-18:00'] };
    const next = nextRun(noon, at('2026-06-01T18:00Z'), at('2026-06-01T19:00Z'));
    expect(iso(next.nextRunAtMs)).toBe('2026-06-02T18:00Z');
    expect(next).toMatchObject({ skippedRuns: 0, skippedReason: null });
    expect(next.nextRunReason).toBe(
      'was due at 2026-06-02T12:00:00.000Z, waits for the end of the blackout hours 08:00-18:00 (UTC)',
    );
  });
  it('put off the first run', () => {
    expect(due(hourly, null, '2026-06-01T09:30Z')).toBe('2026-06-01T18:00Z');
    expect(nextRun(hourly, null, at('2026-06-01T09:30Z')).nextRunReason).toContain('waits for the end');
  });
  it('put off a run that is late already', () => {
    expect(due(hourly, '2026-06-01T06:00Z', '2026-06-01T09:30Z')).toBe('2026-06-01T18:00Z');
    expect(due(hourly, '2026-06-01T07:00Z', '2026-06-02T05:30Z')).toBe('2026-06-02T05:00Z');
  });
  it('are read in the time zone', () => {
    const berlin = { ...hourly, timeZone: 'Europe/Berlin' };
    expect(due(berlin, '2026-06-01T05:00Z', '2026-06-01T05:10Z')).toBe('2026-06-01T16:00Z');
    expect(due(berlin, '2026-12-01T06:00Z', '2026-12-01T06:10Z')).toBe('2026-12-01T17:00Z');
  });
  it('hold for continuous schedules', () => {
    const continuous: ScheduleSettings = { ...hourly, type: 'continuous', everyMs: null };
    expect(due(continuous, '2026-06-01T07:00Z', '2026-06-01T07:10Z')).toBe('2026-06-01T07:10Z');
    expect(due(continuous, '2026-06-01T07:00Z', '2026-06-01T08:10Z')).toBe('2026-06-01T18:00Z');
  });
});
