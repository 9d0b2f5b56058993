/** One client's connection and the one to the server that belongs to it, over a line with the faults of a real one. */
import type { Socket } from 'node:net';

/** Seen from the client: `up` flows to the server, `down` to the client. */
export type Direction = 'up' | 'down';

/** What the line does to the bytes of all pipes; changed while they run. */
export interface LineRules {
  /** How long the next chunk is under way. */
  transitMs(): number;
  /** Null for as fast as it goes. */
  bytesPerSecond(): number | null;
  /**
   * Counts bytes that are about to pass, and may spoil them.
   * @returns how many of them may pass; fewer than all means that the connections are cut behind them
   */
  pass(direction: Direction, chunk: Buffer): number;
  /** How long everything stands still behind the chunk that passed last. */
  stallMs(direction: Direction): number;
  onClose(): void;
}

/** Bytes that are under way on a line with transit times: the bandwidth-delay product of a good long line. */
const WINDOW_BYTES = 2 * 1024 * 1024;

type Step = {
  readonly dueAtMs: number;
  readonly sizeBytes: number;
  readonly act: () => Promise<void> | void;
};

const sleep = (delayMs: number): Promise<void> => new Promise(resolve => setTimeout(resolve, delayMs));

export class Pipe {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #rules: LineRules;
  #isCut = false;
  /** What one end does is not told to the other any more. */
  #isSilent = false;
  #isPaused = false;
  readonly #resumes: (() => void)[] = [];

  constructor(client: Socket, server: Socket, rules: LineRules) {
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

  /** The end vanishes; the other one keeps an open connection on which nothing comes, and nothing is taken. */
  abandon(end: 'client' | 'server'): void {
    this.#isSilent = true;
    const [gone, left] = end === 'client' ? [this.#client, this.#server] : [this.#server, this.#client];
    gone.resetAndDestroy();
    left.pause();
    this.setPaused(false);
  }

  #carry(from: Socket, to: Socket, direction: Direction): void {
    const steps: Step[] = [];
    let queuedBytes = 0;
    let lastDueAtMs = 0;
    let isRunning = false;
    const run = async (): Promise<void> => {
      isRunning = true;
      for (let step = steps.shift(); step !== undefined; step = steps.shift()) {
        const waitMs = step.dueAtMs - performance.now();
        if (waitMs > 0) await sleep(waitMs);
        if (this.#isPaused) await new Promise<void>(resolve => this.#resumes.push(resolve));
        await step.act();
        queuedBytes -= step.sizeBytes;
        if (!this.#isCut && !this.#isSilent && queuedBytes <= WINDOW_BYTES / 2) from.resume();
      }
      isRunning = false;
    };
    const enqueue = (sizeBytes: number, act: Step['act']): void => {
      const transitMs = this.#rules.transitMs();
      // Jitter never lets a later chunk overtake an earlier one: TCP keeps the order.
      lastDueAtMs = Math.max(lastDueAtMs, performance.now() + transitMs);
      steps.push({ dueAtMs: lastDueAtMs, sizeBytes, act });
      queuedBytes += sizeBytes;
      if (transitMs === 0 || queuedBytes > WINDOW_BYTES) from.pause();
      if (!isRunning) void run();
    };
    const unlessSilent = (tell: () => void) => (): void =>
      enqueue(0, () => (this.#isSilent ? undefined : tell()));
    from.setNoDelay(true);
    from.on('data', chunk => enqueue(chunk.length, () => this.#passOn(chunk, to, direction)));
    from.on(
      'end',
      unlessSilent(() => void to.end()),
    );
    // What was read before the reset still passes, as it would without a proxy.
    from.on(
      'error',
      unlessSilent(() => void to.resetAndDestroy()),
    );
    from.on('close', () => {
      unlessSilent(() => void to.destroySoon())();
      if (to.closed) this.#rules.onClose();
    });
  }

  async #passOn(chunk: Buffer, to: Socket, direction: Direction): Promise<void> {
    if (this.#isCut || this.#isSilent) return;
    const rate = this.#rules.bytesPerSecond();
    if (rate !== null) await sleep((chunk.length / rate) * 1000);
    if (this.#isCut || this.#isSilent) return;
    const allowed = this.#rules.pass(direction, chunk);
    await new Promise<void>(resolve => {
      if (to.destroyed) resolve();
      else to.write(chunk.subarray(0, allowed), () => resolve());
    });
    if (allowed < chunk.length) this.#isCut = true;
    const stallMs = this.#rules.stallMs(direction);
    if (stallMs > 0) await sleep(stallMs);
  }
}
