/** Reads a socket by counts of bytes, and holds the peer back while what it sent is not taken. */
import type { Socket } from 'node:net';

/** Above this the socket is paused, unless a longer piece is being waited for. */
const HIGH_WATER_BYTES = 1024 * 1024;

export class SocketBytes {
  readonly #socket: Socket;
  #chunks: Buffer[] = [];
  #length = 0;
  #wanted = 0;
  #wake: (() => void) | null = null;
  #isEnded = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', chunk => this.#add(chunk));
    const end = () => {
      this.#isEnded = true;
      this.#wake?.();
    };
    socket.on('end', end);
    socket.on('close', end);
    // A reset is an end like others; 'close' follows.
    socket.on('error', () => {});
  }

  /** @returns exactly `count` bytes, null when the peer ended before; one call at a time */
  async take(count: number): Promise<Buffer | null> {
    while (this.#length < count) {
      if (this.#isEnded) return null;
      this.#wanted = count;
      if (this.#socket.isPaused()) this.#socket.resume();
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
    this.#wanted = 0;
    return this.#cut(count);
  }

  #add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length >= this.#wanted) {
      if (this.#length > HIGH_WATER_BYTES) this.#socket.pause();
      this.#wake?.();
    }
  }

  #cut(count: number): Buffer {
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= count) {
      this.#length -= count;
      if (first.length === count) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    const all = Buffer.concat(this.#chunks);
    this.#chunks = all.length === count ? [] : [all.subarray(count)];
    this.#length -= count;
    return all.subarray(0, count);
  }
}
