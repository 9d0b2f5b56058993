/** One TLS connection as a sequence of frames: bounded queue, keep-alives, idle time-out. Both ends use it. */
import type { TLSSocket } from 'node:tls';
import { effectSync } from '../lib/fault-points.ts';
import { ConnectionLostError, ProtocolError } from './errors.ts';
import { type Frame, FrameDecoder, type FrameName, nameOfFrame, PayloadPool } from './frames.ts';
import {
  type ConnectionLimits,
  HELLO_QUEUE_BYTES,
  MAX_CONTROL_PAYLOAD_BYTES,
  MAX_SENDER_PAYLOAD_BYTES,
} from './limits.ts';
import { encodeKeepAlive } from './messages.ts';

/** So many bytes of an unfinished frame count as a sign of life: a slow link is not a silent one. */
const SIGN_OF_LIFE_BYTES = 64 * 1024;
/** How long a last word may take to reach the peer before the connection is destroyed. */
const LAST_WORD_MS = 2_000;
/** Keep-alives are left out while this much waits to be sent anyway. */
const BUSY_BYTES = 64 * 1024;
const KEPT_BUFFERS = 5;
/** What a waiting frame costs besides its payload, so that empty ones are bounded too. */
const FRAME_COST_BYTES = 256;
const costOf = (frame: Frame): number => frame.payload.length + FRAME_COST_BYTES;

/**
 * `receive` gives the frames that came, keep-alives left out, and what was received before the connection
 * was lost even after that; then it throws. Only one caller may wait in it at a time.
 */
export class FrameConnection {
  readonly #socket: TLSSocket;
  readonly #limits: ConnectionLimits;
  readonly #nowMs: () => number;
  readonly #pool = new PayloadPool(MAX_SENDER_PAYLOAD_BYTES, KEPT_BUFFERS);
  readonly #decoder: FrameDecoder;
  readonly #frames: Frame[] = [];
  readonly #idle: NodeJS.Timeout;
  readonly #keepAlive: NodeJS.Timeout;
  readonly #whenClosed: Promise<void>;
  #mostQueuedBytes: number;
  #queuedBytes = 0;
  #bytesSinceSign = 0;
  #signs = 0;
  #isPaused = false;
  #isDiscarding = false;
  #failure: Error | null = null;
  #wake: (() => void) | null = null;
  #onFailure: (() => void) | null = null;
  #lastFrameAtMs: number;

