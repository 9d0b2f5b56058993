/** A bounded memory of what was read: tables and unpacked clusters of all layers of one chain. */

/** Forgets the least recently used beyond `maxBytes`. */
export class ByteLru<K, V> {
  readonly #entries = new Map<K, { value: V; sizeBytes: number }>();
  readonly #maxBytes: number;
  #usedBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  set(key: K, value: V, sizeBytes: number): void {
    this.delete(key);
    this.#entries.set(key, { value, sizeBytes });
    this.#usedBytes += sizeBytes;
    for (const [oldest] of this.#entries) {
      if (this.#usedBytes <= this.#maxBytes || oldest === key) break;
      this.delete(oldest);
    }
  }

  delete(key: K): void {
    this.#usedBytes -= this.#entries.get(key)?.sizeBytes ?? 0;
    this.#entries.delete(key);
  }
}

const TABLE_BYTES = 16 * 1024 * 1024;
const UNPACKED_BYTES = 8 * 1024 * 1024;

/** Shared by the layers of one chain, so that its memory does not grow with its depth. */
export class ChainCache {
  /** Slices of L1 and L2 tables. */
  readonly tables = new ByteLru<number, Buffer>(TABLE_BYTES);
  readonly unpacked = new ByteLru<string, Promise<Buffer>>(UNPACKED_BYTES);
}
