/**
 * Each live row of B has its workflow, and so has each release that A still owes: what Temporal lost, or somebody
 * terminated, comes back from the rows.
 */

import type { Database } from '../catalog/database.ts';
import { createLiveScheduleRows, type LiveSchedule } from '../catalog/live-schedules.ts';
import type { ScheduleSpec } from '../contract/schedule.ts';
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

  async function restoreMissing({ spec, lastGeneration }: LiveSchedule): Promise<void> {
    if (await starter.isRunning(spec)) return;
    const lastTask = await rows.endLostTask({ scheduleUuid: spec.uuid, lastGeneration });
    const now = await rows.liveSchedule(spec.uuid);
    if (now === null) return;
    await starter.start(now.spec, restoredScheduleState({ ...now, lastTask }));
    log.warn(
      { scheduleUuid: spec.uuid, schedule: spec.name },
      "the schedule's workflow was gone; it runs again",
    );
  }

  /** A release that ended well is noted here, so that losing Temporal afterwards starts no other. */
  async function seeToRelease(spec: ScheduleSpec): Promise<void> {
    const state = await starter.releaseState(spec);
    if (state === 'running') return;
    if (state === 'done') return rows.noteReleased(spec.uuid);
    await starter.startRelease(spec);
    log.warn(
      { scheduleUuid: spec.uuid, schedule: spec.name },
      'the workflow that releases what the source holds was gone; it runs again',
    );
  }

  /** What fails for one is tried again at the next look, and does not keep the others waiting. */
  async function forEach<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
    for (const item of items) await work(item).catch(tellLater);
  }

  const tellLater = (error: unknown): void =>
    log.warn({ error: (error as Error).message }, 'the schedules are looked at later');

  async function reconcile(): Promise<void> {
    try {
      await forEach(await rows.liveSchedules(), restoreMissing);
      await forEach(await rows.pendingReleases(), seeToRelease);
    } catch (error) {
      tellLater(error);
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
