/** The replica site's end of all data connections: one TCP port, many disks. */
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { Epoch } from '../contract/fence.ts';
import type { TransferProgress } from '../contract/transfer.ts';
import type { Log } from '../lib/log.ts';
import { FrameConnection } from './connection.ts';
import { DiskRegistry } from './disk-registry.ts';
import { RefusedError, refusalOf } from './errors.ts';
import type { NodeIdentity } from './identity.ts';
import { RECEIVER_LIMITS, type ReceiverLimits } from './limits.ts';
import { encodeLastWord } from './messages.ts';
import type { SessionDirectory } from './ports.ts';
import type { ReceiverContext } from './receiver-context.ts';
import { converse } from './receiver-conversation.ts';
import { peerFingerprint, tlsOptions } from './tls.ts';

export interface ReceiverOptions {
  readonly identity: NodeIdentity;
  /** Port 0 takes a free one. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly directory: SessionDirectory;
  readonly log: Log;
  readonly limits?: Partial<ReceiverLimits>;
  /** The clock of progress and of the hello's clock comparison, milliseconds since 1970. */
  readonly nowMs?: () => number;
}

export interface Receiver {
  /** The port that is listened on. @throws {Error} before {@link start} */
  readonly port: number;
  readonly fingerprint: string;
  /** @throws the operating system's error, as EADDRINUSE */
  start(): Promise<void>;
  /** Ends every connection; resolves when the last write has ended and the port is free. */
  close(): Promise<void>;
  /**
   * Cuts the connections of a disk task whose epoch is smaller than `below`, or all of them; resolves when their
   * last sink writes have ended. Raise or close the session first: a hello after this is judged by the directory.
   */
  cut(diskTaskUuid: string, below: Epoch | null): Promise<void>;
  /** Null when no sender was admitted in this process. `lastSeenAtMs` is when its last frame came. */
  progress(diskTaskUuid: string): (TransferProgress & { readonly lastSeenAtMs: number }) | null;
}

/** Makes a receiver that does not listen yet. */
export function createReceiver(options: ReceiverOptions): Receiver {
  return new TlsReceiver(options);
}

class TlsReceiver implements Receiver {
  readonly fingerprint: string;
  readonly #listen: ReceiverOptions['listen'];
  readonly #limits: ReceiverLimits;
  readonly #context: ReceiverContext;
  readonly #registry = new DiskRegistry();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #conversations = new Set<Promise<void>>();

  constructor({ identity, listen, directory, log, limits, nowMs = Date.now }: ReceiverOptions) {
    this.fingerprint = identity.fingerprint;
    this.#listen = listen;
    this.#limits = { ...RECEIVER_LIMITS, ...limits };
    this.#context = { directory, registry: this.#registry, limits: this.#limits, log, nowMs };
    this.#server = createServer({ ...tlsOptions(identity), handshakeTimeout: this.#limits.handshakeMs });
    this.#server.maxConnections = this.#limits.connections;
    this.#server.on('connection', socket => this.#track(socket));
    this.#server.on('secureConnection', socket => this.#admit(socket));
    this.#server.on('drop', about => {
      const address = about?.remoteAddress ?? 'unknown';
      log.warn({ event: 'too-many-connections', address }, 'a connection was dropped: too many are open');
    });
    this.#server.on('tlsClientError', (err, socket) => {
      log.warn({ event: 'handshake-failed', address: socket.remoteAddress, err }, 'a TLS handshake failed');
      socket.destroy();
    });
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the receiver does not listen');
    return address.port;
  }

  async start(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.listen(this.#listen.port, this.#listen.host, resolve);
    await promise;
    this.#server.off('error', reject);
    this.#server.on('error', err => this.#context.log.warn({ event: 'listener-failed', err }, err.message));
  }

  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all([closed, ...this.#conversations]);
  }

  cut(diskTaskUuid: string, below: Epoch | null): Promise<void> {
    return this.#registry.cut(diskTaskUuid, below);
  }

  progress(diskTaskUuid: string): (TransferProgress & { readonly lastSeenAtMs: number }) | null {
    return this.#registry.progress(diskTaskUuid);
  }

  /** Sockets are known from their first packet on, so that `close` ends those in their handshake too. */
  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #admit(socket: TLSSocket): void {
    const { limits, log, nowMs } = this.#context;
    const peer = { fingerprint: peerFingerprint(socket), address: socket.remoteAddress ?? 'unknown' };
    const connection = new FrameConnection(socket, limits, nowMs);
    if (peer.fingerprint === null) {
      log.warn({ event: 'stranger', ...peer }, 'a peer without a certificate was turned away');
      const refusal = refusalOf(new RefusedError('NotAdmitted', 'a certificate is needed'));
      this.#hold(connection.finish(encodeLastWord('refused', refusal)));
    } else {
      this.#hold(converse(connection, peer, this.#context));
    }
  }

  #hold(conversation: Promise<void>): void {
    this.#conversations.add(conversation);
    void conversation.finally(() => this.#conversations.delete(conversation));
  }
}
