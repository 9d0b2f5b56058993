import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cronFault, cronTimes } from '../../../src/domain/cron.ts';
import { zoneOffset } from '../../../src/domain/wall-clock.ts';
import { aCron, anInstant, aZone, CHANGES } from './times.ts';

const DAY_MS = 24 * 3_600_000;
const someCron = aCron.filter(expression => cronFault(expression) === null);

/** What the wall clock of a zone reads. */
const reading = (timeZone: string, atMs: number) => new Date(atMs + zoneOffset(timeZone)(atMs));

describe('cron times', () => {
  it('rise strictly, whatever the clocks do, and agree with the newest up to each', () => {
    fc.assert(
      fc.property(someCron, aZone, anInstant, (expression, timeZone, fromMs) => {
        const times = cronTimes(expression, timeZone);
        let atMs = fromMs;
        for (let count = 0; count < 8; count += 1) {
          const nextMs = times.next(atMs);
          expect(nextMs).toBeGreaterThan(atMs);
          expect(times.next(nextMs - 1)).toBe(nextMs);
          expect(times.latest(nextMs)).toBe(nextMs);
          expect(times.latest(nextMs - 1) ?? 0).toBeLessThanOrEqual(atMs);
          atMs = nextMs;
        }
      }),
      { numRuns: 250 },
    );
  });
  it('are the same for every instant between two of them', () => {
    fc.assert(
      fc.property(someCron, aZone, anInstant, fc.double({ min: 0, max: 1, noNaN: true }), (...input) => {
        const [expression, timeZone, fromMs, share] = input;
        const times = cronTimes(expression, timeZone);
        const nextMs = times.next(fromMs);
        const betweenMs = Math.floor(fromMs + (nextMs - 1 - fromMs) * share);
        expect(times.next(betweenMs)).toBe(nextMs);
      }),
      { numRuns: 150 },
    );
  });
  it('of one time a day come once each day of the calendar, also where the clocks change', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 23 }),
        fc.integer({ min: 0, max: 59 }),
        aZone,
        fc.constantFrom(...CHANGES),
        (hour, minute, timeZone, changeMs) => {
          const times = cronTimes(`${minute} ${hour} * * *`, timeZone);
          const days: number[] = [];
          for (let atMs = changeMs - 3 * DAY_MS; days.length < 6; ) {
            atMs = times.next(atMs);
            days.push(Math.floor(reading(timeZone, atMs).getTime() / DAY_MS));
          }
          expect(new Set(days).size).toBe(days.length);
          // Samoa has no 30 December 2011.
          const skips = timeZone === 'Pacific/Apia' ? 2 : 1;
          expect(days.every((day, index) => index === 0 || day - (days[index - 1] ?? 0) <= skips)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });
  it('of days that come rarely are found in bounded time, and so is that none comes', () => {
    const began = performance.now();
    for (const expression of [
      '0 0 29 2 *',
      '0 0 29 2 +SUN',
      '0 0 29 2 +5#5',
      '0 0 31 2 *',
      '* * 31 2,4,6,9,11 *',
    ]) {
      if (cronFault(expression) === null) cronTimes(expression, 'Europe/Berlin').next(Date.UTC(2096, 2, 1));
    }
    // Many times what it takes; a search without a bound would not come back at all.
    expect(performance.now() - began).toBeLessThan(5_000);
  });
  it('faults are told in words, never thrown', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'0123456789*/-,?LW# @') })),
        text => {
          const fault = cronFault(text);
          expect(fault === null || fault.startsWith('the cron expression')).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });
});
