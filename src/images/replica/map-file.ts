/** The map file: a layer's extent map and base, durable before any data. docs/formats/replica-files.md. */
import { ExtentMap, MAX_ENCODED_BYTES } from '../../domain/extent-map.ts';
import type { BackingFile } from '../qcow2/layout.ts';
import { readOrNull, statOrNull, storeFile, syncDirectory } from './durable-files.ts';
import { ReplicaFileError } from './errors.ts';
import { type LayerPaths, layerPaths } from './names.ts';
import { CHECKSUM_BYTES, isSealed, seal } from './record.ts';

const MAGIC = 'OFFSMAP\0';
const VERSION = 1;
const HEADER_BYTES = 32;
const MAX_NAME_BYTES = 1023;
const FORMATS = [null, 'qcow2', 'raw'] as const;

/** A layer's layout, as stored. */
export interface StoredLayout {
  readonly map: ExtentMap;
  readonly backing: BackingFile | null;
}

/** @returns the stored map, or null when there is none or it is torn or damaged: then it is to be sent again */
export async function readStoredMap(directory: string, finalName: string): Promise<ExtentMap | null> {
  return (await readMapFile(layerPaths(directory, finalName).map))?.map ?? null;
}

/** @returns null when the file is missing, torn or damaged */
export async function readMapFile(path: string): Promise<StoredLayout | null> {
  const stats = await statOrNull(path);
  if (stats === null || stats.size > HEADER_BYTES + MAX_NAME_BYTES + MAX_ENCODED_BYTES + CHECKSUM_BYTES) {
    return null;
  }
  const bytes = await readOrNull(path);
  return bytes === null ? null : decodeMapFile(bytes);
}

/**
 * Stores the layout; file and directory are fsynced. What stands there already is written again: an attempt that died
 * between the write and its fsync may have left it.
 * @throws {ReplicaFileError} when another layout stands there: that one's file is never opened
 */
export async function storeMapFile(paths: LayerPaths, layout: StoredLayout): Promise<void> {
  const bytes = encodeMapFile(layout);
  const stored = await readOrNull(paths.map);
  if (stored !== null && !stored.equals(bytes) && decodeMapFile(stored) !== null) {
    throw new ReplicaFileError(paths.map, 'this name belongs to another layout');
  }
  await storeFile(paths.map, bytes, 'replica.map');
  await syncDirectory(paths.directory, 'replica.map.syncDirectory');
}

/** @see docs/formats/replica-files.md */
export function encodeMapFile({ map, backing }: StoredLayout): Buffer {
  const name = Buffer.from(backing?.name ?? '');
  const bytes = Buffer.alloc(HEADER_BYTES + name.length + map.encoded.length + CHECKSUM_BYTES);
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeUInt32LE(map.clusterSizeBytes, 12);
  bytes.writeBigUInt64LE(BigInt(map.virtualSizeBytes), 16);
  bytes.writeUInt32LE(map.encoded.length, 24);
  bytes.writeUInt16LE(name.length, 28);
  bytes.writeUInt8(FORMATS.indexOf(backing?.format ?? null), 30);
  name.copy(bytes, HEADER_BYTES);
  bytes.set(map.encoded, HEADER_BYTES + name.length);
  return seal(bytes);
}

/** @returns null unless the bytes are one whole map file of this version */
export function decodeMapFile(bytes: Buffer): StoredLayout | null {
  if (bytes.length < HEADER_BYTES + CHECKSUM_BYTES || bytes.toString('latin1', 0, 8) !== MAGIC) return null;
  if (bytes.readUInt32LE(8) !== VERSION || !isSealed(bytes)) return null;
  const encodedBytes = bytes.readUInt32LE(24);
  const nameBytes = bytes.readUInt16LE(28);
  const format = FORMATS[bytes.readUInt8(30)];
  if (format === undefined || (format === null) !== (nameBytes === 0)) return null;
  if (bytes.length !== HEADER_BYTES + nameBytes + encodedBytes + CHECKSUM_BYTES) return null;
  const mapStart = HEADER_BYTES + nameBytes;
  const shape = {
    virtualSizeBytes: Number(bytes.readBigUInt64LE(16)),
    clusterSizeBytes: bytes.readUInt32LE(12),
  };
  try {
    const map = ExtentMap.decode(shape, new Uint8Array(bytes.subarray(mapStart, mapStart + encodedBytes)));
    const name = bytes.toString('utf8', HEADER_BYTES, mapStart);
    return { map, backing: format === null ? null : { name, format } };
  } catch {
    return null;
  }
}
