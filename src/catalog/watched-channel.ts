/** LISTEN, with a look at the rows each few moments behind it: a lost notification costs one look only. */
import type pg from 'pg';
import { toCatalogError } from './errors.ts';
import { keepConnection } from './kept-connection.ts';

export interface ChannelWatch {
  readonly url: string;
  readonly channel: string;
  readonly lookMs: number;
  onNotify(payload: string): void;
  /** Looks at the rows; called at each interval, never twice at once. A failure is made good by the next look. */
  look(client: pg.Client): Promise<void>;
}

/** A connection on which so many looks in a row were not answered is made anew. */
const SILENT_LOOKS = 15;

/**
 * Comes back by itself after PostgreSQL was away.
 * @returns what ends the watch
 * @throws {DatabaseUnreachableError} when the first connection fails
 */
export async function watchChannel(watch: ChannelWatch): Promise<{ close(): Promise<void> }> {
  try {
    const connection = await keepConnection(
      watch.url,
      async client => {
        client.on('notification', ({ payload }) => {
          if (payload) watch.onNotify(payload);
        });
        await client.query(`listen ${watch.channel}`);
      },
      undefined,
      SILENT_LOOKS * watch.lookMs,
    );
    let looking: Promise<void> | null = null;
    const timer = setInterval(() => {
      const { client } = connection;
      if (looking !== null || client === null) return;
      looking = watch
        .look(client)
        .catch(() => {})
        .finally(() => {
          looking = null;
        });
    }, watch.lookMs);
    return {
      close: async () => {
        clearInterval(timer);
        await looking;
        await connection.close();
      },
    };
  } catch (error) {
    throw toCatalogError(error);
  }
}
