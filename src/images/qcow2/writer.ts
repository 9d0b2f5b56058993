/** Writes a whole qcow2 file in the layout of layout.ts into an open file. */
import type { FileHandle } from 'node:fs/promises';
import { effect, type FaultPoint } from '../../lib/fault-points.ts';
import { writeFully } from '../replica/durable-files.ts';
import { metadataChunks, type Qcow2Layout } from './layout.ts';

/** Fills `target` with the bytes of a layer's data stream from `position` on. */
export type ReadStream = (target: Buffer, position: number) => Promise<void>;

const PIECE_BYTES = 1024 * 1024;

/** Writes all metadata; doing so again writes equal bytes. @returns the bytes written, `dataStart` */
export async function writeMetadata(
  point: FaultPoint,
  file: FileHandle,
  layout: Qcow2Layout,
): Promise<number> {
  let at = 0;
  for (const chunk of metadataChunks(layout)) {
    await writeFully(point, file, chunk, at);
    at += chunk.length;
  }
  return at;
}

/** Writes metadata, all data and the padding. Nothing is synced. */
export async function writeQcow2(
  file: FileHandle,
  layout: Qcow2Layout,
  readStream: ReadStream,
  metadataPoint: FaultPoint,
): Promise<void> {
  await writeMetadata(metadataPoint, file, layout);
  await copyStream(readStream, layout.map.dataBytes, (bytes, position) =>
    writeFully('restore.writeData', file, bytes, layout.dataStart + position),
  );
  await effect('restore.truncateImage', () => file.truncate(layout.fileSizeBytes));
}

/** Reads a data stream in pieces of at most 1 MiB; each is valid until `take` has resolved. */
export async function copyStream(
  readStream: ReadStream,
  dataBytes: number,
  take: (bytes: Buffer, position: number) => Promise<void>,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, dataBytes));
  for (let position = 0; position < dataBytes; position += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, dataBytes - position));
    await readStream(piece, position);
    await take(piece, position);
  }
}
