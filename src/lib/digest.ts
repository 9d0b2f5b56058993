/** The hashes that Offsite uses, behind one shape. */
import { createRequire } from 'node:module';

// The addon's CommonJS build has no ESM types that nodenext accepts.
const { XXHash128, XXHash3 } = createRequire(import.meta.url)(
  'xxhash-addon',
) as typeof import('xxhash-addon');

const { blake3: blake3Of } = createRequire(import.meta.url)(
  '@napi-rs/blake-hash',
) as typeof import('@napi-rs/blake-hash');

const SEED = Buffer.alloc(4);

/** The bytes of a {@link blake3}. */
export const BLAKE3_BYTES = 32;

/** BLAKE3, 32 bytes: where equality alone decides that bytes are not sent. docs/decisions/0019 says why. */
export const blake3 = (bytes: Uint8Array): Buffer => blake3Of(asBuffer(bytes));

/** A streaming xxh3-128. @see https://github.com/Cyan4973/xxHash (XXH3, 128 bits, seed 0, big-endian) */
export function createXxh128(): { update(bytes: Uint8Array): void; digest(): Uint8Array } {
  const hash = new XXHash128(SEED);
  return {
    update: bytes => hash.update(asBuffer(bytes)),
    digest: () => hash.digest(),
  };
}

/** xxh3-64 with seed 0, big-endian: for checksums of many small pieces. */
export const xxh3Of = (bytes: Buffer): Buffer => XXHash3.hash(bytes);

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The same bytes, which the addons take as a Buffer only. */
const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
