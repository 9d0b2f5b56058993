import { describe, expect, it } from 'vitest';
import type { ScheduleSettings, ScheduleSpec } from '../../../src/contract/schedule.ts';
import { MAX_EVERY_MS, sameSettings, settingsFaults, specFaults } from '../../../src/domain/settings.ts';

const settings: ScheduleSettings = {
  type: 'interval',
  everyMs: 900_000,
  cron: null,
  timeZone: null,
  rpoMs: 300_000,
  bandwidthBytesPerSecond: 1 << 20,
};
const spec: ScheduleSpec = {
  contractVersion: 1,
  uuid: '0b1f7b2e-54a4-4b8f-9d0c-0d2f0e6f1a11',
  name: 'nightly',
  replicaSite: 'b',
  sourceSite: 'a',
  host: 'Web-1.example',
};

describe('settings', () => {
  it('are accepted when they are in bounds', () => {
    expect(settingsFaults(settings)).toEqual([]);
    expect(
      settingsFaults({ ...settings, everyMs: 1_000, rpoMs: null, bandwidthBytesPerSecond: null }),
    ).toEqual([]);
    expect(settingsFaults({ ...settings, everyMs: MAX_EVERY_MS })).toEqual([]);
  });
  it.each([
    [{ everyMs: 999 }, 'shorter than 1 second'],
    [{ everyMs: MAX_EVERY_MS + 1 }, 'longer than 366 days'],
    [{ everyMs: Number.NaN }, 'not a whole number'],
    [{ everyMs: null }, 'needs the time between two runs'],
    [{ bandwidthBytesPerSecond: 0 }, 'bandwidth'],
    [{ bandwidthBytesPerSecond: -1 }, 'bandwidth'],
    [{ rpoMs: 0.5 }, 'RPO'],
    [{ cron: '0 3 * * *' }, 'not both'],
    [{ everyMs: null, cron: '0 0 31 2 *' }, 'never comes'],
    [{ everyMs: null, cron: 'at night' }, 'is not one'],
    [{ everyMs: null, cron: '0 3 * * *', timeZone: 'Europe/Bonn' }, 'is not known'],
    [{ everyMs: null, cron: '0 3 * * *', timeZone: '' }, 'is not known'],
    [{ notBetween: ['08:00-18:00'], timeZone: 'Mars' }, 'is not known'],
    [{ notBetween: ['8-18'] }, 'write it as'],
    [{ notBetween: '08:00-18:00' as never }, 'not a list'],
    [{ everyMs: null, cron: 5 as never }, 'not a text'],
    [{ timeZone: 5 as never }, 'is not known'],
    [{ type: 'continuous' as const }, 'continuous'],
  ])('are refused with a reason: %j', (change, reason) => {
    expect(settingsFaults({ ...settings, ...change }).join()).toContain(reason);
  });
  it('are accepted with cron, a time zone and blackout windows', () => {
    const cron = { ...settings, everyMs: null, cron: '30 2 * * *' };
    expect(settingsFaults(cron)).toEqual([]);
    expect(settingsFaults({ ...cron, timeZone: 'America/Sao_Paulo' })).toEqual([]);
    expect(settingsFaults({ ...settings, notBetween: ['08:00-18:00'], timeZone: 'UTC' })).toEqual([]);
  });
  it('are the same when every one is', () => {
    expect(sameSettings(settings, { ...settings, notBetween: [] })).toBe(true);
    expect(sameSettings(settings, { ...settings, notBetween: ['08:00-18:00'] })).toBe(false);
    expect(sameSettings(settings, { ...settings })).toBe(true);
    expect(sameSettings(settings, { ...settings, rpoMs: null })).toBe(false);
  });
});

describe('names', () => {
  it('are accepted when they are plain', () => {
    expect(specFaults(spec)).toEqual([]);
  });
  it.each([
    [{ name: '' }, 'the schedule ""'],
    [{ name: '../etc' }, 'the schedule "../etc"'],
    [{ host: 'a\nb' }, 'the host "a\\nb"'],
    [{ sourceSite: 'A' }, 'the source site "A"'],
    [{ replicaSite: 'b/c' }, 'the replica site "b/c"'],
    [{ uuid: 'X' }, 'not a lower-case UUID'],
    [{ sourceSite: 'b' }, 'are the same'],
  ])('are refused with a reason: %j', (change, reason) => {
    expect(specFaults({ ...spec, ...change }).join()).toContain(reason);
  });
});
