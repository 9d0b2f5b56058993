import { expect, it } from 'vitest';
import { createScheduleThrottles } from '../../../src/sites/schedule-throttles.ts';

const UUID = '00000000-0000-4000-8000-000000000001';
const OTHER = '00000000-0000-4000-8000-000000000002';

it('gives the disks of one schedule one throttle, and each schedule its own', () => {
  const throttles = createScheduleThrottles();
  const first = throttles.join(UUID, 1000);
  expect(throttles.join(UUID, 1000).throttle).toBe(first.throttle);
  expect(throttles.join(OTHER, 1000).throttle).not.toBe(first.throttle);
});

it('takes the newest rate for all who share', async () => {
  const throttles = createScheduleThrottles();
  // At this rate the bytes would take years.
  const waits = throttles.join(UUID, 1).throttle.take(1_000_000_000);
  throttles.join(UUID, null);
  await waits;
});

it('forgets a throttle that nobody uses any more', () => {
  const throttles = createScheduleThrottles();
  const first = throttles.join(UUID, 1000);
  const second = throttles.join(UUID, 1000);
  first.leave();
  expect(throttles.join(UUID, 1000).throttle).toBe(first.throttle);
  second.leave();
  second.leave();
  expect(throttles.join(UUID, 1000).throttle).not.toBe(first.throttle);
});
