/** The SHA-256 of a disk's whole guest content: what a replica is verified against. */
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ImageChain } from './chain.ts';

const CHUNK_BYTES = 1024 * 1024;
const ZEROS = Buffer.alloc(CHUNK_BYTES);

/**
 * Hashes every guest byte; holes and zeros are hashed without being read.
 * @returns hexadecimal; equal to that of `qemu-img convert -O raw`
 * @throws {ImageError} @throws the signal's reason when it is aborted
 */
export async function hashContent(chain: ImageChain, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const walker = chain.walk();
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let offset = 0; offset < chain.virtualSizeBytes; ) {
    const { run } = await walker.locate(offset, chain.virtualSizeBytes - offset);
    const isData = run.kind === 'data';
    for (let done = 0; done < run.length; done += CHUNK_BYTES) {
      signal?.throwIfAborted();
      const length = Math.min(CHUNK_BYTES, run.length - done);
      const part = (isData ? buffer : ZEROS).subarray(0, length);
      if (isData) await chain.read(part, offset + done);
      else if (done % (16 * CHUNK_BYTES) === 0) await nextTurn();
      hash.update(part);
    }
    offset += run.length;
  }
  return hash.digest('hex');
}
