/** The digest of a chain's whole content as its guest sees it. */
import { GuestDigester } from '../domain/guest-digest.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import type { ImageChain } from './chain.ts';

const PIECE_BYTES = 1024 * 1024;

/**
 * Reads all data; holes and zeros are not read.
 * @returns hexadecimal @throws {ImageError} @throws the signal's reason when it is aborted
 */
export async function guestDigestOf(chain: ImageChain, signal?: AbortSignal): Promise<string> {
  const digester = new GuestDigester(chain.virtualSizeBytes, createXxh128);
  const walker = chain.walk();
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  for (let offset = 0; offset < chain.virtualSizeBytes; ) {
    const { run } = await walker.locate(offset, chain.virtualSizeBytes - offset);
    if (run.kind !== 'data') digester.zeros(run.length);
    for (let done = 0; run.kind === 'data' && done < run.length; done += PIECE_BYTES) {
      signal?.throwIfAborted();
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, run.length - done));
      await chain.read(piece, offset + done);
      digester.update(piece);
    }
    offset += run.length;
  }
  return toHex(digester.finish());
}
