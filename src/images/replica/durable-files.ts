/** Small file work that survives a power cut, and says so when there is no room. */
import { constants, read as fsRead, write as fsWrite } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, statfs, unlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';
import { effect, type FaultPoint } from '../../lib/fault-points.ts';
import { DiskFullError, ReplicaFileError, SyncFailedError } from './errors.ts';

// The callback API: a third less work for each piece than FileHandle's.
const writeAt = promisify(fsWrite);
const readAt = promisify(fsRead);

/** Reads until `target` is full or the file ends. @returns the bytes read */
export async function readFully(file: FileHandle, target: Buffer, hostOffset: number): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await readAt(file.fd, target, done, target.length - done, hostOffset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** Writes all of `bytes`. */
export function writeFully(
  point: FaultPoint,
  file: FileHandle,
  bytes: Buffer,
  hostOffset: number,
): Promise<void> {
  return effect(point, async () => {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await writeAt(file.fd, bytes, done, bytes.length - done, hostOffset + done);
      done += bytesWritten;
    }
  });
}

/**
 * Runs work that writes to `path`; `neededBytes` tells, when there is no room, how much was still to come.
 * @throws {DiskFullError} in place of ENOSPC and EDQUOT
 */
export async function namingFullDisk<T>(
  path: string,
  neededBytes: () => number,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = errorCode(error);
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
    const { freeBytes, freeFiles } = await freeSpaceAt(await nearestDirectory(path));
    const shortage = {
      neededBytes: neededBytes(),
      freeBytes,
      noMoreFiles: code === 'ENOSPC' && freeFiles === 0,
    };
    throw new DiskFullError(path, shortage, { cause: error });
  }
}

/** The folder of a path, or the nearest above that is there. */
async function nearestDirectory(path: string): Promise<string> {
  const parent = dirname(resolve(path));
  return parent === '/' || (await statOrNull(parent)) !== null ? parent : nearestDirectory(parent);
}

/** Runs work that makes a file durable. @throws {SyncFailedError} in place of all but a lack of room */
export async function syncing(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOSPC' || code === 'EDQUOT') throw error;
    throw new SyncFailedError(path, { cause: error });
  }
}

/** Looks before the first byte; other writers may still be faster. @throws {DiskFullError} */
export async function assertRoom(path: string, neededBytes: number): Promise<void> {
  const { freeBytes } = await freeSpaceAt(dirname(path));
  if (neededBytes > freeBytes) throw new DiskFullError(path, { neededBytes, freeBytes });
}

/** Bytes that the file occupies; 0 when it is not there. */
export async function allocatedBytes(path: string): Promise<number> {
  const stats = await statOrNull(path);
  return stats === null ? 0 : stats.blocks * 512;
}

/** Of the name itself: a symbolic link is not followed. @returns null when there is no such name */
export async function statOrNull(path: string) {
  return nullIfMissing(lstat(path));
}

