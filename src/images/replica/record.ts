/** What the small files beside a replica have in common: a magic, and a checksum at their end. */
import { createXxh128 } from '../../lib/digest.ts';

export const CHECKSUM_BYTES = 16;

/** Puts xxh3-128 of all before it into the last 16 bytes of `bytes`. */
export function seal(bytes: Buffer): Buffer {
  checksum(bytes).copy(bytes, bytes.length - CHECKSUM_BYTES);
  return bytes;
}

/** True when the checksum at the end is that of all before it. */
export function isSealed(bytes: Buffer): boolean {
  return (
    bytes.length >= CHECKSUM_BYTES && checksum(bytes).equals(bytes.subarray(bytes.length - CHECKSUM_BYTES))
  );
}

function checksum(bytes: Buffer): Buffer {
  const hasher = createXxh128();
  hasher.update(bytes.subarray(0, bytes.length - CHECKSUM_BYTES));
  return Buffer.from(hasher.digest());
}
