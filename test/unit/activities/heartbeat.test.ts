import { expect, it } from 'vitest';
import { withBar, withLag } from '../../../src/activities/heartbeat.ts';

const told = { diskTaskUuid: 'd', durableBytes: 0, totalBytes: null, note: null };

it('a bar is of what is known', () => {
  expect(withBar(told)).toEqual(told);
  expect(withBar({ ...told, durableBytes: 512, totalBytes: 1024 }).progress).toBe(
    '██████████░░░░░░░░░░ 50 %, 512 B of 1.0 KiB',
  );
});

it.each([
  [10_000, 10_000, 0, 'follows, up to date'],
  [10_000, 14_000, 4_000, 'follows, up to date'],
  [10_000, 70_000, 60_000, 'follows, 1m behind'],
  // The times of records are another process's.
  [10_000, 9_000, 0, 'follows, up to date'],
])('a journal that had all at %i is at %i behind by %i', (caughtUpAtMs, nowMs, lagMs, progress) => {
  expect(withLag({ ...told, caughtUpAtMs }, nowMs)).toEqual({ ...told, caughtUpAtMs, lagMs, progress });
});

it('what is no journal has no lag', () => {
  expect(withLag(told, 5)).toEqual(told);
});
