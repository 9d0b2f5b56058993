/** Random numbers that follow from a seed and a case's number alone: any case can be run again by itself. */

/** @see Steele, Lea, Flood: Fast splittable pseudorandom number generators (the mixer of SplitMix, in 32 bits) */
function mix(value: number): number {
  let mixed = value | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x7feb352d);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

export class Random {
  #state: number;
  readonly #step: number;

  constructor(seed: number, caseNumber: number) {
    const high = Math.floor(caseNumber / 2 ** 32);
    this.#state = mix(mix(seed) ^ mix(caseNumber + 0x9e3779b9) ^ mix(high + 0x51ed270b));
    // Odd, and of the case's own: two cases never walk the same row of states.
    this.#step = (mix(seed + 0x2545f491) ^ mix(caseNumber ^ 0x68bc21eb)) | 1;
  }

  u32(): number {
    this.#state = (this.#state + this.#step) | 0;
    return mix(this.#state);
  }

  /** A whole number from 0 to `limit - 1`; `limit` at most 2^32. */
  below(limit: number): number {
    return limit <= 1 ? 0 : Math.floor((this.u32() / 2 ** 32) * limit);
  }

  /** True once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  pick<T>(choices: readonly T[]): T {
    const choice = choices[this.below(choices.length)];
    if (choice === undefined) throw new RangeError('nothing to pick from');
    return choice;
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.from(new Uint8Array(count));
    for (let at = 0; at < count; at += 1) bytes[at] = this.u32();
    return bytes;
  }
}
