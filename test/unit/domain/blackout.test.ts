import { describe, expect, it } from 'vitest';
import { blackoutFaults, blackoutHours, MAX_WINDOWS } from '../../../src/domain/blackout.ts';

const clearFrom = (windows: string[], timeZone: string | null, at: string): string =>
  new Date(blackoutHours(windows, timeZone).clearFrom(Date.parse(at))).toISOString().replace(':00.000Z', 'Z');
const blackoutAt = (windows: string[], timeZone: string | null, at: string): string[] => {
  const blackout = blackoutHours(windows, timeZone).at(Date.parse(at));
  const ends = blackout === null ? [] : [blackout.startsAtMs, blackout.endsAtMs];
  return ends.map(atMs => new Date(atMs).toISOString().replace(':00.000Z', 'Z'));
};

describe('blackout windows', () => {
  it('are half-open', () => {
    expect(clearFrom(['08:00-18:00'], null, '2026-06-01T07:59:59.999Z')).toBe('2026-06-01T07:59:59.999Z');
    expect(clearFrom(['08:00-18:00'], null, '2026-06-01T08:00Z')).toBe('2026-06-01T18:00Z');
    expect(clearFrom(['08:00-18:00'], null, '2026-06-01T17:59:59.999Z')).toBe('2026-06-01T18:00Z');
    expect(clearFrom(['08:00-18:00'], null, '2026-06-01T18:00Z')).toBe('2026-06-01T18:00Z');
  });
  it('may cross midnight', () => {
    expect(clearFrom(['22:00-06:00'], null, '2026-06-01T23:30Z')).toBe('2026-06-02T06:00Z');
    expect(clearFrom(['22:00-06:00'], null, '2026-06-02T03:00Z')).toBe('2026-06-02T06:00Z');
    expect(clearFrom(['22:00-06:00'], null, '2026-06-02T12:00Z')).toBe('2026-06-02T12:00Z');
    expect(clearFrom(['20:00-24:00'], null, '2026-06-01T23:30Z')).toBe('2026-06-02T00:00Z');
  });
  it('may be several, which may touch and overlap', () => {
    const windows = ['08:00-12:00', '11:00-13:00', '13:00-14:00', '15:00-16:00'];
    expect(clearFrom(windows, null, '2026-06-01T09:00Z')).toBe('2026-06-01T14:00Z');
    expect(clearFrom(windows, null, '2026-06-01T15:30Z')).toBe('2026-06-01T16:00Z');
  });
  it('follow the clock on the wall where it is put forward', () => {
    // In Berlin 02:00 to 03:00 is not there on 2026-03-29.
    expect(clearFrom(['01:00-02:30'], 'Europe/Berlin', '2026-03-29T00:30Z')).toBe('2026-03-29T01:00Z');
    expect(clearFrom(['01:00-04:00'], 'Europe/Berlin', '2026-03-29T00:30Z')).toBe('2026-03-29T02:00Z');
    expect(clearFrom(['03:00-02:00'], 'Europe/Berlin', '2026-03-29T00:30Z')).toBe('2026-03-30T00:00Z');
    expect(blackoutAt(['02:00-03:00'], 'Europe/Berlin', '2026-03-29T00:30Z')).toEqual([
      '2026-03-30T00:00Z',
      '2026-03-30T01:00Z',
    ]);
  });
  it('follow the clock on the wall where it is put back', () => {
    // In Berlin 02:00 to 03:00 is there twice on 2026-10-25: from 00:00Z and from 01:00Z.
    expect(clearFrom(['02:00-03:00'], 'Europe/Berlin', '2026-10-25T00:10Z')).toBe('2026-10-25T02:00Z');
    expect(clearFrom(['01:00-02:30'], 'Europe/Berlin', '2026-10-25T00:10Z')).toBe('2026-10-25T00:30Z');
    expect(clearFrom(['01:00-02:30'], 'Europe/Berlin', '2026-10-25T01:10Z')).toBe('2026-10-25T01:30Z');
    expect(blackoutAt(['01:00-02:30'], 'Europe/Berlin', '2026-10-25T00:40Z')).toEqual([
      '2026-10-25T01:00Z',
      '2026-10-25T01:30Z',
    ]);
  });
  it('tell the one that lasts, else the next', () => {
    expect(blackoutAt(['08:00-18:00'], null, '2026-06-01T12:00Z')).toEqual([
      '2026-06-01T08:00Z',
      '2026-06-01T18:00Z',
    ]);
    expect(blackoutAt(['08:00-18:00'], null, '2026-06-01T18:00Z')).toEqual([
      '2026-06-02T08:00Z',
      '2026-06-02T18:00Z',
    ]);
    expect(blackoutAt([], null, '2026-06-01T12:00Z')).toEqual([]);
  });
  it('name themselves', () => {
    expect(blackoutHours(['08:00-12:00', '13:00-18:00'], 'Asia/Tokyo').label).toBe(
      'the blackout hours 08:00-12:00, 13:00-18:00 (Asia/Tokyo)',
    );
  });
  it.each([
    [['8-18'], 'write it as 08:00-18:00'],
    [['8:00-18:00'], 'write it as'],
    [['08:00-25:00'], 'write it as'],
    [['08:60-09:00'], 'write it as'],
    [['24:00-08:00'], 'write it as'],
    [['08:00-24:01'], 'write it as'],
    [['08:00-08:00'], 'the whole day'],
    [['00:00-24:00'], 'the whole day'],
    [['00:00-12:00', '12:00-24:00'], 'no minute of the day'],
    [['06:00-05:00', '04:00-07:00'], 'no minute of the day'],
    [new Array<string>(MAX_WINDOWS + 1).fill('08:00-09:00'), 'more than'],
  ])('are refused with a reason: %j', (windows, reason) => {
    expect(blackoutFaults(windows).join()).toContain(reason);
    expect(() => blackoutHours(windows, null)).toThrow(reason);
  });
});
