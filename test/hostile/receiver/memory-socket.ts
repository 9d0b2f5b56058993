/** One end of a TLS connection in memory: what the receiver's connection needs of a socket, and no more. */
import { EventEmitter } from 'node:events';
import type { TLSSocket } from 'node:tls';

export class MemorySocket extends EventEmitter {
  destroyed = false;
  readonly writableLength = 0;
  readonly written: Buffer[] = [];
  readonly #waiting: Buffer[] = [];
  #isPaused = false;
  #hasEnded = false;

  /** What the receiver takes it for. */
  get asSocket(): TLSSocket {
    return this as unknown as TLSSocket;
  }

  /** Brings bytes of the peer; they wait while the receiver does not read. */
  bring(bytes: Buffer): void {
    this.#waiting.push(bytes);
    this.#flow();
  }

  /** The peer says that it sends nothing more. */
  bringEnd(): void {
    if (this.#hasEnded || this.destroyed) return;
    this.#hasEnded = true;
    this.#isPaused = false;
    this.#flow();
    if (!this.destroyed) this.emit('end');
  }

  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  setNoDelay(): this {
    return this;
  }

  pause(): this {
    this.#isPaused = true;
    return this;
  }

  resume(): this {
    this.#isPaused = false;
    queueMicrotask(() => this.#flow());
    return this;
  }

  write(bytes: Buffer, done?: (error?: Error) => void): boolean {
    if (!this.destroyed) this.written.push(Buffer.from(bytes));
    if (done !== undefined) queueMicrotask(() => done());
    return true;
  }

  end(bytes?: Buffer): this {
    if (bytes !== undefined) this.write(bytes);
    // The peer has heard the last word, and closes.
    queueMicrotask(() => this.destroy());
    return this;
  }

  destroy(): this {
    if (this.destroyed) return this;
    this.destroyed = true;
    this.#waiting.length = 0;
    queueMicrotask(() => this.emit('close'));
    return this;
  }

  #flow(): void {
    while (!this.#isPaused && !this.destroyed) {
      const bytes = this.#waiting.shift();
      if (bytes === undefined) return;
      this.emit('data', bytes);
    }
  }
}
