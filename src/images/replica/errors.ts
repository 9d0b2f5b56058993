/** What can go wrong with files that Offsite writes. */
import { OffsiteError } from '../../domain/errors.ts';
import { formatSize } from '../../lib/sizes.ts';

/** What a file system had when something did not fit. */
export interface Shortage {
  /** What is still to be written. */
  readonly neededBytes: number;
  /** What an unprivileged writer may have. */
  readonly freeBytes: number;
  /** Of the free bytes, what is to stay free. */
  readonly reserveBytes?: number;
  /** Of the free bytes, what other disks that come now are still to take. */
  readonly promisedBytes?: number;
  /** True when it is files that the file system cannot have more of, whatever their size. */
  readonly noMoreFiles?: boolean;
}

/** The file system has no room. Heals by itself once there is some. */
export class DiskFullError extends OffsiteError {
  readonly path: string;
  readonly neededBytes: number;
  readonly freeBytes: number;

  constructor(path: string, shortage: Shortage, options?: ErrorOptions) {
    super('DiskFull', `${path}: ${shortageWords(shortage)}`, FULL_HINT, options);
    this.path = path;
    this.neededBytes = shortage.neededBytes;
    this.freeBytes = shortage.freeBytes;
  }
}

const FULL_HINT = 'Free space on that file system, or enlarge it; the transfer goes on by itself.';

function shortageWords(shortage: Shortage): string {
  const { neededBytes, freeBytes, reserveBytes = 0, promisedBytes = 0, noMoreFiles = false } = shortage;
  if (noMoreFiles) return 'the file system takes no more files: its inodes are used up';
  const not = [
    ...(reserveBytes > 0 ? [`${formatSize(reserveBytes)} of it stay free`] : []),
    ...(promisedBytes > 0 ? [`${formatSize(promisedBytes)} of it are for other disks that come now`] : []),
  ];
  const but = not.length === 0 ? '' : ` (${not.join(', ')})`;
  const what =
    neededBytes === 0 ? 'a name in its folder needs room' : `${formatSize(neededBytes)} are needed`;
  return `${what}, and the file system has ${formatSize(freeBytes)} free${but}`;
}

/**
 * The storage did not make written bytes durable, and may have lost them. The kernel tells it once and then calls the
 * same bytes clean, so nothing that was written since the last success is relied upon: it is written again.
 */
export class SyncFailedError extends OffsiteError {
  readonly path: string;

  constructor(path: string, options?: ErrorOptions) {
    const reason = options?.cause instanceof Error ? options.cause.message : 'no reason was given';
    super(
      'SyncFailed',
      `${path}: the storage did not make it durable: ${reason}`,
      "Look at the storage and the kernel's log. What was not durable is sent again by itself.",
      options,
    );
    this.path = path;
  }
}

/** A file that must be new is there already. Nothing was written. */
export class FileExistsError extends OffsiteError {
  readonly path: string;

  constructor(path: string, options?: ErrorOptions) {
    super(
      'FileExists',
      `${path} exists already`,
      'Choose another place, or move that file away; it is never overwritten.',
      options,
    );
    this.path = path;
  }
}

/** A replica's file is not what its name says: missing, torn, damaged, or of another layout. */
export class ReplicaFileError extends OffsiteError {
  readonly path: string;
  readonly fault: string;

  constructor(path: string, fault: string, options?: ErrorOptions) {
    super(
      'ReplicaFileInvalid',
      `${path}: ${fault}`,
      'Look at the storage; an undamaged recovery point can be recovered with --point, and any without --format, as it is.',
      options,
    );
    this.path = path;
    this.fault = fault;
  }
}
