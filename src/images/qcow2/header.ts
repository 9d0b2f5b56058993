/**
 * Parses the header of a qcow2 image, version 2 or 3.
 * @see QEMU docs/interop/qcow2, "Header", "Header extensions"
 */
import { ImageCorruptError, ImageUnsupportedError } from '../errors.ts';

export interface Qcow2Header {
  readonly version: 2 | 3;
  /** 512 to 2 MiB. */
  readonly clusterSizeBytes: number;
  /** Whole sectors, as QEMU shows the disk. */
  readonly virtualSizeBytes: number;
  readonly l1Offset: number;
  /** Entries that the virtual disk uses; the table may go on with an internal snapshot's machine state. */
  readonly l1Entries: number;
  readonly backingName: string | null;
  readonly backingFormat: string | null;
  readonly extendedL2: boolean;
  readonly compression: 'zlib' | 'zstd';
  readonly internalSnapshots: number;
}

const MAGIC = 0x514649fb;
const V2_HEADER_BYTES = 72;
const V3_HEADER_BYTES = 104;
const MIN_CLUSTER_BITS = 9;
const MAX_CLUSTER_BITS = 21;
const MIN_EXTENDED_CLUSTER_BITS = 14;
const MAX_L1_BYTES = 32 * 1024 * 1024;
const MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024;
const MAX_BACKING_NAME_BYTES = 1023;
const MAX_BACKING_FORMAT_BYTES = 15;
const MAX_SNAPSHOTS = 65_536;
const SECTOR_BYTES = 512;

const INCOMPATIBLE = { dirty: 0, corrupt: 1, dataFile: 2, compression: 3, extendedL2: 4 } as const;
const EXTENSION = { end: 0, backingFormat: 0xe2792aca, featureNames: 0x6803f857 } as const;

/** The bytes that {@link parseQcow2Header} wants to see, at most: the largest first cluster. */
export const MAX_HEADER_BYTES = 2 ** MAX_CLUSTER_BITS;

/** @returns null unless the bytes begin as a qcow2 image does; else the size of its first cluster */
export function peekClusterSize(path: string, start: Buffer): number | null {
  if (start.length < 24 || start.readUInt32BE(0) !== MAGIC) return null;
  const version = start.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    throw new ImageUnsupportedError(path, `qcow2 version ${version} is not read, only 2 and 3`);
  }
  const clusterBits = start.readUInt32BE(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw new ImageCorruptError(path, `the header's cluster_bits is ${clusterBits}, not 9 to 21`);
  }
  return 2 ** clusterBits;
}

/**
 * @param bytes the file's first cluster, or the whole file if that is shorter
 * @param fileSizeBytes every offset is checked against it
 * @throws {ImageCorruptError} when a field contradicts the format or the file
 * @throws {ImageUnsupportedError} for a feature that is not read, by its name
 */