  /** @param socket after its handshake; nothing may have been read from it */
  constructor(socket: TLSSocket, limits: ConnectionLimits, nowMs: () => number = Date.now) {
    this.#socket = socket;
    this.#limits = limits;
    this.#nowMs = nowMs;
    this.#lastFrameAtMs = nowMs();
    this.#mostQueuedBytes = Math.min(HELLO_QUEUE_BYTES, limits.queuedBytes);
    this.#decoder = new FrameDecoder(MAX_CONTROL_PAYLOAD_BYTES, this.#pool);
    this.#idle = setTimeout(() => this.#onIdle(), limits.idleMs);
    this.#keepAlive = setInterval(() => this.#sendKeepAlive(), limits.keepAliveMs);
    this.#whenClosed = new Promise(resolve => socket.once('close', () => resolve()));
    socket.setNoDelay(true);
    socket.on('data', chunk => this.#onData(chunk));
    socket.on('error', error =>
      this.#fail(new ConnectionLostError(`the connection broke: ${error.message}`)),
    );
    socket.on('end', () => this.#fail(new ConnectionLostError('the other end closed the connection')));
    socket.on('close', () => this.#onClose());
  }

  /** When the peer's last whole frame came, by the local clock. */
  get lastFrameAtMs(): number {
    return this.#lastFrameAtMs;
  }

  /** Bytes of frames that came and wait to be taken. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Why the connection is over; null while it lives. */
  get failure(): Error | null {
    return this.#failure;
  }

  /** Resolves when the connection is lost or closed. Never rejects. */
  get closed(): Promise<void> {
    return this.#whenClosed;
  }

  /** Lets the peer send frames of up to 1 MiB and a little, which it may not before its hello was admitted. */
  allowLargeFrames(): void {
    this.#mostQueuedBytes = this.#limits.queuedBytes;
    this.#decoder.maxPayloadBytes = MAX_SENDER_PAYLOAD_BYTES;
  }

  /** Called once, when the connection is over; at once when it is already. */
  onFailure(listener: () => void): void {
    if (this.#failure === null) this.#onFailure = listener;
    else listener();
  }

  /** Sends a small frame; a lost connection shows in `receive`. */
  send(frame: Buffer): void {
    if (this.#failure === null) this.#transmit(frame, 'write');
  }

  /** Resolves when the operating system has the frame and its memory may be used again. */
  write(frame: Buffer): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#transmit(frame, 'write', error => {
        if (error) reject(this.#failure ?? new ConnectionLostError(`the connection broke: ${error.message}`));
        else resolve();
      });
    });
  }

  /** @throws {ConnectionLostError} @throws {ProtocolError} after the frames that came before */
  async receive(): Promise<Frame> {
    for (;;) {
      const frame = this.#shift();
      if (frame !== null) return frame;
      if (this.#failure !== null) throw this.#failure;
      await this.#nextFrame(null);
    }
  }

  /** As {@link receive}, but null when nothing came within `waitMs`. */
  async receiveWithin(waitMs: number): Promise<Frame | null> {
    if (this.#frames.length === 0 && this.#failure === null) await this.#nextFrame(waitMs);
    const frame = this.#shift();
    if (frame === null && this.#failure !== null) throw this.#failure;
    return frame;
  }

  /** @throws {ProtocolError} FrameOutOfOrder when the next frame is another one; ConnectionLost after `waitMs` */
  async expect(names: readonly FrameName[], waitMs: number | null = null): Promise<Frame> {
    const frame = waitMs === null ? await this.receive() : await this.receiveWithin(waitMs);
    if (frame === null) throw new ConnectionLostError(`no ${names.join(' or ')} came within ${waitMs} ms`);
    if (!names.includes(frame.name)) throw outOfOrder(frame.name, names);
    return frame;
  }

  /** Gives a payload's memory back. Its bytes may change from now on. */
  release(frame: Frame): void {
    this.#pool.release(frame.payload);
  }

  /**
   * Sends a last frame, then ends. What the peer still sends is read and dropped for a while: a reset would
   * destroy the last word on its way.
   */
  async finish(lastFrame: Buffer, withinMs = LAST_WORD_MS): Promise<void> {
    if (this.#socket.destroyed) return;
    this.#isDiscarding = true;
    this.#fail(new ConnectionLostError('the connection was ended here'), false);
    this.#socket.resume();
    this.#transmit(lastFrame, 'end');
    const timer = setTimeout(() => this.#socket.destroy(), withinMs);
    await this.#whenClosed;
    clearTimeout(timer);
  }

  /** Ends the connection now; frames that came already can still be taken. */
  destroy(reason: string): void {
    this.#socket.destroy();
    this.#fail(new ConnectionLostError(reason));
  }

  #shift(): Frame | null {
    const frame = this.#frames.shift();
    if (frame === undefined) return null;
    this.#queuedBytes -= costOf(frame);
    if (this.#isPaused && this.#queuedBytes <= this.#mostQueuedBytes / 2) {
      this.#isPaused = false;
      this.#idle.refresh();
      this.#socket.resume();
    }
    return frame;
  }

  #nextFrame(waitMs: number | null): Promise<void> {
    return new Promise(resolve => {
      const timer = waitMs === null ? null : setTimeout(() => this.#wake?.(), waitMs);
      this.#wake = () => {
        if (timer !== null) clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
    });
  }

  #onData(chunk: Buffer): void {
    if (this.#isDiscarding || this.#failure !== null) return;
    this.#bytesSinceSign += chunk.length;
    if (this.#bytesSinceSign >= SIGN_OF_LIFE_BYTES) this.#signOfLife();
    try {
      this.#decoder.push(chunk, frame => this.#onFrame(frame));
    } catch (error) {
      this.#fail(error as ProtocolError, false);
      return;
    }
    if (!this.#isPaused && this.#queuedBytes > this.#mostQueuedBytes) {
      this.#isPaused = true;
      this.#socket.pause();
    }
  }

  #onFrame(frame: Frame): void {
    this.#lastFrameAtMs = this.#nowMs();
    this.#signOfLife();
    if (frame.name === 'keepAlive') return;
    this.#frames.push(frame);
    this.#queuedBytes += costOf(frame);
    this.#wake?.();
  }

  #signOfLife(): void {
    this.#signs += 1;
    this.#bytesSinceSign = 0;
    this.#idle.refresh();
  }

  /** After a long pause of this process the peer's bytes may wait unread: they are taken first. */
  #onIdle(): void {
    const signs = this.#signs;
    setImmediate(() => {
      if (this.#failure !== null || this.#signs !== signs) return;
      // The peer is not silent while it is we who do not read.
      if (this.#isPaused) this.#idle.refresh();
      else this.#fail(new ConnectionLostError(`nothing came for ${this.#limits.idleMs} ms`));
    });
  }

  #sendKeepAlive(): void {
    if (this.#failure === null && this.#socket.writableLength < BUSY_BYTES)
      this.#transmit(encodeKeepAlive(), 'write');
  }

  /** A fault that a test injects is what a real one is here: the connection breaks. */
  #transmit(frame: Buffer, how: 'write' | 'end', onDone?: (error?: Error | null) => void): void {
    try {
      effectSync(`transfer.send.${nameOfFrame(frame)}`, () => {
        if (how === 'end') this.#socket.end(frame);
        else this.#socket.write(frame, onDone);
      });
    } catch (error) {
      this.#socket.destroy();
      this.#fail(new ConnectionLostError(`the connection broke: ${(error as Error).message}`));
      onDone?.(error as Error);
    }
  }

  #onClose(): void {
    this.#fail(new ConnectionLostError('the connection was closed'));
    clearTimeout(this.#idle);
    clearInterval(this.#keepAlive);
  }

  /** A broken protocol leaves the socket open, for the last word. */
  #fail(error: Error, destroy = true): void {
    if (destroy && !this.#isDiscarding) this.#socket.destroy();
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#wake?.();
    this.#onFailure?.();
  }
}

/** @param expected what could have come instead */
export function outOfOrder(name: FrameName, expected: readonly FrameName[]): ProtocolError {
  return new ProtocolError('FrameOutOfOrder', `a ${name} frame came where only ${expected.join(' or ')} may`);
}
