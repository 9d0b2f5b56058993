/** The digest file beside a sealed layer: what its content was when both sites agreed. docs/formats/replica-files.md. */
import { BLOCK_BYTES, BLOCK_ENTRY_BYTES, type BlockDigest } from '../../domain/content-digest.ts';
import { checkShape, type MapShape } from '../../domain/extent-map.ts';
import { openOrNull, readFully, readOrNull, statOrNull, storeFile } from './durable-files.ts';
import { ReplicaFileError } from './errors.ts';
import { CHECKSUM_BYTES, isSealed, seal } from './record.ts';

const MAGIC = 'OFFSDIG\0';
const VERSION = 1;
const HEADER_BYTES = 80;
/** Bounds what a hostile file can cost: 1 GiB, enough for 44 TiB of data in one layer. */
const MAX_DIGEST_FILE_BYTES = 1024 * 1024 * 1024;
const MISSING = 'the digest file is missing';

/** What a digest file says of a layer, beside its blocks. */
export interface LayerDigestsHead extends MapShape {
  /** The length of the layer's data stream. */
  readonly dataBytes: number;
  /** 16 bytes each. */
  readonly mapDigest: Uint8Array;
  readonly contentDigest: Uint8Array;
}

/** A digest file, checked. Blocks stay in their encoded form: a large layer has millions. */
export interface LayerDigests extends LayerDigestsHead {
  readonly blockCount: number;
  /** In rising order of blocks. */
  blocks(): Iterable<BlockDigest>;
  /** @throws {RangeError} beyond {@link blockCount} */
  entry(index: number): BlockDigest;
  /** {@link BLOCK_ENTRY_BYTES} for each block. */
  readonly entries: Uint8Array;
}

/**
 * Writes the file in place and fsyncs it; the directory is the caller's to sync.
 * @param entries {@link BLOCK_ENTRY_BYTES} for each block, in rising order
 */
export async function storeDigestFile(
  path: string,
  head: LayerDigestsHead,
  entries: Uint8Array,
): Promise<void> {
  await storeFile(path, encodeDigestFile(head, entries), 'replica.digests');
}

/** @see docs/formats/replica-files.md */
export function encodeDigestFile(head: LayerDigestsHead, entries: Uint8Array): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + entries.length + CHECKSUM_BYTES);
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeUInt32LE(head.clusterSizeBytes, 12);
  bytes.writeBigUInt64LE(BigInt(head.virtualSizeBytes), 16);
  bytes.writeBigUInt64LE(BigInt(head.dataBytes), 24);
  bytes.set(head.mapDigest, 32);
  bytes.set(head.contentDigest, 48);
  bytes.writeBigUInt64LE(BigInt(entries.length / BLOCK_ENTRY_BYTES), 64);
  bytes.set(entries, HEADER_BYTES);
  return seal(bytes);
}

/**
 * Reads and checks a digest file.
 * @throws {ReplicaFileError} when it is missing, torn, damaged, too large, or contradicts itself
 */
export async function readDigestFile(path: string): Promise<LayerDigests> {
  const stats = await statOrNull(path);
  if (stats !== null && stats.size > MAX_DIGEST_FILE_BYTES) {
    throw new ReplicaFileError(path, `the digest file has ${stats.size} bytes, which is too large`);
  }
  const bytes = await readOrNull(path);
  if (bytes === null) throw new ReplicaFileError(path, MISSING);
  return decodeDigestFile(path, bytes);
}

/**
 * Reads what a digest file says of its layer, and not its blocks: cheap, whatever the layer's size. Without the
 * blocks the checksum cannot be compared.
 * @throws {ReplicaFileError} when it is missing, no digest file, or cut
 */
export async function readDigestHead(path: string): Promise<LayerDigestsHead> {
  const file = await openOrNull(path, 'r');
  if (file === null) throw new ReplicaFileError(path, MISSING);
  try {
    const head = Buffer.alloc(HEADER_BYTES);
    const readBytes = await readFully(file, head, 0);
    const { size } = await file.stat();
    return decodeHead(path, head.subarray(0, readBytes), size);
  } finally {
    await file.close();
  }
}

/** @throws {ReplicaFileError} naming `path` */
export function decodeDigestFile(path: string, bytes: Buffer): LayerDigests {
  const head = decodeHead(path, bytes, bytes.length);
  if (!isSealed(bytes)) throw new ReplicaFileError(path, 'the digest file is torn or damaged');
  const { blockCount, virtualSizeBytes } = head;
  checkBlocks(path, bytes, blockCount, Math.ceil(virtualSizeBytes / BLOCK_BYTES));
  return {
    ...head,
    blocks: () => decodeBlocks(bytes, blockCount),
    entry: index => decodeEntry(bytes, index),
    entries: bytes.subarray(HEADER_BYTES, HEADER_BYTES + blockCount * BLOCK_ENTRY_BYTES),
  };
}

function decodeHead(
  path: string,
  bytes: Buffer,
  fileSizeBytes: number,
): LayerDigestsHead & { readonly blockCount: number } {
  const isWhole = bytes.length >= HEADER_BYTES && fileSizeBytes >= HEADER_BYTES + CHECKSUM_BYTES;
  if (!isWhole || bytes.toString('latin1', 0, 8) !== MAGIC) {
    throw new ReplicaFileError(path, 'not a digest file');
  }
  const version = bytes.readUInt32LE(8);
  if (version !== VERSION) throw new ReplicaFileError(path, `digest file of unknown version ${version}`);
  const blockCount = Number(bytes.readBigUInt64LE(64));
  if (fileSizeBytes !== HEADER_BYTES + blockCount * BLOCK_ENTRY_BYTES + CHECKSUM_BYTES) {
    throw new ReplicaFileError(path, `the digest file does not hold its ${blockCount} blocks`);
  }
  return {
    ...decodeSizes(path, bytes),
    mapDigest: bytes.subarray(32, 48),
    contentDigest: bytes.subarray(48, 64),
    blockCount,
  };
}

/** Numbers that no layer can have are not handed on, whatever the checksum says. */
function decodeSizes(path: string, bytes: Buffer): MapShape & { readonly dataBytes: number } {
  const shape = {
    clusterSizeBytes: bytes.readUInt32LE(12),
    virtualSizeBytes: Number(bytes.readBigUInt64LE(16)),
  };
  const dataBytes = Number(bytes.readBigUInt64LE(24));
  try {
    checkShape(shape);
  } catch (error) {
    throw new ReplicaFileError(path, `the digest file is of no disk: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (dataBytes > shape.virtualSizeBytes) {
    throw new ReplicaFileError(
      path,
      `the digest file tells of ${dataBytes} data bytes, more than the disk has`,
    );
  }
  return { ...shape, dataBytes };
}

function checkBlocks(path: string, bytes: Buffer, blockCount: number, blockLimit: number): void {
  let last = -1;
  for (const { block } of decodeBlocks(bytes, blockCount)) {
    if (block <= last || block >= blockLimit) {
      throw new ReplicaFileError(
        path,
        `the digest file names block ${block} out of order or beyond the disk`,
      );
    }
    last = block;
  }
}

function* decodeBlocks(bytes: Buffer, blockCount: number): Generator<BlockDigest, undefined> {
  for (let index = 0; index < blockCount; index += 1) yield decodeEntry(bytes, index);
}

function decodeEntry(bytes: Buffer, index: number): BlockDigest {
  const at = HEADER_BYTES + index * BLOCK_ENTRY_BYTES;
  return {
    block: Number(bytes.readBigUInt64LE(at)),
    digest: bytes.subarray(at + 8, at + BLOCK_ENTRY_BYTES),
  };
}