export function parseQcow2Header(path: string, bytes: Buffer, fileSizeBytes: number): Qcow2Header {
  const corrupt = (fault: string): ImageCorruptError => new ImageCorruptError(path, fault);
  const clusterSizeBytes = peekClusterSize(path, bytes);
  if (clusterSizeBytes === null) throw new ImageUnsupportedError(path, 'is not a qcow2 image');
  const version = bytes.readUInt32BE(4) as 2 | 3;
  const headerBytes = headerLength(path, bytes, version, clusterSizeBytes);
  const extensions = parseExtensions(path, bytes, headerBytes, clusterSizeBytes);
  const features = checkFeatures(path, bytes, version, clusterSizeBytes, extensions.featureNames);
  const cryptMethod = bytes.readUInt32BE(32);
  if (cryptMethod !== 0) {
    throw new ImageUnsupportedError(path, `is encrypted (method ${cryptMethod}), which is not read`);
  }
  checkRefcountTable(path, bytes, version, clusterSizeBytes, fileSizeBytes);

  const sizeBytes = bytes.readBigUInt64BE(24);
  if (sizeBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw corrupt(`a disk of ${sizeBytes} bytes`);
  const l2Entries = clusterSizeBytes / (features.extendedL2 ? 16 : 8);
  const l1Entries = Math.ceil(Number(sizeBytes) / (l2Entries * clusterSizeBytes));
  const l1Size = bytes.readUInt32BE(36);
  if (l1Size * 8 > MAX_L1_BYTES) throw corrupt(`the L1 table has ${l1Size} entries, more than 32 MiB`);
  if (l1Size < l1Entries) {
    throw corrupt(`the L1 table has ${l1Size} entries, too few for a disk of ${sizeBytes} bytes`);
  }
  const l1Offset = checkOffset(path, bytes, 40, 'L1 table', clusterSizeBytes);
  if (l1Entries > 0 && (l1Offset === 0 || l1Offset + l1Size * 8 > fileSizeBytes)) {
    throw corrupt('the L1 table lies outside the file');
  }
  return {
    version,
    clusterSizeBytes,
    virtualSizeBytes: Math.floor(Number(sizeBytes) / SECTOR_BYTES) * SECTOR_BYTES,
    l1Offset,
    l1Entries,
    backingName: parseBackingName(path, bytes, clusterSizeBytes),
    backingFormat: extensions.backingFormat,
    ...features,
    compression: compressionOf(path, bytes, version, headerBytes),
    internalSnapshots: checkSnapshots(path, bytes, clusterSizeBytes, fileSizeBytes),
  };
}

function headerLength(path: string, bytes: Buffer, version: 2 | 3, clusterSizeBytes: number): number {
  if (bytes.length < (version === 2 ? V2_HEADER_BYTES : V3_HEADER_BYTES)) {
    throw new ImageCorruptError(path, 'the file ends inside the header');
  }
  if (version === 2) return V2_HEADER_BYTES;
  const length = bytes.readUInt32BE(100);
  if (length < V3_HEADER_BYTES || length > clusterSizeBytes || length > bytes.length) {
    throw new ImageCorruptError(path, `a header of ${length} bytes`);
  }
  return length;
}

function checkOffset(path: string, bytes: Buffer, at: number, what: string, alignment: number): number {
  const offset = bytes.readBigUInt64BE(at);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER) || offset % BigInt(alignment) !== 0n) {
    throw new ImageCorruptError(path, `the ${what} at ${offset} is not on a cluster boundary of the file`);
  }
  return Number(offset);
}

interface Extensions {
  readonly backingFormat: string | null;
  /** Names of incompatible features, by bit. */
  readonly featureNames: ReadonlyMap<number, string>;
}

function parseExtensions(path: string, bytes: Buffer, start: number, clusterSizeBytes: number): Extensions {
  const nameOffset = bytes.readBigUInt64BE(8);
  const limit = Math.min(clusterSizeBytes, bytes.length);
  const end = nameOffset > 0n && nameOffset < BigInt(limit) ? Number(nameOffset) : limit;
  const featureNames = new Map<number, string>();
  let backingFormat: string | null = null;
  let at = start;
  while (at + 8 <= end) {
    const type = bytes.readUInt32BE(at);
    const length = bytes.readUInt32BE(at + 4);
    at += 8;
    if (type === EXTENSION.end) break;
    if (length > end - at) {
      throw new ImageCorruptError(
        path,
        `header extension 0x${type.toString(16)} of ${length} bytes overruns`,
      );
    }
    const body = bytes.subarray(at, at + length);
    if (type === EXTENSION.backingFormat) {
      if (length > MAX_BACKING_FORMAT_BYTES) {
        throw new ImageCorruptError(path, `a backing format name of ${length} bytes`);
      }
      backingFormat = body.toString('latin1');
    }
    if (type === EXTENSION.featureNames) readFeatureNames(body, featureNames);
    at += Math.ceil(length / 8) * 8;
  }
  return { backingFormat, featureNames };
}

function readFeatureNames(table: Buffer, names: Map<number, string>): void {
  for (let at = 0; at + 48 <= table.length; at += 48) {
    const isIncompatible = table[at] === 0;
    const name = table.toString('latin1', at + 2, at + 48).replace(/[^\x20-\x7e].*$/s, '');
    if (isIncompatible) names.set(table[at + 1] ?? 0, name);
  }
}

