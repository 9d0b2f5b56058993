/** A sealed layer at rest: is its content still what both sites agreed on? */
import { type FileHandle, open } from 'node:fs/promises';
import { BLOCK_BYTES, mapDigest } from '../../domain/content-digest.ts';
import { type ExtentMap, ExtentMapBuilder, ExtentMapError } from '../../domain/extent-map.ts';
import { createXxh128 } from '../../lib/digest.ts';
import { computeLayout } from '../qcow2/layout.ts';
import type { ReadStream } from '../qcow2/writer.ts';
import { readDigestFile } from './digest-file.ts';
import { readFully } from './durable-files.ts';

export interface VerifyOptions {
  /** The layer's own extents, not its base's, as the image's tables say now; in clusters of any size. */
  readonly map: ExtentMap;
  /** Reads the layer's data stream; by default from where Offsite's own layout has it. */
  readonly readStream?: ReadStream;
  /** Told the bytes read so far, after each block. */
  readonly onProgress?: (checkedBytes: number) => void;
}

export interface VerifyResult {
  readonly intact: boolean;
  /** False when the image's tables are not those that were sealed; no block is read then. */
  readonly mapMatches: boolean;
  /** Guest offsets divided by 1 MiB, rising: blocks whose bytes differ or cannot be read. */
  readonly damagedBlocks: readonly number[];
  readonly checkedBytes: number;
}

/**
 * Hashes a sealed layer again and compares it with its digest file.
 * @param path the final path; the digest file lies beside it
 * @throws {ReplicaFileError} when the digest file is missing or damaged
 */
export async function verifySealed(path: string, options: VerifyOptions): Promise<VerifyResult> {
  const digests = await readDigestFile(`${path}.digests`);
  const map = inClustersOf(options.map, digests.clusterSizeBytes);
  const mapMatches = map !== null && Buffer.from(mapDigest(map, createXxh128)).equals(digests.mapDigest);
  if (!mapMatches) return { intact: false, mapMatches, damagedBlocks: [], checkedBytes: 0 };

  const file = await open(path, 'r');
  try {
    const readStream = options.readStream ?? ownLayoutReader(file, map);
    const expected = digests.blocks()[Symbol.iterator]();
    const damagedBlocks: number[] = [];
    const buffer = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, map.dataBytes));
    let checkedBytes = 0;
    for (const { block, position, length } of streamBlocks(map)) {
      const next = expected.next();
      const bytes = buffer.subarray(0, length);
      const isRight =
        !next.done &&
        next.value.block === block &&
        (await isReadable(readStream, bytes, position)) &&
        xxh128(bytes).equals(next.value.digest);
      if (!isRight) damagedBlocks.push(block);
      checkedBytes += length;
      options.onProgress?.(checkedBytes);
    }
    return { intact: damagedBlocks.length === 0, mapMatches, damagedBlocks, checkedBytes };
  } finally {
    await file.close();
  }
}

/** Where each guest block's data lies in the stream. A block without data has no place. */
export function* streamBlocks(
  map: ExtentMap,
): Generator<{ block: number; position: number; length: number }, undefined> {
  let block = -1;
  let start = 0;
  let position = 0;
  for (const { offset, length, kind } of map) {
    if (kind !== 'data') continue;
    let at = offset;
    while (at < offset + length) {
      const here = Math.floor(at / BLOCK_BYTES);
      if (here !== block) {
        if (position > start) yield { block, position: start, length: position - start };
        block = here;
        start = position;
      }
      const until = Math.min(offset + length, (here + 1) * BLOCK_BYTES);
      position += until - at;
      at = until;
    }
  }
  if (position > start) yield { block, position: start, length: position - start };
}

/** The same map in other clusters: a reader may cut finer than the layer is. Null where it does not fit. */
function inClustersOf(map: ExtentMap, clusterSizeBytes: number): ExtentMap | null {
  if (map.clusterSizeBytes === clusterSizeBytes) return map;
  try {
    const builder = new ExtentMapBuilder({ virtualSizeBytes: map.virtualSizeBytes, clusterSizeBytes });
    for (const { kind, length } of map) builder.add(kind, length);
    return builder.build();
  } catch (error) {
    if (error instanceof ExtentMapError) return null;
    throw error;
  }
}

function ownLayoutReader(file: FileHandle, map: ExtentMap): ReadStream {
  // The base's name does not move the data: the header has a cluster of its own.
  const { dataStart } = computeLayout(map, null);
  return async (target, position) => {
    if ((await readFully(file, target, dataStart + position)) < target.length) {
      throw new RangeError('the file is too short');
    }
  };
}

/** A block that the storage no longer gives counts as damaged, and the rest is still checked. */
async function isReadable(readStream: ReadStream, target: Buffer, position: number): Promise<boolean> {
  try {
    await readStream(target, position);
    return true;
  } catch {
    return false;
  }
}

function xxh128(bytes: Uint8Array): Buffer {
  const hasher = createXxh128();
  hasher.update(bytes);
  return Buffer.from(hasher.digest());
}
