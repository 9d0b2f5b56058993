import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ScheduleSettings } from '../../../src/contract/schedule.ts';
import { blackoutFaults, blackoutHours } from '../../../src/domain/blackout.ts';
import { dueTime, nextRun } from '../../../src/domain/due.ts';
import { settingsFaults } from '../../../src/domain/settings.ts';
import { aCron, anInstant, aZone } from './times.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

const aTimeOfDay = fc
  .integer({ min: 0, max: 24 * 12 - 1 })
  .map(
    step => `${String(Math.floor(step / 12)).padStart(2, '0')}:${String((step % 12) * 5).padStart(2, '0')}`,
  );
const windows = fc
  .array(
    fc.tuple(aTimeOfDay, aTimeOfDay).map(([from, to]) => `${from}-${to}`),
    { minLength: 1, maxLength: 3 },
  )
  .filter(texts => blackoutFaults(texts).length === 0);

const rhythm: fc.Arbitrary<Pick<ScheduleSettings, 'everyMs' | 'cron'>> = fc.oneof(
  fc.integer({ min: 1_000, max: 40 * DAY_MS }).map(everyMs => ({ everyMs, cron: null })),
  aCron.map(cron => ({ everyMs: null, cron })),
);
const someSettings = fc
  .record({
    rhythm,
    timeZone: aZone,
    notBetween: fc.option(windows, { nil: [] }),
  })
  .map(
    ({ rhythm: { everyMs, cron }, ...rest }): ScheduleSettings => ({
      type: 'interval',
      everyMs,
      cron,
      rpoMs: null,
      bandwidthBytesPerSecond: null,
      ...rest,
    }),
  )
  .filter(settings => settingsFaults(settings).length === 0);
/** How long after the due time of a run the next is planned. */
const late = fc.oneof(fc.integer({ min: 0, max: 2 * HOUR_MS }), fc.integer({ min: 0, max: 60 * DAY_MS }));
const inside = (settings: ScheduleSettings, atMs: number) =>
  blackoutHours(settings.notBetween ?? [], settings.timeZone).isInside(atMs);

describe('the next due time', () => {
  it('is after the last, outside the blackout hours, and begins outside them', () => {
    fc.assert(
      fc.property(someSettings, anInstant, late, (settings, afterMs, lateMs) => {
        const nowMs = afterMs + lateMs;
        const dueMs = dueTime(settings, afterMs, nowMs);
        expect(dueMs).toBeGreaterThan(afterMs);
        expect(inside(settings, dueMs)).toBe(false);
        expect(inside(settings, Math.max(dueMs, nowMs))).toBe(false);
        expect(dueTime(settings, afterMs, nowMs)).toBe(dueMs);
      }),
      { numRuns: 300 },
    );
  });
  it('never lets a run begin sooner when it is asked for later', () => {
    fc.assert(
      fc.property(someSettings, anInstant, late, late, (settings, afterMs, lateMs, laterMs) => {
        const beginsMs = (nowMs: number) => Math.max(nowMs, dueTime(settings, afterMs, nowMs));
        const nowMs = afterMs + lateMs;
        expect(beginsMs(nowMs + laterMs)).toBeGreaterThanOrEqual(beginsMs(nowMs));
      }),
      { numRuns: 200 },
    );
  });
  it('of the first run is not in the past', () => {
    fc.assert(
      fc.property(someSettings, anInstant, (settings, nowMs) => {
        const dueMs = dueTime(settings, null, nowMs);
        expect(dueMs).toBeGreaterThanOrEqual(nowMs);
        expect(inside(settings, dueMs)).toBe(false);
      }),
      { numRuns: 100 },
    );
  });
  it('is told with a reason for whatever was skipped, and names the blackout that comes', () => {
    fc.assert(
      fc.property(someSettings, anInstant, late, (settings, afterMs, lateMs) => {
        const nowMs = afterMs + lateMs;
        const next = nextRun(settings, afterMs, nowMs);
        expect(next.skippedReason === null).toBe(next.skippedRuns === 0);
        const { blackout } = next;
        expect(blackout == null).toBe(settings.notBetween?.length === 0);
        if (blackout == null) return;
        expect(blackout.endsAtMs).toBeGreaterThan(nowMs);
        expect(blackout.startsAtMs <= nowMs).toBe(inside(settings, nowMs));
        expect(inside(settings, blackout.startsAtMs)).toBe(true);
        expect(inside(settings, blackout.startsAtMs - 1)).toBe(false);
        expect(inside(settings, blackout.endsAtMs - 1)).toBe(true);
        expect(inside(settings, blackout.endsAtMs)).toBe(false);
      }),
      { numRuns: 100 },
    );
  });
});
