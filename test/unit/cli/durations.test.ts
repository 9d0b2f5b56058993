import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError, formatDuration, parseDuration } from '../../../src/lib/durations.ts';

describe('parseDuration', () => {
  it.each([
    ['90s', 90_000],
    ['15m', 900_000],
    ['1h30m', 5_400_000],
    ['2d', 172_800_000],
    ['1w', 604_800_000],
    ['1d2h3m4s', 93_784_000],
  ])('reads %s', (text, expectedMs) => {
    expect(parseDuration(text)).toBe(expectedMs);
  });

  it.each([
    ['15', /no unit/],
    ['', /no duration/],
    ['m', /no duration/],
    ['-5m', /no duration/],
    ['1.5h', /no duration/],
    [' 5m', /no duration/],
    ['5M', /no duration/],
    ['5min', /'min' .* no unit of time/],
    ['30m1h', /must fall/],
    ['5m5m', /must fall/],
    ['0s', /no time at all/],
    ['9999999h', /ten years/],
  ])('refuses %j with the reason', (text, reason) => {
    expect(() => parseDuration(text)).toThrow(FormatError);
    expect(() => parseDuration(text)).toThrow(reason);
  });

  it('reads what formatDuration writes, for every whole second', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3600 * 24 * 3600 }), seconds => {
        expect(parseDuration(formatDuration(seconds * 1000))).toBe(seconds * 1000);
      }),
    );
  });

  it('gives a whole number above zero or a FormatError, whatever is typed', () => {
    const typed = fc.oneof(fc.string(), fc.stringMatching(/^[0-9]{1,4}[smhdwx]{0,2}[0-9]{0,3}[smhdw]?$/));
    fc.assert(
      fc.property(typed, text => {
        try {
          const ms = parseDuration(text);
          expect(Number.isSafeInteger(ms) && ms > 0).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
    );
  });
});
