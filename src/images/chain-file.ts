/** Opens image files as what they are: hostile names for regular files below the image roots. */
import { type BigIntStats, constants, read } from 'node:fs';
import { type FileHandle, lstat, open, readlink, realpath } from 'node:fs/promises';
import { sep } from 'node:path';
import {
  ImageError,
  ImageNotRegularError,
  ImageOutsideRootsError,
  ImageUnreadableError,
  ImageVanishedError,
} from './errors.ts';

/** Which file this is, whatever it is called. Decimal text, as in LayerProof. */
export interface FileIdentity {
  readonly device: string;
  readonly inode: string;
}

/** What a layer reads from: an open file, or whatever a test puts in its place. */
export type OpenImage = Pick<
  ImageFile,
  'path' | 'realPath' | 'stats' | 'sizeBytes' | 'identity' | 'read' | 'close'
>;

/** Opens the file that a chain names; it must lie under one of the roots. */
export type OpenImageFile = (path: string, imageRoots: readonly string[]) => Promise<OpenImage>;

/** An open image file. Reads may overlap; `close` waits for them. */
export class ImageFile {
  readonly path: string;
  readonly realPath: string;
  /** The state of the open file when it was opened. */
  readonly stats: BigIntStats;
  readonly sizeBytes: number;
  readonly identity: FileIdentity;
  readonly #handle: FileHandle;
  #reading = 0;
  #whenIdle: (() => void) | null = null;
  #closed = false;

  private constructor(path: string, realPath: string, handle: FileHandle, stats: BigIntStats) {
    this.path = path;
    this.realPath = realPath;
    this.stats = stats;
    this.sizeBytes = Number(stats.size);
    this.identity = { device: String(stats.dev), inode: String(stats.ino) };
    this.#handle = handle;
  }

  /**
   * Opens the regular file that `path` leads to. Never blocks on a FIFO, never opens a device, and notices
   * when a link or a file is exchanged between the look and the opening.
   * @throws {ImageError} ImageVanished, ImageOutsideRoots, ImageNotRegular, ImageUnreadable
   */
  static async open(path: string, imageRoots: readonly string[]): Promise<ImageFile> {
    return named(path, async () => {
      const realPath = await realpath(path);
      await assertUnderRoots(path, realPath, imageRoots);
      const seen = await lstat(realPath, { bigint: true });
      if (!seen.isFile()) throw new ImageNotRegularError(path, `is ${kindOf(seen)}`);
      const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
      const handle = await open(realPath, flags);
      try {
        const stats = await handle.stat({ bigint: true });
        const sameFile = stats.isFile() && stats.dev === seen.dev && stats.ino === seen.ino;
        if (!sameFile || (await pathOf(handle, realPath)) !== realPath) {
          throw new ImageVanishedError(path, 'another file took its place while it was opened');
        }
        if (stats.size > BigInt(Number.MAX_SAFE_INTEGER)) {
          throw new ImageUnreadableError(path, `a file of ${stats.size} bytes is too large`);
        }
        return new ImageFile(path, realPath, handle, stats);
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  /**
   * Fills `target` from the file; what lies beyond the file's end reads as zeros, as in QEMU.
   * @throws {ImageUnreadableError} on an I/O error
   */
  async read(target: Buffer, hostOffset: number): Promise<void> {
    if (this.#closed) throw new ImageUnreadableError(this.path, 'it was closed already');
    this.#reading += 1;
    try {
      let filled = 0;
      while (filled < target.length) {
        const count = await this.#readOnce(target, filled, hostOffset + filled);
        if (count === 0) break;
        filled += count;
      }
      if (filled < target.length) target.fill(0, filled);
    } finally {
      this.#reading -= 1;
      if (this.#reading === 0) this.#whenIdle?.();
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // A read that is still queued must not find its descriptor given to another file.
    if (this.#reading > 0) await new Promise<void>(resolve => (this.#whenIdle = resolve));
    await this.#handle.close();
  }

  #readOnce(target: Buffer, at: number, hostOffset: number): Promise<number> {
    return new Promise((resolve, reject) => {
      read(this.#handle.fd, target, at, target.length - at, hostOffset, (error, count) => {
        if (error === null) resolve(count);
        else
          reject(new ImageUnreadableError(this.path, `reading failed: ${error.message}`, { cause: error }));
      });
    });
  }
}

/**
 * Where the open file itself lies: names can be exchanged between any two looks at them, the descriptor cannot.
 * Where the system does not tell, the name is looked at once more.
 * @see proc_pid_fd(5)
 */
async function pathOf(handle: FileHandle, realPath: string): Promise<string> {
  try {
    return await readlink(`/proc/self/fd/${handle.fd}`);
  } catch {
    return realpath(realPath);
  }
}

async function assertUnderRoots(
  path: string,
  realPath: string,
  imageRoots: readonly string[],
): Promise<void> {
  for (const root of imageRoots) {
    const realRoot = await realpath(root).catch(() => null);
    if (realRoot === null) continue;
    if (realPath.startsWith(realRoot.endsWith(sep) ? realRoot : realRoot + sep)) return;
  }
  const roots = imageRoots.length === 0 ? 'none is configured' : imageRoots.join(', ');
  const place = realPath === path ? '' : `its real path ${realPath} `;
  throw new ImageOutsideRootsError(path, `${place}lies under no image root (${roots})`);
}

function kindOf(stats: BigIntStats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  return 'a device';
}

/** Gives what the operating system says its name among the image errors. */
async function named<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ImageError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new ImageVanishedError(path, 'the file does not exist', { cause: error });
    }
    if (code === 'EMFILE' || code === 'ENFILE') throw error;
    throw new ImageUnreadableError(path, `cannot be opened: ${(error as Error).message}`, { cause: error });
  }
}
