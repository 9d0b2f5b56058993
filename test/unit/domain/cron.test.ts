import { describe, expect, it } from 'vitest';
import { cronFault, cronTimes } from '../../../src/domain/cron.ts';

const times = (expression: string, timeZone: string, after: string, count: number): string[] => {
  const cron = cronTimes(expression, timeZone);
  const found: string[] = [];
  for (let atMs = Date.parse(after); found.length < count; ) {
    atMs = cron.next(atMs);
    found.push(new Date(atMs).toISOString().replace(':00.000Z', 'Z'));
  }
  return found;
};

describe('cron expressions', () => {
  it.each([
    '0 2 * * *',
    '*/15 * * * *',
    '0 9-17/2 * * MON-FRI',
    '0 0 L * *',
    '0 0 * * 5#2',
    '@daily',
    '0 0 29 2 *',
  ])('are accepted: %s', expression => {
    expect(cronFault(expression)).toBeNull();
  });
  it.each([
    ['', 'not one'],
    ['nightly', 'not one'],
    ['0 0 * * * *', 'not one'],
    ['60 * * * *', 'minute: 60'],
    ['0 24 * * *', 'hour: 24'],
    ['0 0 32 * *', 'not one'],
    ['5/15 * * * *', 'not one'],
    ['*/0 * * * *', 'not one'],
    ['@reboot', 'not one'],
    ['2026-01-01T00:00:00', 'not one'],
    ['0 0 31 2 *', 'a day that never comes'],
    ['0 0 31 4,6,9,11 *', 'a day that never comes'],
    [`0 0 * * ${'1,'.repeat(200)}1`, 'longer than'],
  ])('are refused with a reason: %j', (expression, reason) => {
    expect(cronFault(expression)).toContain(reason);
    expect(() => cronTimes(expression, 'UTC')).toThrow(reason);
  });
  it('run named hours once where the clocks are put forward', () => {
    for (const expression of ['30 2 * * *', '*/15 2 * * *', '0 */2 * * *', '0 2,14 * * *']) {
      expect(times(expression, 'Europe/Berlin', '2026-03-29T00:59Z', 1)).toEqual(['2026-03-29T01:00Z']);
    }
    expect(times('*/20 2 * * *', 'Europe/Berlin', '2026-03-29T00:59Z', 2)[1]).toBe('2026-03-30T00:00Z');
    expect(times('0 1 * * *', 'Antarctica/Troll', '2026-03-28T12:00Z', 1)).toEqual(['2026-03-29T01:00Z']);
    expect(times('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03T12:00Z', 1)).toEqual(['2026-10-03T15:30Z']);
  });
  it('run named hours once where the clocks are put back', () => {
    expect(times('*/30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00Z', 3)).toEqual([
      '2026-10-25T00:00Z',
      '2026-10-25T00:30Z',
      '2026-10-26T01:00Z',
    ]);
    expect(times('0 */2 * * *', 'Europe/Berlin', '2026-10-24T23:00Z', 2)).toEqual([
      '2026-10-25T00:00Z',
      '2026-10-25T03:00Z',
    ]);
  });
  it('follow elapsed time where every hour is meant', () => {
    for (const hours of ['*', '0-23', '*/1']) {
      expect(times(`*/30 ${hours} * * *`, 'Europe/Berlin', '2026-10-25T00:00Z', 4)).toEqual([
        '2026-10-25T00:30Z',
        '2026-10-25T01:00Z',
        '2026-10-25T01:30Z',
        '2026-10-25T02:00Z',
      ]);
    }
  });
  it('find the day that comes once in eight years', () => {
    expect(times('0 0 29 2 *', 'UTC', '2096-03-01T00:00Z', 1)).toEqual(['2104-02-29T00:00Z']);
  });
  it('know the newest time up to an instant', () => {
    const { latest } = cronTimes('0 12 * * *', 'UTC');
    const noon = Date.parse('2026-06-01T12:00Z');
    expect([noon - 1, noon, noon + 1, noon + 999].map(latest)).toEqual([noon - 86_400_000, noon, noon, noon]);
  });
});
