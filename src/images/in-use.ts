/** Does QEMU write to an image at this moment? */
import { readFile } from 'node:fs/promises';
import type { FileIdentity } from './chain-file.ts';
import { ImageError } from './errors.ts';

/** A virtual machine, or another program, has the image open for writing: it is no frozen layer. */
export class ImageInUseError extends ImageError {
  constructor(path: string) {
    super(
      'ImageInUse',
      path,
      'is being written to: a virtual machine has it open',
      'Take a snapshot and name the frozen layer beneath, or shut the machine down.',
    );
  }
}

/**
 * Looks for QEMU's lock of a writer. It sees the processes of this machine only, and is of no avail where image
 * locking is switched off: an error is true, its absence proves nothing.
 * @throws {ImageInUseError}
 */
export async function assertNotInUse(file: {
  readonly path: string;
  readonly identity: FileIdentity;
}): Promise<void> {
  const locks = await readFile('/proc/locks', 'latin1').catch(() => '');
  if (hasWriter(locks, file.identity)) throw new ImageInUseError(file.path);
}

/**
 * The byte that a QEMU with write permission holds a shared lock on: RAW_LOCK_PERM_BASE, and BLK_PERM_WRITE is
 * bit 1. A reader holds byte 100 only.
 * @see QEMU, block/file-posix.c and include/block/block-common.h
 */
const WRITER_BYTE = 101;
/** `4: OFDLCK ADVISORY READ -1 fe:00:10178286 100 101`; a waiting one has `->` after its number. */
const LOCK = /^\d+: (?:OFDLCK|POSIX) +\w+ +\w+ +-?\d+ ([0-9a-f]+):([0-9a-f]+):(\d+) (\d+) (\d+|EOF)$/;

/** @param locks the text of /proc/locks */
export function hasWriter(locks: string, { device, inode }: FileIdentity): boolean {
  return locks.split('\n').some(line => {
    const [, major = '', minor = '', ofInode, first, last] = LOCK.exec(line) ?? [];
    if (ofInode !== inode || deviceOf(Number.parseInt(major, 16), Number.parseInt(minor, 16)) !== device) {
      return false;
    }
    return Number(first) <= WRITER_BYTE && (last === 'EOF' || Number(last) >= WRITER_BYTE);
  });
}

/** The device number as `stat` gives it. @see glibc's makedev */
function deviceOf(major: number, minor: number): string {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return String(
    ((high & 0xfffff000n) << 32n) | ((high & 0xfffn) << 8n) | ((low & 0xffffff00n) << 12n) | (low & 0xffn),
  );
}
