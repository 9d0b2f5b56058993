/** TLS before a server that has none, as a load balancer does it: client certificates of one authority are required. */
import { connect, type Socket } from 'node:net';
import { createServer } from 'node:tls';
import type { KeyPair } from './certificates.ts';

export interface TlsFront {
  readonly port: number;
  /** Connections that were admitted, and those that failed in their handshake. */
  readonly admitted: number;
  readonly refused: number;
  close(): Promise<void>;
}

export async function startTlsFront(options: {
  readonly server: KeyPair;
  readonly clientAuthority: KeyPair;
  readonly target: { readonly host: string; readonly port: number };
}): Promise<TlsFront> {
  const counts = { admitted: 0, refused: 0 };
  const sockets = new Set<Socket>();
  const server = createServer({
    key: options.server.keyPem,
    cert: options.server.certificatePem,
    ca: options.clientAuthority.certificatePem,
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ['h2'],
  });
  server.on('connection', socket => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', () => (counts.refused += 1));
  server.on('secureConnection', peer => {
    counts.admitted += 1;
    const target = connect(options.target);
    sockets.add(target);
    for (const [from, to] of [
      [peer, target],
      [target, peer],
    ] as const) {
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
      from.pipe(to);
    }
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return {
    port: address.port,
    get admitted() {
      return counts.admitted;
    },
    get refused() {
      return counts.refused;
    },
    async close() {
      const closed = new Promise<void>(resolve => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
