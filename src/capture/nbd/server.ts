/** An NBD server on a unix socket: fixed newstyle, one export a disk, many connections. */
import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { effect } from '../../lib/fault-points.ts';
import { serveClient } from './connection.ts';
import type { NbdExport } from './ports.ts';

export interface NbdServerOptions {
  /** Must not exist yet. Only this user may connect. */
  readonly socketPath: string;
  readonly exports: readonly NbdExport[];
  readonly maxConnections?: number;
  readonly negotiationMs?: number;
  /** A client began to send requests, or its connection ended. */
  readonly onClient?: (event: { readonly export: string; readonly ended: string | null }) => void;
}

const MAX_CONNECTIONS = 64;
const NEGOTIATION_MS = 10_000;

export class NbdServer {
  readonly #server: Server;
  readonly #clients = new Map<Socket, Promise<void>>();

  private constructor(options: NbdServerOptions) {
    const exports = new Map(options.exports.map(disk => [disk.name, disk]));
    // The client's half may end while replies are still to be sent.
    this.#server = createServer({ allowHalfOpen: true }, socket => {
      const client = this.#serve(socket, exports, options).finally(() => this.#clients.delete(socket));
      this.#clients.set(socket, client);
    });
    this.#server.maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
  }

  /** @throws the system's error when the socket cannot be made */
  static async listen(options: NbdServerOptions): Promise<NbdServer> {
    const server = new NbdServer(options);
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', reject);
      server.#server.listen(options.socketPath, () => {
        server.#server.off('error', reject);
        resolve();
      });
    });
    await effect('nbd.socket.chmod', () => chmod(options.socketPath, 0o600));
    return server;
  }

  /** Hangs up on every client, and waits until what they had begun has ended. */
  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()));
    for (const socket of this.#clients.keys()) socket.destroy();
    await Promise.all(this.#clients.values());
    await closed;
  }

  async #serve(
    socket: Socket,
    exports: ReadonlyMap<string, NbdExport>,
    { negotiationMs = NEGOTIATION_MS, onClient }: NbdServerOptions,
  ): Promise<void> {
    let name: string | null = null;
    const onExport = (chosen: string) => {
      name = chosen;
      onClient?.({ export: chosen, ended: null });
    };
    const ended = await serveClient(socket, { exports, negotiationMs, onExport });
    if (name !== null) onClient?.({ export: name, ended });
  }
}
