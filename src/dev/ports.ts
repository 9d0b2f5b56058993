/** Free TCP ports on the loopback address. */
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
 * Picks `count` different ports that nobody listens on at this moment.
 * Another process may still take one before it is used: whoever listens must be ready to fail.
 */
export async function chooseFreePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => listen(0)));
  const ports = servers.map(server => {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
    return address.port;
  });
  await Promise.all(servers.map(close));
  return ports;
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