function checkFeatures(
  path: string,
  bytes: Buffer,
  version: 2 | 3,
  clusterSizeBytes: number,
  names: ReadonlyMap<number, string>,
): { extendedL2: boolean } {
  if (version === 2) return { extendedL2: false };
  const bits = bytes.readBigUInt64BE(72);
  const isSet = (bit: number): boolean => ((bits >> BigInt(bit)) & 1n) === 1n;
  if (isSet(INCOMPATIBLE.corrupt)) {
    throw new ImageCorruptError(path, 'QEMU marked the image as corrupt (the corrupt bit is set)');
  }
  if (isSet(INCOMPATIBLE.dataFile)) {
    throw new ImageUnsupportedError(path, 'keeps its data in an external data file, which is not read');
  }
  const known: readonly number[] = Object.values(INCOMPATIBLE);
  for (let bit = 0; bit < 64; bit += 1) {
    if (!isSet(bit) || known.includes(bit)) continue;
    const name = names.get(bit);
    const called = name ? ` (${JSON.stringify(name)})` : '';
    throw new ImageUnsupportedError(path, `needs the unknown incompatible feature ${bit}${called}`);
  }
  const extendedL2 = isSet(INCOMPATIBLE.extendedL2);
  if (extendedL2 && clusterSizeBytes < 2 ** MIN_EXTENDED_CLUSTER_BITS) {
    throw new ImageCorruptError(path, `extended L2 entries with clusters of ${clusterSizeBytes} bytes`);
  }
  return { extendedL2 };
}

function compressionOf(path: string, bytes: Buffer, version: 2 | 3, headerBytes: number): 'zlib' | 'zstd' {
  if (version === 2) return 'zlib';
  const type = headerBytes > V3_HEADER_BYTES ? (bytes[V3_HEADER_BYTES] ?? 0) : 0;
  const bit = (bytes.readBigUInt64BE(72) >> BigInt(INCOMPATIBLE.compression)) & 1n;
  if ((bit === 1n) !== (type !== 0)) {
    throw new ImageCorruptError(path, 'the compression type and its feature bit contradict each other');
  }
  if (type > 1) throw new ImageUnsupportedError(path, `compression type ${type} is not read`);
  return type === 1 ? 'zstd' : 'zlib';
}

function checkRefcountTable(
  path: string,
  bytes: Buffer,
  version: 2 | 3,
  clusterSizeBytes: number,
  fileSizeBytes: number,
): void {
  const offset = checkOffset(path, bytes, 48, 'refcount table', clusterSizeBytes);
  const sizeBytes = bytes.readUInt32BE(56) * clusterSizeBytes;
  if (sizeBytes === 0 || sizeBytes > Math.max(MAX_REFCOUNT_TABLE_BYTES, clusterSizeBytes)) {
    throw new ImageCorruptError(path, `a refcount table of ${sizeBytes} bytes`);
  }
  if (offset === 0 || offset >= fileSizeBytes) {
    throw new ImageCorruptError(path, 'the refcount table lies outside the file');
  }
  const order = version === 2 ? 4 : bytes.readUInt32BE(96);
  if (order > 6) throw new ImageCorruptError(path, `refcounts of 2^${order} bits`);
}

function checkSnapshots(
  path: string,
  bytes: Buffer,
  clusterSizeBytes: number,
  fileSizeBytes: number,
): number {
  const count = bytes.readUInt32BE(60);
  if (count === 0) return 0;
  const offset = checkOffset(path, bytes, 64, 'snapshot table', clusterSizeBytes);
  if (count > MAX_SNAPSHOTS || offset === 0 || offset >= fileSizeBytes) {
    throw new ImageCorruptError(path, `a table of ${count} internal snapshots at ${offset}`);
  }
  return count;
}

function parseBackingName(path: string, bytes: Buffer, clusterSizeBytes: number): string | null {
  const offset = bytes.readBigUInt64BE(8);
  if (offset === 0n) return null;
  const length = bytes.readUInt32BE(16);
  const limit = Math.min(clusterSizeBytes, bytes.length);
  if (length > MAX_BACKING_NAME_BYTES || offset + BigInt(length) > BigInt(limit)) {
    throw new ImageCorruptError(path, `a backing file name of ${length} bytes at ${offset}`);
  }
  if (length === 0) return null;
  const raw = bytes.subarray(Number(offset), Number(offset) + length);
  const name = raw.toString('utf8');
  if (name.includes('\0') || !Buffer.from(name, 'utf8').equals(raw)) {
    throw new ImageCorruptError(path, 'the backing file name is not text');
  }
  return name;
}
