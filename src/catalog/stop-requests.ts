/** Tells a worker process which of its senders are to stop. */
import { toCatalogError } from './errors.ts';
import { CHANNELS } from './host-rows.ts';
import { keepConnection } from './kept-connection.ts';

const LOOK_MS = 1_000;

/**
 * Calls `onStop` with the disk task of each sender that was asked to stop and has not ended: at once when it is
 * asked (NOTIFY), and again at each look, once a second, so that a lost notification costs a second only.
 * Comes back by itself after PostgreSQL was away.
 * @returns what ends the watch
 * @throws {DatabaseUnreachableError} when the first connection fails
 */
export async function watchStopRequests(
  url: string,
  onStop: (diskTaskUuid: string) => void,
): Promise<{ close(): Promise<void> }> {
  try {
    const connection = await keepConnection(url, async client => {
      client.on('notification', ({ payload }) => {
        if (payload) onStop(payload);
      });
      await client.query(`listen ${CHANNELS.stopRequested}`);
    });
    let looking = false;
    const look = async () => {
      if (looking || connection.client === null) return;
      looking = true;
      try {
        const stopping = await connection.client.query<{ disk_task_uuid: string }>(
          `select distinct disk_task_uuid from disk_senders
           where stop_requested_at is not null and ended_at is null`,
        );
        for (const row of stopping.rows) onStop(row.disk_task_uuid);
      } catch {
        // The connection is gone; the next look has a new one.
      } finally {
        looking = false;
      }
    };
    const timer = setInterval(look, LOOK_MS);
    return {
      close: async () => {
        clearInterval(timer);
        await connection.close();
      },
    };
  } catch (error) {
    throw toCatalogError(error);
  }
}
