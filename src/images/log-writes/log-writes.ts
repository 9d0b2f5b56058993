/**
 * Reads a log of dm-log-writes, as QEMU's `blklogwrites` writes it, too. Little-endian; hostile input.
 * A sector with the super block: u64 magic, u64 version, u64 number of entries, u32 bytes a sector. Then the entries,
 * each a sector with u64 sector, u64 number of sectors, u64 flags, u64 length of a mark's name, and after it the data
 * (none of a discard), filled up to whole sectors.
 * @see Linux, drivers/md/dm-log-writes.c; QEMU, block/blklogwrites.c
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { OffsiteError } from '../../domain/errors.ts';
import { visible } from '../../domain/plain-words.ts';
import { errorCode, readFully } from '../replica/durable-files.ts';

const MAGIC = 0x6a736677736872n;
const VERSION = 1n;
const ENTRY_BYTES = 32;
const SUPER_BYTES = 28;
const MAX_SECTOR_BYTES = 65_536;
const MAX_MARK_BYTES = 255;
const WINDOW_BYTES = 1024 * 1024;
const FLAGS = { flush: 1n, fua: 2n, discard: 4n, mark: 8n, metadata: 16n } as const;
const KNOWN_FLAGS = 31n;

/** The file is no log, or not one of this disk. */
export class LogInvalidError extends OffsiteError {
  constructor(path: string, fault: string) {
    super(
      'LogInvalid',
      `${path}: ${fault}`,
      "Name a log that dm-log-writes or QEMU's blklogwrites wrote, and that nobody writes any more.",
    );
  }
}

/** One entry. Offsets and lengths are bytes. */
export type LogEntry =
  | {
      readonly kind: 'write';
      readonly offset: number;
      readonly length: number;
      /** Where its bytes lie in the log. */
      readonly hostOffset: number;
      /** What was written before was flushed first. */
      readonly isFlush: boolean;
      /** It was durable when it was done, and all that was flushed before. */
      readonly isFua: boolean;
    }
  | { readonly kind: 'discard'; readonly offset: number; readonly length: number }
  | { readonly kind: 'flush' }
  | { readonly kind: 'mark'; readonly name: string };

export class LogWrites {
  readonly path: string;
  readonly sizeBytes: number;
  /** When it was last written to. */
  readonly changedAtMs: number;
  readonly entryCount: number;
  readonly #file: FileHandle;
  readonly #sectorBytes: number;
  readonly #diskBytes: number;
  readonly #window = Buffer.allocUnsafe(WINDOW_BYTES);
  #windowStart = 0;
  #windowLength = 0;

  private constructor(
    path: string,
    file: FileHandle,
    input: {
      sizeBytes: number;
      changedAtMs: number;
      entryCount: number;
      sectorBytes: number;
      diskBytes: number;
    },
  ) {
    this.path = path;
    this.#file = file;
    this.sizeBytes = input.sizeBytes;
    this.changedAtMs = input.changedAtMs;
    this.entryCount = input.entryCount;
    this.#sectorBytes = input.sectorBytes;
    this.#diskBytes = input.diskBytes;
  }

