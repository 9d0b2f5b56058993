/** Which clusters a file or directory has, and the table that chains them. */
import { createHash } from 'node:crypto';
import { FatError } from './fat-error.ts';
import { FIRST_CLUSTER, type Geometry } from './geometry.ts';

const END_OF_CHAIN = 0x0fff_ffff;
const MEDIA_ENTRY = 0x0fff_fff8;

/**
 * Gives out clusters. Where a chain starts comes from the hash of its path: another file, or one that
 * grows, moves only the few chains that it meets, so that two versions of a volume differ in few clusters.
 */
export class ClusterAllocator {
  readonly #table: Uint32Array;
  readonly #lastCluster: number;
  #freeCount: number;

  constructor({ clusterCount }: Geometry) {
    this.#lastCluster = clusterCount + FIRST_CLUSTER - 1;
    this.#table = new Uint32Array(this.#lastCluster + 1);
    this.#table[0] = MEDIA_ENTRY;
    this.#table[1] = END_OF_CHAIN;
    this.#freeCount = clusterCount;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  /** @returns the chain of a path, `count` clusters in order @throws {FatError} when the volume is full */
  allocate(path: string, count: number): number[] {
    if (count > this.#freeCount) throw new FatError(`the volume is full at "${path}"`);
    const chain: number[] = [];
    let cluster = path === '' ? FIRST_CLUSTER : this.#startOf(path);
    while (chain.length < count) {
      if (this.#table[cluster] === 0) {
        this.#table[cluster] = END_OF_CHAIN;
        const last = chain.at(-1);
        if (last !== undefined) this.#table[last] = cluster;
        chain.push(cluster);
      }
      cluster = cluster === this.#lastCluster ? FIRST_CLUSTER : cluster + 1;
    }
    this.#freeCount -= count;
    return chain;
  }

  /** @returns the table as it lies on disk: little-endian u32 a cluster */
  encode(): Buffer {
    const bytes = Buffer.alloc(this.#table.length * 4);
    for (let cluster = 0; cluster < this.#table.length; cluster += 1) {
      bytes.writeUInt32LE(this.#table[cluster] ?? 0, cluster * 4);
    }
    return bytes;
  }

  #startOf(path: string): number {
    const hash = createHash('sha256').update(path).digest().readUInt32LE(0);
    return FIRST_CLUSTER + (hash % (this.#lastCluster - FIRST_CLUSTER + 1));
  }
}
