/** A TCP proxy between two ends of a connection: counts what passes, and spoils it on demand. */
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Seen from the client: `up` flows to the server, `down` to the client. */
export type Direction = 'up' | 'down';

export interface TcpProxy {
  readonly host: string;
  readonly port: number;
  /** Payload bytes of TCP that passed, over all connections. */
  readonly bytes: Readonly<Record<Direction, number>>;
  /** Connections accepted so far, and how many of them {@link TcpProxy.cutAfter} or `cutNow` ended. */
  readonly connections: number;
  readonly cuts: number;
  /** Resets the connections once so many more bytes passed in a direction. One use; null takes it back. */
  cutAfter(sizeBytes: number | null, direction?: Direction): void;
  /** Resets all connections that are open. */
  cutNow(): void;
  /** While paused nothing passes either way, and the connections stay open. */
  pause(): void;
  resume(): void;
  /** From now on each chunk is held back for this long. */
  delay(delayMs: number): void;
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

class CountingProxy implements TcpProxy {
  readonly host = '127.0.0.1';
  readonly bytes = { up: 0, down: 0 };
  connections = 0;
  cuts = 0;
  readonly #server: Server;
  readonly #pipes = new Set<Pipe>();
  #target: { host: string; port: number };
  #cut: { leftBytes: number; direction: Direction } | null = null;
  #isPaused = false;
  #refuses = false;
  #delayMs = 0;

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

  cutNow(): void {
    for (const pipe of this.#pipes) {
      this.cuts += 1;
      pipe.reset();
    }
  }

  pause(): void {
    this.#isPaused = true;
    for (const pipe of this.#pipes) pipe.setPaused(true);
  }

  resume(): void {
    this.#isPaused = false;
    for (const pipe of this.#pipes) pipe.setPaused(false);
  }

  delay(delayMs: number): void {
    this.#delayMs = delayMs;
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
      client.resetAndDestroy();
      return;
    }
    this.connections += 1;
    const { host, port } = this.#target;
    const server = connect({ host, port, allowHalfOpen: true });
    const pipe = new Pipe(client, server, {
      delayMs: () => this.#delayMs,
      pass: (direction, sizeBytes) => this.#pass(direction, sizeBytes),
      onClose: () => this.#pipes.delete(pipe),
    });
    this.#pipes.add(pipe);
    if (this.#isPaused) pipe.setPaused(true);
  }

  /** @returns how many of the bytes may pass; fewer than all means that the connections are cut behind them */
  #pass(direction: Direction, sizeBytes: number): number {
    const cut = this.#cut;
    const allowed = cut?.direction === direction ? Math.min(cut.leftBytes, sizeBytes) : sizeBytes;
    this.bytes[direction] += allowed;
    if (cut?.direction === direction) {
      cut.leftBytes -= allowed;
      if (allowed < sizeBytes) {
        this.#cut = null;
        setImmediate(() => this.cutNow());
      }
    }
    return allowed;
  }
}

interface PipeRules {
  delayMs(): number;
  pass(direction: Direction, sizeBytes: number): number;
  onClose(): void;
}

/** One client's connection and the one to the server that belongs to it. */
class Pipe {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #rules: PipeRules;
  #isCut = false;
  #isPaused = false;
  readonly #resumes: (() => void)[] = [];

  constructor(client: Socket, server: Socket, rules: PipeRules) {
    this.#client = client;
    this.#server = server;
    this.#rules = rules;
    this.#carry(client, server, 'up');
    this.#carry(server, client, 'down');
  }

  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (!isPaused) for (const resume of this.#resumes.splice(0)) resume();
  }

  reset(): void {
    this.#isCut = true;
    this.#client.resetAndDestroy();
    this.#server.resetAndDestroy();
    this.setPaused(false);
  }

  #carry(from: Socket, to: Socket, direction: Direction): void {
    let line = Promise.resolve();
    const inOrder = (step: () => Promise<void> | void): void => {
      line = line.then(step);
    };
    from.setNoDelay(true);
    from.on('data', chunk => {
      from.pause();
      inOrder(async () => {
        await this.#hold();
        if (this.#isCut) return;
        const allowed = this.#rules.pass(direction, chunk.length);
        await new Promise<void>(resolve => {
          if (to.destroyed) resolve();
          else to.write(chunk.subarray(0, allowed), () => resolve());
        });
        if (allowed < chunk.length) this.#isCut = true;
        else from.resume();
      });
    });
    from.on('end', () => inOrder(() => void to.end()));
    // What was read before the reset still passes, as it would without a proxy.
    from.on('error', () => inOrder(() => void to.resetAndDestroy()));
    from.on('close', () => {
      inOrder(() => void to.destroySoon());
      if (to.closed) this.#rules.onClose();
    });
  }

  async #hold(): Promise<void> {
    const delayMs = this.#rules.delayMs();
    if (delayMs > 0) await new Promise(resolve => setTimeout(resolve, delayMs));
    if (this.#isPaused) await new Promise<void>(resolve => this.#resumes.push(resolve));
  }
}