  /** @param diskBytes the size of the disk that was logged @throws {LogInvalidError} */
  static async open(path: string, diskBytes: number): Promise<LogWrites> {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(error => {
      const code = errorCode(error);
      if (code === 'ENOENT' || code === 'ENOTDIR') throw new LogInvalidError(path, 'there is no such file');
      throw error;
    });
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new LogInvalidError(path, 'it is no regular file');
      const head = Buffer.alloc(SUPER_BYTES);
      const length = await readFully(file, head, 0);
      if (length < SUPER_BYTES || head.readBigUInt64LE(0) !== MAGIC) {
        throw new LogInvalidError(path, 'it is no log of writes');
      }
      if (head.readBigUInt64LE(8) !== VERSION) {
        throw new LogInvalidError(path, `its version is ${head.readBigUInt64LE(8)}, not ${VERSION}`);
      }
      const sectorBytes = head.readUInt32LE(24);
      const isPowerOf2 = sectorBytes > 0 && (sectorBytes & (sectorBytes - 1)) === 0;
      if (!isPowerOf2 || sectorBytes < 512 || sectorBytes > MAX_SECTOR_BYTES) {
        throw new LogInvalidError(path, `its sectors have ${sectorBytes} bytes`);
      }
      const entryCount = Number(head.readBigUInt64LE(16));
      // Each entry takes a sector at least.
      if (entryCount > stats.size / sectorBytes) {
        throw new LogInvalidError(path, `it is said to have ${entryCount} entries, which do not fit into it`);
      }
      const { size: sizeBytes, mtimeMs } = stats;
      const changedAtMs = Math.floor(mtimeMs);
      return new LogWrites(path, file, { sizeBytes, changedAtMs, entryCount, sectorBytes, diskBytes });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** All entries, in order. @throws {LogInvalidError} at the first that cannot be */
  async *entries(): AsyncGenerator<LogEntry, undefined> {
    let at = this.#sectorBytes;
    for (let number = 0; number < this.entryCount; number += 1) {
      const head = await this.#read(at, ENTRY_BYTES, number);
      const [sector = 0n, sectors = 0n, flags = 0n, nameBytes = 0n] = [0, 8, 16, 24].map(from =>
        head.readBigUInt64LE(from),
      );
      if (flags > KNOWN_FLAGS) throw this.#fault(number, `has the flags ${flags}`);
      const hostOffset = at + this.#sectorBytes;
      if ((flags & FLAGS.mark) !== 0n) {
        const name = await this.#name(hostOffset, nameBytes, number);
        at = hostOffset + Math.ceil(Number(nameBytes) / this.#sectorBytes) * this.#sectorBytes;
        yield { kind: 'mark', name };
        continue;
      }
      const { offset, length } = this.#range(sector, sectors, number);
      if ((flags & FLAGS.discard) !== 0n) {
        at = hostOffset;
        yield { kind: 'discard', offset, length };
        continue;
      }
      at = hostOffset + length;
      if (at > this.sizeBytes) throw this.#fault(number, 'goes beyond the end of the log');
      const isFlush = (flags & FLAGS.flush) !== 0n;
      if (length > 0) {
        yield { kind: 'write', offset, length, hostOffset, isFlush, isFua: (flags & FLAGS.fua) !== 0n };
      } else if (isFlush || (flags & FLAGS.fua) !== 0n) yield { kind: 'flush' };
    }
  }

  /** Bytes of a write. */
  async read(hostOffset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    const done = await readFully(this.#file, bytes, hostOffset);
    if (done < length) throw new LogInvalidError(this.path, 'it became shorter while it was read');
    return bytes;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #range(sector: bigint, sectors: bigint, number: number): { offset: number; length: number } {
    const size = BigInt(this.#sectorBytes);
    const end = (sector + sectors) * size;
    // The disk's last sector may be short; what is beyond was never the guest's.
    if (sectors > 0n && end > BigInt(Math.ceil(this.#diskBytes / this.#sectorBytes)) * size) {
      throw this.#fault(number, `goes to byte ${end}, and the disk has ${this.#diskBytes}`);
    }
    return sectors === 0n
      ? { offset: 0, length: 0 }
      : { offset: Number(sector * size), length: Number(sectors * size) };
  }

  async #name(hostOffset: number, nameBytes: bigint, number: number): Promise<string> {
    if (nameBytes < 1n || nameBytes > BigInt(MAX_MARK_BYTES)) {
      throw this.#fault(number, `is a mark with a name of ${nameBytes} bytes`);
    }
    const bytes = Buffer.from(await this.#read(hostOffset, Number(nameBytes), number));
    // The kernel counts the zero byte at the end.
    const end = bytes.indexOf(0);
    const name = bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
    const isPlain = name !== '' && Buffer.byteLength(name) <= MAX_MARK_BYTES && visible(name) === name;
    if (!isPlain || name.includes('\ufffd'))
      throw this.#fault(number, 'is a mark whose name is no plain text');
    return name;
  }

  async #read(hostOffset: number, length: number, number: number): Promise<Buffer> {
    if (hostOffset + length > this.sizeBytes) throw this.#fault(number, 'goes beyond the end of the log');
    const isThere =
      hostOffset >= this.#windowStart && hostOffset + length <= this.#windowStart + this.#windowLength;
    if (!isThere) {
      this.#windowStart = hostOffset;
      this.#windowLength = await readFully(this.#file, this.#window, hostOffset);
    }
    const at = hostOffset - this.#windowStart;
    if (at + length > this.#windowLength) throw this.#fault(number, 'became shorter while it was read');
    return this.#window.subarray(at, at + length);
  }

  #fault(number: number, what: string): LogInvalidError {
    return new LogInvalidError(this.path, `entry ${number} ${what}`);
  }
}
