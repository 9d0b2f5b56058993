/** Wakes schedules that wait for a snapshot: nothing is lost while Temporal or this worker is away. */
import { randomUUID } from 'node:crypto';
import type { Database } from '../catalog/database.ts';
import { createSubscriptionRows, watchSnapshots } from '../catalog/subscriptions.ts';
import type { Log } from '../lib/log.ts';
import type { ScheduleNotifier } from '../orchestration/schedule-notifier.ts';

/** The look behind a notification that was lost. */
const LOOK_MS = 3_000;

/**
 * Tells each waiting schedule once for each newer snapshot. A schedule's wait is cleared only after Temporal took
 * the signal; a crash between the two tells it twice, which it does not mind.
 */
export async function startSnapshotNotifier(parts: {
  url: string;
  db: Database;
  notifier: ScheduleNotifier;
  log: Log;
}): Promise<{ close(): Promise<void> }> {
  const { url, db, notifier, log } = parts;
  const rows = createSubscriptionRows(db);
  let running: Promise<void> | null = null;
  let askedAgain = false;

  async function tellAll(): Promise<void> {
    for (const waiting of await rows.dueSubscriptions()) {
      const { scheduleUuid, host, sequence, isCheckpoint } = waiting;
      const news = { requestId: randomUUID(), host, ...(!isCheckpoint && { sequence }) };
      const told = await notifier.tell(waiting, news);
      if (told === 'gone') await rows.dropSubscription(scheduleUuid);
      else await rows.noteTold(waiting);
      log.info({ scheduleUuid, host, sequence, told }, 'a waiting schedule was told of a snapshot');
    }
  }

  function wake(): void {
    if (running !== null) {
      askedAgain = true;
      return;
    }
    running = tellAll()
      .catch(error => log.warn({ error: (error as Error).message }, 'waiting schedules are told later'))
      .finally(() => {
        running = null;
        if (!askedAgain) return;
        askedAgain = false;
        wake();
      });
  }

  const watch = await watchSnapshots(url, LOOK_MS, wake);
  return {
    async close() {
      await watch.close();
      askedAgain = false;
      await running;
      await notifier.close();
    },
  };
}
