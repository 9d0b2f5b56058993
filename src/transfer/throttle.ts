/** A rate limit that can change while it runs. */

/** How much may be taken at once after a rest: a tenth of a second's worth. */
const BURST_SECONDS = 0.1;
const SMALLEST_PIECE_BYTES = 4096;
const LONGEST_TIMER_MS = 3_600_000;

/** Shared by any number of takers, who are served in the order in which they came. */
export interface Throttle {
  /** @param bytesPerSecond positive, or null for no limit; holds at once, for those who wait too */
  setRate(bytesPerSecond: number | null): void;
  /** Resolves when `sizeBytes` may be sent. @throws the signal's reason when it aborts first */
  take(sizeBytes: number, signal?: AbortSignal): Promise<void>;
  /** The largest piece that does not exceed the burst, at least 4 KiB; `mostBytes` without a limit. */
  pieceBytes(mostBytes: number): number;
}

interface Waiter {
  readonly sizeBytes: number;
  readonly resolve: () => void;
}

/** A token bucket. @param nowMs a clock that never goes back */
export function createThrottle(
  bytesPerSecond: number | null,
  nowMs: () => number = () => performance.now(),
): Throttle {
  return new TokenBucket(bytesPerSecond, nowMs);
}

class TokenBucket implements Throttle {
  readonly #nowMs: () => number;
  readonly #waiters: Waiter[] = [];
  #rate: number | null;
  #tokens = 0;
  #filledAtMs: number;
  #timer: NodeJS.Timeout | null = null;

  constructor(rate: number | null, nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#rate = checkedRate(rate);
    this.#filledAtMs = nowMs();
  }

  setRate(bytesPerSecond: number | null): void {
    this.#fill();
    this.#rate = checkedRate(bytesPerSecond);
    this.#tokens = bytesPerSecond === null ? 0 : Math.min(this.#tokens, this.#burst);
    this.#serve();
  }

  pieceBytes(mostBytes: number): number {
    if (this.#rate === null) return mostBytes;
    const whole = Math.floor(this.#burst / SMALLEST_PIECE_BYTES) * SMALLEST_PIECE_BYTES;
    return Math.min(mostBytes, Math.max(whole, SMALLEST_PIECE_BYTES));
  }

  take(sizeBytes: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        const at = this.#waiters.indexOf(waiter);
        if (at >= 0) this.#waiters.splice(at, 1);
        reject(signal?.reason);
        this.#serve();
      };
      const waiter = {
        sizeBytes,
        resolve: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.push(waiter);
      this.#serve();
    });
  }

  get #burst(): number {
    return this.#rate === null ? 0 : this.#rate * BURST_SECONDS;
  }

  #fill(): void {
    const nowMs = this.#nowMs();
    if (this.#rate !== null) {
      const gained = ((nowMs - this.#filledAtMs) / 1000) * this.#rate;
      this.#tokens = Math.min(this.#tokens + gained, this.#burst);
    }
    this.#filledAtMs = nowMs;
  }

  /** A piece larger than the burst is let through by a full bucket, and leaves a debt. */
  #serve(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#fill();
    for (let head = this.#waiters[0]; head !== undefined; head = this.#waiters[0]) {
      if (this.#rate !== null) {
        const missing = Math.min(head.sizeBytes, this.#burst) - this.#tokens;
        // Less than a byte is the clock's rounding, not a debt.
        if (missing >= 1) {
          const waitMs = Math.min(Math.ceil((missing / this.#rate) * 1000), LONGEST_TIMER_MS);
          this.#timer = setTimeout(() => this.#serve(), waitMs);
          return;
        }
        this.#tokens -= head.sizeBytes;
      }
      this.#waiters.shift();
      head.resolve();
    }
  }
}

function checkedRate(rate: number | null): number | null {
  if (rate !== null && !(rate > 0 && Number.isFinite(rate))) {
    throw new RangeError(`a rate of ${rate} bytes a second is not possible`);
  }
  return rate;
}
