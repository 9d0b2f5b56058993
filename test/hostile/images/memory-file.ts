/** Image files in memory: changed in place for one case, and put back after it. */
import { posix } from 'node:path';
import type { OpenImage, OpenImageFile } from '../../../src/images/chain-file.ts';
import {
  ImageNotRegularError,
  ImageOutsideRootsError,
  ImageVanishedError,
} from '../../../src/images/errors.ts';
import { must } from '../campaign.ts';

/** Room behind a file's end, for what a case adds. */
const SLACK_BYTES = 64 * 1024;

/** The last cluster or sector of a file may be cut short: its rest reads as zeros. */
const MAX_CLUSTER_BYTES = 2 ** 21;

export class MemoryFile {
  readonly path: string;
  /** The file and its slack; what lies beyond reads as zeros, as in a hole. */
  readonly bytes: Buffer;
  readonly soundSizeBytes: number;
  sizeBytes: number;
  inode: number;
  readonly #soundInode: number;
  readonly #undo: { at: number; before: Buffer }[] = [];

  constructor(path: string, content: Buffer, inode: number) {
    this.path = path;
    this.bytes = Buffer.concat([content, Buffer.alloc(SLACK_BYTES)]);
    this.soundSizeBytes = content.length;
    this.sizeBytes = content.length;
    this.inode = inode;
    this.#soundInode = inode;
  }

  /** Writes what fits, until {@link restore}. */
  write(at: number, bytes: Buffer): void {
    const fits = bytes.subarray(0, Math.max(0, this.bytes.length - at));
    if (fits.length === 0) return;
    this.#undo.push({ at, before: Buffer.from(this.bytes.subarray(at, at + fits.length)) });
    fits.copy(this.bytes, at);
  }

  u8(at: number, value: number): void {
    this.write(at, Buffer.from([value]));
  }

  u32(at: number, value: number): void {
    const bytes = Buffer.from(new Uint8Array(4));
    bytes.writeUInt32BE(value >>> 0);
    this.write(at, bytes);
  }

  u64(at: number, value: bigint): void {
    const bytes = Buffer.from(new Uint8Array(8));
    bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
    this.write(at, bytes);
  }

  restore(): void {
    for (const { at, before } of this.#undo.reverse()) before.copy(this.bytes, at);
    this.#undo.length = 0;
    this.sizeBytes = this.soundSizeBytes;
    this.inode = this.#soundInode;
  }
}

export const ROOT = '/images';

/** The files of one case's chain, and what was done with them. */
export class MemoryFolder {
  readonly files: ReadonlyMap<string, MemoryFile>;
  opens = 0;
  reads = 0;
  readBytes = 0;
  isOpen = 0;

  constructor(files: readonly MemoryFile[]) {
    this.files = new Map(files.map(file => [file.path, file]));
  }

  reset(): void {
    this.opens = 0;
    this.reads = 0;
    this.readBytes = 0;
    this.isOpen = 0;
  }

  /** As the file system would answer: nothing outside the root, and nothing but files. */
  readonly open: OpenImageFile = async path => {
    this.opens += 1;
    must(typeof path === 'string' && !path.includes('\0'), () => `a path with a zero byte was opened`);
    const place = posix.normalize(path);
    if (!place.startsWith(`${ROOT}/`)) throw new ImageOutsideRootsError(path, 'it lies elsewhere');
    const file = this.files.get(place);
    if (place === `${ROOT}/folder`) throw new ImageNotRegularError(path, 'is a directory');
    if (file === undefined) throw new ImageVanishedError(path);
    this.isOpen += 1;
    return this.#opened(path, file);
  };

  #opened(path: string, file: MemoryFile): OpenImage {
    const { bytes, sizeBytes, inode } = file;
    const held = Math.min(bytes.length, sizeBytes);
    let isClosed = false;
    const size = BigInt(sizeBytes);
    return {
      path,
      realPath: file.path,
      sizeBytes,
      identity: { device: '1', inode: String(inode) },
      stats: { dev: 1n, ino: BigInt(inode), size, mtimeNs: 0n, ctimeNs: 0n } as OpenImage['stats'],
      read: async (target, hostOffset) => {
        this.reads += 1;
        this.readBytes += target.length;
        must(!isClosed, () => 'a read after the close');
        must(
          Number.isSafeInteger(hostOffset) && hostOffset >= 0 && hostOffset < sizeBytes + MAX_CLUSTER_BYTES,
          () => `a read at ${hostOffset} of a file of ${sizeBytes} bytes`,
        );
        const copied = hostOffset < held ? bytes.copy(target, 0, hostOffset, held) : 0;
        if (copied < target.length) target.fill(0, copied);
      },
      close: async () => {
        if (!isClosed) this.isOpen -= 1;
        isClosed = true;
      },
    };
  }
}
