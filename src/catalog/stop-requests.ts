/** Tells a worker process which of its senders are to stop. */
import { CHANNELS } from './host-rows.ts';
import { watchChannel } from './watched-channel.ts';

const LOOK_MS = 1_000;

/**
 * Calls `onStop` with the disk task of each sender that was asked to stop and has not ended: at once when it is
 * asked, and again at each look.
 * @throws {DatabaseUnreachableError} when the first connection fails
 */
export function watchStopRequests(
  url: string,
  onStop: (diskTaskUuid: string) => void,
): Promise<{ close(): Promise<void> }> {
  return watchChannel({
    url,
    channel: CHANNELS.stopRequested,
    lookMs: LOOK_MS,
    onNotify: onStop,
    async look(client) {
      const { rows } = await client.query<{ disk_task_uuid: string }>(
        `select distinct disk_task_uuid from disk_senders
         where stop_requested_at is not null and ended_at is null`,
      );
      for (const row of rows) onStop(row.disk_task_uuid);
    },
  });
}
