import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../../src/lib/durations.ts';
import { formatRate, formatSize, parseRate, parseSize } from '../../../src/lib/sizes.ts';

describe('parseSize', () => {
  it.each([
    ['1B', 1],
    ['512KiB', 524_288],
    ['1.5GiB', 1_610_612_736],
    ['10MB', 10_000_000],
    ['50 MiB', 52_428_800],
    ['2TiB', 2 * 2 ** 40],
  ])('reads %s', (text, expectedBytes) => {
    expect(parseSize(text)).toBe(expectedBytes);
  });

  it.each([
    ['50', /no unit/],
    ['', /no size/],
    ['MiB', /no size/],
    ['-1MiB', /no size/],
    ['1e3MiB', /no size|no unit of size/],
    ['5M', /'M' .* no unit of size/],
    ['5mib', /no unit of size/],
    ['0B', /less than one byte/],
    ['99999999TiB', /too large/],
  ])('refuses %j with the reason', (text, reason) => {
    expect(() => parseSize(text)).toThrow(reason);
  });

  it('gives a safe integer above zero or a FormatError, whatever is typed', () => {
    const typed = fc.oneof(fc.string(), fc.stringMatching(/^[0-9]{1,16}(\.[0-9]{1,7})? ?[KMGT]?i?B?$/));
    fc.assert(
      fc.property(typed, text => {
        try {
          const bytes = parseSize(text);
          expect(Number.isSafeInteger(bytes) && bytes > 0).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
    );
  });
});

describe('parseRate', () => {
  it('reads bytes per second', () => {
    expect(parseRate('50MiB/s')).toBe(52_428_800);
    expect(parseRate('10MB/s')).toBe(10_000_000);
  });

  it.each([
    ['50MiB', /no rate/],
    ['MiB/s', /no rate/],
    ['50/s', /no rate/],
    ['100Mbit/s', /counts bits/],
    ['100Mbps', /counts bits/],
  ])('refuses %j with the reason', (text, reason) => {
    expect(() => parseRate(text)).toThrow(reason);
  });

  it('reads whole MiB per second exactly', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000_000 }), mebibytes => {
        expect(parseRate(`${mebibytes}MiB/s`)).toBe(mebibytes * 2 ** 20);
      }),
    );
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1_610_612_736, '1.5 GiB'],
    [150 * 2 ** 20, '150 MiB'],
    [5000 * 2 ** 40, '5000 TiB'],
  ])('writes %d as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });

  it('writes rates', () => {
    expect(formatRate(50 * 2 ** 20)).toBe('50.0 MiB/s');
  });
});
