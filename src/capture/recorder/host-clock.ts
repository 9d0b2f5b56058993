/** One clock and one order for all disks of a host. */

export interface Tick {
  /** Rises with each record of the epoch. */
  readonly sequence: number;
  /** Microseconds since 1970, never falling. */
  readonly timeUs: number;
}

export class HostClock {
  readonly #nowMs: () => number;
  #newest: Tick;

  /** @param start what every record comes after */
  constructor(start: Tick, nowMs: () => number = Date.now) {
    this.#newest = start;
    this.#nowMs = nowMs;
  }

  get newest(): Tick {
    return this.#newest;
  }

  /** A clock that was set back stands still until it is later again. */
  next(): Tick {
    const timeUs = Math.max(this.#newest.timeUs, Math.floor(this.#nowMs() * 1000));
    this.#newest = { sequence: this.#newest.sequence + 1, timeUs };
    return this.#newest;
  }
}
