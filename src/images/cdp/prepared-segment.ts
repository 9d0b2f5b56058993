/** A segment made of zeros before it is needed, so that an fdatasync of records has no new blocks to allot. */
import type { FileHandle } from 'node:fs/promises';
import { effect } from '../../lib/fault-points.ts';
import { openNew, openOrCreate, removeFile, statOrNull, writeFully } from '../replica/durable-files.ts';

const PIECE = Buffer.alloc(1024 * 1024);

export class PreparedSegment {
  readonly #path: string;
  readonly #segmentBytes: number;
  #file: Promise<FileHandle> | null = null;

  readonly #isExclusive: boolean;

  /** @param isExclusive refuses a name that is there already: it may be another writer's */
  constructor(path: string, segmentBytes: number, isExclusive = false) {
    this.#path = path;
    this.#segmentBytes = segmentBytes;
    this.#isExclusive = isExclusive;
  }

  /** Begins in the background; what fails is told by {@link take}. */
  prepare(): void {
    this.#file ??= this.#make();
    this.#file.catch(() => {});
  }

  /** @returns the file, all zeros; the caller closes it */
  async take(): Promise<FileHandle> {
    this.prepare();
    const file = await (this.#file as Promise<FileHandle>);
    this.#file = null;
    return file;
  }

  /** Removes a file that was made and not taken, unless the name is another one's by now. */
  async discard(): Promise<void> {
    const file = await this.#file?.catch(() => null);
    this.#file = null;
    if (file === null || file === undefined) return;
    const [own, named] = await Promise.all([file.stat(), statOrNull(this.#path)]);
    await file.close();
    if (named?.ino === own.ino) await removeFile(this.#path, 'journal.prepared.unlink');
  }

  async #make(): Promise<FileHandle> {
    const open = this.#isExclusive ? openNew : openOrCreate;
    const file = await open(this.#path, 'journal.prepared.create');
    try {
      // What an earlier process prepared, and perhaps wrote a torn head into.
      await effect('journal.prepared.truncate', () => file.truncate(0));
      for (let at = 0; at < this.#segmentBytes; at += PIECE.length) {
        const piece = PIECE.subarray(0, Math.min(PIECE.length, this.#segmentBytes - at));
        await writeFully('journal.prepared.zero', file, piece, at);
      }
      await effect('journal.prepared.fdatasync', () => file.datasync());
      return file;
    } catch (error) {
      await file.close();
      await removeFile(this.#path, 'journal.prepared.unlinkFailed');
      throw error;
    }
  }
}
