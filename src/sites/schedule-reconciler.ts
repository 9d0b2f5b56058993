/** Each live row of B has its workflow: what Temporal lost, or somebody terminated, comes back from the row. */

import type { Database } from '../catalog/database.ts';
import { createLiveScheduleRows, type LiveSchedule } from '../catalog/live-schedules.ts';
import { restoredScheduleState } from '../domain/schedule-state.ts';
import type { Log } from '../lib/log.ts';
import type { ScheduleStarter } from '../orchestration/schedule-start.ts';

const RECONCILE_EVERY_MS = 60_000;

/**
 * Looks at once and then each minute. A row is read again after its workflow was not found: a schedule that was
 * deleted in between is left alone.
 */
export function startScheduleReconciler(parts: {
  db: Database;
  starter: ScheduleStarter;
  log: Log;
  everyMs?: number;
}): { close(): Promise<void> } {
  const { db, starter, log } = parts;
  const rows = createLiveScheduleRows(db);

  async function restoreMissing({ spec }: LiveSchedule): Promise<void> {
    if (await starter.isRunning(spec)) return;
    const now = await rows.liveSchedule(spec.uuid);
    if (now === null) return;
    await starter.start(now.spec, restoredScheduleState(now));
    log.warn(
      { scheduleUuid: spec.uuid, schedule: spec.name },
      "the schedule's workflow was gone; it runs again",
    );
  }

  async function reconcile(): Promise<void> {
    try {
      for (const schedule of await rows.liveSchedules()) await restoreMissing(schedule);
    } catch (error) {
      log.warn({ error: (error as Error).message }, 'the schedules are looked at later');
    }
  }

  let running = reconcile();
  const timer = setInterval(() => {
    running = running.then(reconcile);
  }, parts.everyMs ?? RECONCILE_EVERY_MS);
  return {
    async close() {
      clearInterval(timer);
      await running;
      await starter.close();
    },
  };
}
