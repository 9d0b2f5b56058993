/** A TCP proxy between two ends of a connection: counts what passes, and spoils it on demand. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Direction, Pipe } from './tcp-pipe.ts';

export type { Direction } from './tcp-pipe.ts';

export interface TcpProxy {
  readonly host: string;
  readonly port: number;
  /** Payload bytes of TCP that passed, over all connections. */
  readonly bytes: Readonly<Record<Direction, number>>;
  /** Connections accepted so far, and how many of them {@link TcpProxy.cutAfter} or `cutNow` ended. */
  readonly connections: number;
  readonly cuts: number;
  /** Connections that were turned away while refusing. */
  readonly refusals: number;
  /** Bytes spoiled by {@link TcpProxy.corruptAfter}, and stalls begun by {@link TcpProxy.stallAfter}. */
  readonly corruptions: number;
  readonly stalls: number;
  /** Resets the connections once so many more bytes passed in a direction. One use; null takes it back. */
  cutAfter(sizeBytes: number | null, direction?: Direction): void;
  /** Flips a bit of the byte that comes after so many more have passed in a direction. One use. */
  corruptAfter(sizeBytes: number, direction?: Direction): void;
  /** Lets nothing pass in a direction for a while, once so many more bytes have passed in it. One use. */
  stallAfter(sizeBytes: number, stallMs: number, direction?: Direction): void;
  /** Resets all connections that are open. */
  cutNow(): void;
  /** Half-open connections: one end of all that are open vanishes, and the other is told nothing. @returns how many */
  abandon(end: 'client' | 'server'): number;
  /** While paused nothing passes either way, and the connections stay open. */
  pause(): void;
  resume(): void;
  /** From now on each chunk is so long under way, give or take, while others follow it; null is no time. */
  latency(transit: { delayMs: number; jitterMs: number; random: () => number } | null): void;
  /** From now on each direction of a connection lets so many bytes pass a second; null for all. */
  limit(bytesPerSecond: number | null): void;
  /** While refusing, new connections are reset at once. */
  refuse(refuses: boolean): void;
  /** Points new connections to another server. */
  retarget(target: { host: string; port: number }): void;
  close(): Promise<void>;
}

/** Listens on a free port of 127.0.0.1. */
export async function startTcpProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const proxy = new CountingProxy(target);
  await proxy.listen();
  return proxy;
}

/** Something that happens once, behind so many more bytes of a direction. */
interface Planned {
  leftBytes: number;
  readonly direction: Direction;
}

class CountingProxy implements TcpProxy {
  readonly host = '127.0.0.1';
  readonly bytes = { up: 0, down: 0 };
  connections = 0;
  cuts = 0;
  refusals = 0;
  corruptions = 0;
  stalls = 0;
  readonly #server: Server;
  readonly #pipes = new Set<Pipe>();
  #target: { host: string; port: number };
  #cut: Planned | null = null;
  #corruption: Planned | null = null;
  #stall: (Planned & { readonly stallMs: number }) | null = null;
  #isPaused = false;
  #refuses = false;
  #transit: { delayMs: number; jitterMs: number; random: () => number } | null = null;
  #bytesPerSecond: number | null = null;

  constructor(target: { host: string; port: number }) {
    this.#target = target;
    // Half-open, so that an end passes on its own and what still flows the other way is not lost.
    this.#server = createServer({ allowHalfOpen: true }, client => this.#accept(client));
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return address.port;
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(0, this.host, resolve);
    });
  }

  cutAfter(sizeBytes: number | null, direction: Direction = 'up'): void {
    this.#cut = sizeBytes === null ? null : { leftBytes: sizeBytes, direction };
  }

  corruptAfter(sizeBytes: number, direction: Direction = 'up'): void {
    this.#corruption = { leftBytes: sizeBytes, direction };
  }

  stallAfter(sizeBytes: number, stallMs: number, direction: Direction = 'up'): void {
    this.#stall = { leftBytes: sizeBytes, direction, stallMs };
  }

  cutNow(): void {
    for (const pipe of this.#pipes) {
      this.cuts += 1;
      pipe.reset();
    }
  }

  abandon(end: 'client' | 'server'): number {
    const pipes = [...this.#pipes];
    for (const pipe of pipes) pipe.abandon(end);
    return pipes.length;
  }

  pause(): void {
    this.#isPaused = true;
    for (const pipe of this.#pipes) pipe.setPaused(true);
  }

  resume(): void {
    this.#isPaused = false;
    for (const pipe of this.#pipes) pipe.setPaused(false);
  }

  latency(transit: { delayMs: number; jitterMs: number; random: () => number } | null): void {
    this.#transit = transit;
  }

  limit(bytesPerSecond: number | null): void {
    this.#bytesPerSecond = bytesPerSecond;
  }

  refuse(refuses: boolean): void {
    this.#refuses = refuses;
  }

  retarget(target: { host: string; port: number }): void {
    this.#target = target;
  }

  close(): Promise<void> {
    for (const pipe of this.#pipes) pipe.reset();
    return new Promise(resolve => this.#server.close(() => resolve()));
  }

  #accept(client: Socket): void {
    if (this.#refuses) {
      this.refusals += 1;
      client.resetAndDestroy();
      return;
    }
    this.connections += 1;
    const { host, port } = this.#target;
    const server = connect({ host, port, allowHalfOpen: true });
    const pipe = new Pipe(client, server, {
      transitMs: () => this.#transitMs(),
      bytesPerSecond: () => this.#bytesPerSecond,
      pass: (direction, chunk) => this.#pass(direction, chunk),
      stallMs: direction => this.#takeStall(direction),
      onClose: () => this.#pipes.delete(pipe),
    });
    this.#pipes.add(pipe);
    if (this.#isPaused) pipe.setPaused(true);
  }

  #transitMs(): number {
    if (this.#transit === null) return 0;
    const { delayMs, jitterMs, random } = this.#transit;
    return Math.max(1, delayMs + (random() * 2 - 1) * jitterMs);
  }

  #pass(direction: Direction, chunk: Buffer): number {
    const cut = this.#cut;
    const allowed = cut?.direction === direction ? Math.min(cut.leftBytes, chunk.length) : chunk.length;
    this.bytes[direction] += allowed;
    this.#spoil(direction, chunk, allowed);
    if (this.#stall?.direction === direction) this.#stall.leftBytes -= allowed;
    if (cut?.direction === direction) {
      cut.leftBytes -= allowed;
      if (allowed < chunk.length) {
        this.#cut = null;
        setImmediate(() => this.cutNow());
      }
    }
    return allowed;
  }

  #spoil(direction: Direction, chunk: Buffer, allowed: number): void {
    const corruption = this.#corruption;
    if (corruption?.direction !== direction) return;
    const at = corruption.leftBytes;
    corruption.leftBytes -= allowed;
    if (at >= allowed) return;
    chunk[at] = (chunk[at] ?? 0) ^ 0x10;
    this.#corruption = null;
    this.corruptions += 1;
  }

  #takeStall(direction: Direction): number {
    const stall = this.#stall;
    if (stall === null || stall.direction !== direction || stall.leftBytes > 0) return 0;
    this.#stall = null;
    this.stalls += 1;
    return stall.stallMs;
  }
}