/** @returns null when there is no such file */
export async function readOrNull(path: string): Promise<Buffer | null> {
  const file = await openOrNull(path, 'r');
  if (file === null) return null;
  try {
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** As {@link openRegular}. @returns null when there is no such file */
export async function openOrNull(path: string, mode: 'r' | 'r+'): Promise<FileHandle | null> {
  return nullIfMissing(openRegular(path, mode));
}

/** What opening says of a name that is no regular file: a link, a folder, a socket. */
const NOT_REGULAR = new Set(['ELOOP', 'EISDIR', 'ENXIO', 'ENODEV']);

/**
 * Opens one of our own files. Whoever can write into the replica folder could have put something else under its
 * name: no link is followed, no FIFO waited for, and what is written to has this one name only.
 * @throws {ReplicaFileError} when it is something else
 */
export async function openRegular(path: string, mode: 'r' | 'r+'): Promise<FileHandle> {
  const { O_RDONLY, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  const flags = (mode === 'r' ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK;
  const file = await open(path, flags).catch(error => {
    if (!NOT_REGULAR.has(errorCode(error) ?? '')) throw error;
    throw new ReplicaFileError(path, 'it is no regular file, or a symbolic link');
  });
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw new ReplicaFileError(path, 'it is no regular file');
    if (mode === 'r+' && stats.nlink > 1) {
      throw new ReplicaFileError(path, 'it has another name, which would change with it');
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Looks whether a disk's folder and its host's are folders of their own: neither may lead elsewhere. The replica
 * folder itself may be a link, which is the operator's.
 * @throws {ReplicaFileError} naming the link
 */
export async function assertOwnFolders(directory: string): Promise<void> {
  for (const folder of [dirname(resolve(directory)), resolve(directory)]) {
    const stats = await statOrNull(folder);
    if (stats !== null && !stats.isDirectory()) {
      throw new ReplicaFileError(folder, 'it is a symbolic link, or no folder');
    }
  }
}

/** Opens a file for reading and writing without cutting it, and makes it where it is missing. */
export async function openOrCreate(path: string, point: FaultPoint): Promise<FileHandle> {
  for (;;) {
    const file = (await openOrNull(path, 'r+')) ?? (await effect(point, () => createOrNull(path)));
    if (file !== null) return file;
  }
}

/** Makes a file for reading and writing. @throws EEXIST when there is such a name */
export const openNew = (path: string, point: FaultPoint): Promise<FileHandle> =>
  effect(point, () => open(path, 'wx+'));

async function createOrNull(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'wx+');
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return null;
    throw error;
  }
}

/** @returns false when there was no such file */
export async function removeFile(path: string, point: FaultPoint): Promise<boolean> {
  return (await nullIfMissing(effect(point, () => unlink(path)).then(() => true))) ?? false;
}

/**
 * Makes the file hold exactly `bytes`, fsynced. It is written in place: a crash leaves a torn file, which
 * its checksum tells, and never a second name. The directory is not synced.
 * @param what names the file's fault points
 * @throws {DiskFullError}
 */
export async function storeFile(
  path: string,
  bytes: Buffer,
  what: 'replica.map' | 'replica.digests',
): Promise<void> {
  await namingFullDisk(
    path,
    () => bytes.length,
    async () => {
      const file = await openOrCreate(path, `${what}.create`);
      try {
        await writeFully(`${what}.write`, file, bytes, 0);
        await effect(`${what}.truncate`, () => file.truncate(bytes.length));
        await syncing(path, () => effect(`${what}.fsync`, () => file.sync()));
      } catch (error) {
        // A file that is not durable must not be found as one that is; the next attempt writes it anew.
        await removeFile(path, `${what}.unlink`).catch(() => undefined);
        throw error;
      } finally {
        await file.close();
      }
    },
  );
}

/** Makes names that were added, renamed or removed in a directory survive a power cut. */
export async function syncDirectory(path: string, point: FaultPoint): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await effect(point, () => directory.sync());
  } finally {
    await directory.close();
  }
}

/** Makes the directory and what is missing above it, each name synced. @throws {DiskFullError} */
export async function makeDirectories(path: string): Promise<void> {
  const whole = resolve(path);
  if ((await statOrNull(whole)) !== null) return;
  const parent = dirname(whole);
  await makeDirectories(parent);
  await namingFullDisk(
    whole,
    () => 0,
    async () => {
      try {
        await effect('replica.directory.mkdir', () => mkdir(whole));
      } catch (error) {
        if (errorCode(error) !== 'EEXIST') throw error;
      }
      await syncDirectory(parent, 'replica.directory.sync');
    },
  );
}

/** @returns the system's code, such as `ENOENT`, or null */
export function errorCode(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'string' ? code : null;
}

/** What a file system has. */
export interface FileSystemSpace {
  /** What an unprivileged writer may still have. */
  readonly freeBytes: number;
  readonly sizeBytes: number;
  /** How many more files; null where the file system does not count them. */
  readonly freeFiles: number | null;
}

/** @param path a file or folder that is there */
export async function freeSpaceAt(path: string): Promise<FileSystemSpace> {
  const { bavail, blocks, bsize, files, ffree } = await statfs(path);
  return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize, freeFiles: files === 0 ? null : ffree };
}

async function nullIfMissing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}
