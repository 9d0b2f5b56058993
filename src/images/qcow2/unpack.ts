/** Unpacks compressed clusters. */
import { promisify } from 'node:util';
import { inflateRaw, zstdDecompress } from 'node:zlib';

const inflate = promisify<Buffer, object, Buffer>(inflateRaw);
const unzstd = promisify<Buffer, object, Buffer>(zstdDecompress);

const ZSTD_MAGIC = 0xfd2fb528;
const RLE_BLOCK = 1;
/** QEMU writes one frame a cluster and reads any number; a bound keeps tiny frames from costing hours. */
const MAX_ZSTD_FRAMES = 64;

/**
 * @param packed the cluster's sectors; bytes after the compressed data are ignored
 * @returns exactly `clusterSizeBytes` bytes
 * @throws {Error} when the data is broken, or unpacks to another length (a bomb is stopped there)
 */
export async function unpackCluster(
  packed: Buffer,
  compression: 'zlib' | 'zstd',
  clusterSizeBytes: number,
): Promise<Buffer> {
  const limit = { maxOutputLength: clusterSizeBytes };
  const unpacked =
    compression === 'zlib' ? await inflate(packed, limit) : await unpackZstd(packed, clusterSizeBytes);
  if (unpacked.length !== clusterSizeBytes) throw new Error(`it unpacks to ${unpacked.length} bytes`);
  return unpacked;
}

/**
 * Takes frame after frame until the cluster is full. Node's decoder refuses what follows a frame (here the
 * padding up to the sector), so each frame's end is found first.
 */
async function unpackZstd(packed: Buffer, clusterSizeBytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let unpackedBytes = 0;
  let at = 0;
  while (unpackedBytes < clusterSizeBytes) {
    if (parts.length === MAX_ZSTD_FRAMES) throw new Error(`more than ${MAX_ZSTD_FRAMES} zstd frames`);
    const end = zstdFrameEnd(packed, at);
    const part = await unzstd(packed.subarray(at, end), {
      maxOutputLength: clusterSizeBytes - unpackedBytes,
    });
    parts.push(part);
    unpackedBytes += part.length;
    at = end;
  }
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
}

/**
 * Where the zstd frame that begins at `start` ends, found from its block headers alone.
 * @see RFC 8878, section 3.1.1
 */
export function zstdFrameEnd(bytes: Buffer, start: number): number {
  const need = (at: number, length: number): void => {
    if (at + length > bytes.length) throw new Error('a zstd frame without an end');
  };
  need(start, 5);
  if (bytes.readUInt32LE(start) !== ZSTD_MAGIC) throw new Error('no zstd frame');
  const descriptor = bytes[start + 4] ?? 0;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const hasChecksum = (descriptor & 0x04) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  let at = start + 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes + contentSizeBytes;
  for (;;) {
    need(at, 3);
    const header = bytes.readUIntLE(at, 3);
    const type = (header >> 1) & 3;
    if (type > 2) throw new Error('a zstd block of no known type');
    const sizeBytes = header >> 3;
    at += 3 + (type === RLE_BLOCK ? 1 : sizeBytes);
    need(at, 0);
    if ((header & 1) === 1) break;
  }
  const end = at + (hasChecksum ? 4 : 0);
  need(end, 0);
  return end;
}
