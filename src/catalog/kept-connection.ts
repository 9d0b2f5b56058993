/** A dedicated connection that comes back by itself after PostgreSQL was away. */
import pg from 'pg';
import { connectionConfig, endWhenSilent } from './database.ts';

export interface KeptConnection {
  /** Runs on the connection that is up now; null while there is none. */
  readonly client: pg.Client | null;
  /** Ends it for good. May be called more than once. */
  close(): Promise<void>;
}

const RETRY_MS = 250;
/** While a connection is prepared its server has so long to answer. */
const PREPARE_MS = 10_000;
/** A host that dies without a word is noticed by the server after 10 + 3 x 5 seconds. */
const SESSION_SETTINGS =
  'set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3';

/**
 * Connects, prepares the session by `onConnect`, and does both again whenever the connection is lost.
 * @param onConnect called on each new connection; when it throws, the connection is tried anew
 * @param onLost called once for each prepared connection that ended by itself
 * @param silentMs a connection on which nothing was heard for so long is lost; for one on which something is asked
 * again and again. Zero for one that rests: keep-alive finds out about those.
 * @throws whatever the first attempt throws
 */
export async function keepConnection(
  url: string,
  onConnect: (client: pg.Client) => Promise<void>,
  onLost: () => void = () => {},
  silentMs = 0,
): Promise<KeptConnection> {
  let current: pg.Client | null = null;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  let connecting: Promise<void> = Promise.resolve();

  async function connect(): Promise<void> {
    const client = new pg.Client(connectionConfig(url));
    let ended = false;
    const lost = () => {
      ended = true;
      if (current !== client) return;
      current = null;
      onLost();
      if (!closed) connectSoon(0);
    };
    client.on('error', lost);
    client.on('end', lost);
    try {
      await client.connect();
      endWhenSilent(client, PREPARE_MS);
      await client.query(SESSION_SETTINGS);
      await onConnect(client);
      endWhenSilent(client, silentMs);
      if (ended || closed) throw new Error('connection terminated while it was prepared');
      current = client;
    } catch (error) {
      await client.end().catch(() => {});
      throw error;
    }
  }

  function connectSoon(delayMs: number): void {
    timer = setTimeout(() => {
      connecting = connect().catch(() => {
        if (!closed) connectSoon(RETRY_MS);
      });
    }, delayMs);
  }

  await connect();
  return {
    get client() {
      return current;
    },
    async close() {
      if (closed) return;
      closed = true;
      clearTimeout(timer);
      await connecting;
      const client = current;
      current = null;
      await client?.end().catch(() => {});
    },
  };
}
