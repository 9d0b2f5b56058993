/** Free TCP ports on the loopback address. */
import { randomInt } from 'node:crypto';
import { createServer, type Server } from 'node:net';

const LOOPBACK = '127.0.0.1';

function listen(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ port, host: LOOPBACK, exclusive: true }, () => resolve(server));
  });
}

function close(server: Server): Promise<void> {
  return new Promise(resolve => server.close(() => resolve()));
}

/**
 * Below the ports that systems hand out to outgoing connections (Linux from 32768, others from 49152): one of
 * those could hold the port while its server is started again, even a client that waits for just this server.
 */
const LOWEST_PORT = 20_000;
const PORT_COUNT = 12_000;
const MAX_TRIES = 1_000;

/**
 * Picks `count` different ports that nobody listens on at this moment.
 * Another process may still take one before it is used: whoever listens must be ready to fail.
 */
export async function chooseFreePorts(count: number): Promise<number[]> {
  const held = new Map<number, Server>();
  try {
    for (let tries = 0; held.size < count; tries += 1) {
      if (tries === MAX_TRIES) throw new Error('no TCP port is free');
      const port = LOWEST_PORT + randomInt(PORT_COUNT);
      const server = await listen(port).catch(() => null);
      if (server !== null) held.set(port, server);
    }
    return [...held.keys()];
  } finally {
    await Promise.all([...held.values()].map(close));
  }
}

/** Whether a server could listen on this port of 127.0.0.1 now. */
export async function isPortFree(port: number): Promise<boolean> {
  try {
    await close(await listen(port));
    return true;
  } catch {
    return false;
  }
}

/**
 * Gives each name its wished port where that is free, and another free one elsewhere:
 * a second start keeps the addresses of the first.
 */
export async function choosePorts<Name extends string>(
  names: readonly Name[],
  wished: Readonly<Partial<Record<string, number>>> = {},
): Promise<Record<Name, number>> {
  const spare = await chooseFreePorts(names.length);
  const entries = await Promise.all(
    names.map(async (name, index): Promise<[Name, number]> => {
      const wish = wished[name];
      const port = wish !== undefined && (await isPortFree(wish)) ? wish : spare[index];
      if (port === undefined) throw new Error('fewer ports than names');
      return [name, port];
    }),
  );
  return Object.fromEntries(entries) as Record<Name, number>;
}
