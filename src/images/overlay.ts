/** New images for the operator: thin overlays over a replica, and full copies. Nothing is ever overwritten. */
import { randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';
import { type FileHandle, link, open, rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type ExtentMap, ExtentMapBuilder, type MapShape } from '../domain/extent-map.ts';
import { effect, effectSync } from '../lib/fault-points.ts';
import { type BackingFile, computeLayout } from './qcow2/layout.ts';
import { copyStream, type ReadStream, writeMetadata, writeQcow2 } from './qcow2/writer.ts';
import {
  assertRoom,
  errorCode,
  namingFullDisk,
  removeFile,
  statOrNull,
  syncDirectory,
  writeFully,
} from './replica/durable-files.ts';
import { FileExistsError } from './replica/errors.ts';

const METADATA = 'restore.metadata';
const GATHER_BYTES = 1024 * 1024;

export interface OverlayInput extends MapShape {
  /** The new file; its directory must exist. */
  readonly path: string;
  /** Absolute, or relative to the new file's directory. */
  readonly backingPath: string;
  readonly backingFormat: 'qcow2' | 'raw';
}

/**
 * Makes an empty writable overlay: it reads as its backing file, which QEMU never changes through it.
 * @throws {FileExistsError} @throws {LayoutError} for a size or name that qcow2 cannot hold @throws {DiskFullError}
 */
export async function createOverlay(input: OverlayInput): Promise<void> {
  const { path, backingPath, backingFormat, virtualSizeBytes, clusterSizeBytes } = input;
  const builder = new ExtentMapBuilder({ virtualSizeBytes, clusterSizeBytes });
  builder.add('hole', virtualSizeBytes);
  const layout = computeLayout(builder.build(), { name: backingPath, format: backingFormat });
  await createWhole(path, layout.fileSizeBytes, async file => {
    await writeMetadata(METADATA, file, layout);
    await effect('restore.truncateOverlay', () => file.truncate(layout.fileSizeBytes));
  });
}

export interface WriteImageInput {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  /** What is not data reads as zero in a raw image; in qcow2 holes show the backing file. */
  readonly map: ExtentMap;
  readonly readStream: ReadStream;
  /** For qcow2 only. */
  readonly backing?: BackingFile;
}

/**
 * Writes a whole image, fsynced: raw and sparse, or qcow2 in the layout of the replicas. The name appears
 * when all is there.
 * @throws {FileExistsError} @throws {LayoutError} @throws {DiskFullError}
 */
export async function writeImage(input: WriteImageInput): Promise<void> {
  const { path, format, map, readStream } = input;
  if (format === 'qcow2') {
    const layout = computeLayout(map, input.backing ?? null);
    await createWhole(path, layout.fileSizeBytes, file => writeQcow2(file, layout, readStream, METADATA));
  } else {
    await createWhole(path, map.dataBytes, file => writeRaw(file, map, readStream));
  }
}

/**
 * Writes a qcow2 image whose data comes in any order, fsynced; the name appears when all is there.
 * @param write puts bytes at positions of the data stream, each byte once; what it gives is used before `put` resolves
 * @throws {FileExistsError} @throws {LayoutError} @throws {DiskFullError}
 */
export async function writeImageInAnyOrder(
  { path, map, backing }: { readonly path: string; readonly map: ExtentMap; readonly backing: BackingFile },
  write: (put: (bytes: Buffer, position: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  const layout = computeLayout(map, backing);
  await createWhole(path, layout.fileSizeBytes, async file => {
    await writeMetadata(METADATA, file, layout);
    const pieces = new PieceWriter(file, layout.dataStart);
    await write(async (bytes, position) => pieces.put(bytes, position));
    pieces.flush();
    await effect('restore.truncatePieces', () => file.truncate(layout.fileSizeBytes));
  });
}

/** Gathers pieces that follow each other into one write. */
class PieceWriter {
  readonly #file: FileHandle;
  readonly #dataStart: number;
  readonly #buffer = Buffer.allocUnsafe(GATHER_BYTES);
  #position = 0;
  #length = 0;

  constructor(file: FileHandle, dataStart: number) {
    this.#file = file;
    this.#dataStart = dataStart;
  }

  put(bytes: Buffer, position: number): void {
    const follows = position === this.#position + this.#length;
    if (!follows || this.#length + bytes.length > GATHER_BYTES) {
      this.flush();
      this.#position = position;
    }
    bytes.copy(this.#buffer, this.#length);
    this.#length += bytes.length;
  }

  /** Half a million small writes in any order: handing each to another thread would cost more than writing it. */
  flush(): void {
    if (this.#length === 0) return;
    effectSync('restore.writePiece', () => {
      const { fd } = this.#file;
      for (let done = 0; done < this.#length; ) {
        const hostOffset = this.#dataStart + this.#position + done;
        done += writeSync(fd, this.#buffer, done, this.#length - done, hostOffset);
      }
    });
    this.#length = 0;
  }
}

async function writeRaw(file: FileHandle, map: ExtentMap, readStream: ReadStream): Promise<void> {
  await effect('restore.truncateRaw', () => file.truncate(map.virtualSizeBytes));
  let start = 0;
  for (const { offset, length, kind } of map) {
    if (kind !== 'data') continue;
    const streamStart = start;
    await copyStream(
      (target, position) => readStream(target, streamStart + position),
      length,
      (bytes, position) => writeFully('restore.writeRaw', file, bytes, offset + position),
    );
    start += length;
  }
}

/** Writes under a hidden name and gives the file its own only when it is whole and durable. */
async function createWhole(
  path: string,
  neededBytes: number,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  if ((await statOrNull(path)) !== null) throw new FileExistsError(path);
  await assertRoom(path, neededBytes);
  const hidden = join(dirname(path), `.${basename(path).slice(0, 100)}.${randomUUID()}.tmp`);
  try {
    await namingFullDisk(
      path,
      () => neededBytes,
      async () => {
        const file = await effect('restore.create', () => open(hidden, 'wx'));
        try {
          await write(file);
          await effect('restore.fsync', () => file.sync());
        } finally {
          await file.close();
        }
      },
    );
    await giveName(hidden, path);
  } finally {
    await removeFile(hidden, 'restore.unlink');
  }
  await syncDirectory(dirname(path), 'restore.syncDirectory');
}

/** A hard link never replaces a file, as a rename would. */
async function giveName(hidden: string, path: string): Promise<void> {
  try {
    await effect('restore.link', () => link(hidden, path));
  } catch (error) {
    const code = errorCode(error);
    if (code === 'EEXIST') throw new FileExistsError(path, { cause: error });
    // Some file systems know no hard links; there, a look before the rename must do.
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS') throw error;
    if ((await statOrNull(path)) !== null) throw new FileExistsError(path, { cause: error });
    await effect('restore.rename', () => rename(hidden, path));
  }
}
