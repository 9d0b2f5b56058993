/** One limit a schedule: an operator means the line, however many disks share it. */
import { createThrottle, type Throttle } from '../transfer/throttle.ts';

export interface ScheduleThrottles {
  /**
   * Joins the throttle that all running senders of the schedule on this node share; the newest rate holds for all.
   * @param bytesPerSecond positive, or null for no limit
   */
  join(scheduleUuid: string, bytesPerSecond: number | null): { throttle: Throttle; leave(): void };
}

export function createScheduleThrottles(): ScheduleThrottles {
  const shared = new Map<string, { throttle: Throttle; users: number }>();
  return {
    join(scheduleUuid, bytesPerSecond) {
      const found = shared.get(scheduleUuid);
      found?.throttle.setRate(bytesPerSecond);
      const entry = found ?? { throttle: createThrottle(bytesPerSecond), users: 0 };
      entry.users += 1;
      shared.set(scheduleUuid, entry);
      return {
        throttle: entry.throttle,
        leave() {
          entry.users -= 1;
          if (entry.users === 0) shared.delete(scheduleUuid);
        },
      };
    },
  };
}
