/** The replica site's end of all data connections: one TCP port, many disks. */
import { createServer as createTcpServer, type Socket, type Server as TcpServer } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import type { Epoch } from '../contract/fence.ts';
import type { TransferProgress } from '../contract/transfer.ts';
import { atMost } from '../lib/at-most.ts';
import type { Log } from '../lib/log.ts';
import { FrameConnection } from './connection.ts';
import { DiskRegistry } from './disk-registry.ts';
import { RefusedError, refusalOf } from './errors.ts';
import { Gate, type GateCounts } from './gate.ts';
import type { NodeIdentity } from './identity.ts';
import { RECEIVER_LIMITS, type ReceiverLimits } from './limits.ts';
import { encodeLastWord } from './messages.ts';
import type { SessionDirectory } from './ports.ts';
import { createQuietLog, type QuietLog } from './quiet-log.ts';
import type { ReceiverContext } from './receiver-context.ts';
import { converse, type Place } from './receiver-conversation.ts';
import { peerFingerprint, SERVER_OPTIONS, tlsOptions } from './tls.ts';

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
  /** Connections now, and those that were turned away before they had said who they are. */
  counts(): ReceiverCounts;
}

export interface ReceiverCounts extends GateCounts {
  /** Whose hello has been admitted. */
  readonly admitted: number;
  /** In their handshake, or before their hello was admitted. */
  readonly pending: number;
}

/** So many hellos of connections that were not admitted yet may ask the catalog at one time. */
const LOOKUPS = 4;

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
  readonly #log: QuietLog;
  readonly #gate: Gate;
  readonly #tcp: TcpServer;
  readonly #tls: TlsServer;
  readonly #sockets = new Map<string, Socket>();
  readonly #conversations = new Set<Promise<void>>();
  #admitted = 0;

  constructor({ identity, listen, directory, log, limits, nowMs = Date.now }: ReceiverOptions) {
    this.fingerprint = identity.fingerprint;
    this.#listen = listen;
    this.#limits = { ...RECEIVER_LIMITS, ...limits };
    this.#log = createQuietLog(log);
    this.#gate = new Gate(this.#limits);
    const [registry, lookup] = [this.#registry, atMost(LOOKUPS)];
    this.#context = { directory, registry, limits: this.#limits, log, strangers: this.#log, lookup, nowMs };
    this.#tls = createTlsServer({
      ...tlsOptions(identity),
      ...SERVER_OPTIONS,
      handshakeTimeout: this.#limits.handshakeMs,
    });
    this.#tls.on('secureConnection', socket => this.#converse(socket));
    this.#tls.on('tlsClientError', (err, socket) => {
      const address = socket.remoteAddress;
      this.#log.warn({ event: 'handshake-failed', address, err }, 'a TLS handshake failed');
      socket.destroy();
    });
    this.#tcp = createTcpServer(socket => this.#meet(socket));
  }

  get port(): number {
    const address = this.#tcp.address();
    if (address === null || typeof address === 'string') throw new Error('the receiver does not listen');
    return address.port;
  }

  async start(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#tcp.once('error', reject);
    this.#tcp.listen(this.#listen.port, this.#listen.host, resolve);
    await promise;
    this.#tcp.off('error', reject);
    this.#tcp.on('error', err => this.#context.log.warn({ event: 'listener-failed', err }, err.message));
  }

  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#tcp.close(() => resolve()));
    for (const socket of this.#sockets.values()) socket.destroy();
    await Promise.all([closed, ...this.#conversations]);
  }

  cut(diskTaskUuid: string, below: Epoch | null): Promise<void> {
    return this.#registry.cut(diskTaskUuid, below);
  }

  progress(diskTaskUuid: string): (TransferProgress & { readonly lastSeenAtMs: number }) | null {
    return this.#registry.progress(diskTaskUuid);
  }

  counts(): ReceiverCounts {
    return { ...this.#gate.counts, admitted: this.#admitted, pending: this.#gate.pending };
  }

  /** Before anything is done for a connection it has to find a place. */
  #meet(socket: Socket): void {
    const address = socket.remoteAddress ?? 'unknown';
    const { displaced } = this.#gate.counts;
    if (!this.#gate.enter(socket)) {
      this.#log.warn({ event: 'connections-too-fast', address }, 'an address opens connections too fast');
      socket.resetAndDestroy();
      return;
    }
    if (this.#gate.counts.displaced > displaced) {
      const text = 'a connection lost its place to a newer one: too many that are not admitted are open';
      this.#log.warn({ event: 'too-many-connections', address }, text);
    }
    // Known from here on, so that `close` ends those in their handshake too.
    const key = endOf(socket);
    this.#sockets.set(key, socket);
    socket.once('close', () => this.#sockets.delete(key));
    this.#tls.emit('connection', socket);
  }

  #converse(socket: TLSSocket): void {
    const { limits, nowMs } = this.#context;
    const peer = { fingerprint: peerFingerprint(socket), address: socket.remoteAddress ?? 'unknown' };
    const connection = new FrameConnection(socket, limits, nowMs);
    if (peer.fingerprint === null) {
      this.#log.warn({ event: 'stranger', ...peer }, 'a peer without a certificate was turned away');
      const refusal = refusalOf(new RefusedError('NotAdmitted', 'a certificate is needed'));
      this.#hold(connection.finish(encodeLastWord('refused', refusal)));
    } else {
      this.#hold(converse(connection, peer, this.#context, this.#placeOf(socket, connection)));
    }
  }

  #placeOf(socket: TLSSocket, connection: FrameConnection): Place {
    const raw = this.#sockets.get(endOf(socket));
    return {
      known: () => {
        if (raw !== undefined) this.#gate.pass(raw);
      },
      take: () => this.#take(connection),
    };
  }

  /** @throws {RefusedError} TooManyConnections */
  #take(connection: FrameConnection): void {
    if (this.#admitted >= this.#limits.connections) {
      const text = `${this.#admitted} disks are being received, and no more at one time`;
      throw new RefusedError('TooManyConnections', text);
    }
    this.#admitted += 1;
    void connection.closed.then(() => {
      this.#admitted -= 1;
    });
  }

  #hold(conversation: Promise<void>): void {
    this.#conversations.add(conversation);
    void conversation.finally(() => this.#conversations.delete(conversation));
  }
}

/** The far end of a connection; no two open ones share it. */
const endOf = (socket: Socket): string => `${socket.remoteAddress} ${socket.remotePort}`;
