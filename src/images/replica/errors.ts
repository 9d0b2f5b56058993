/** What can go wrong with files that Offsite writes. */
import { OffsiteError } from '../../domain/errors.ts';

/** The file system has no room. Heals by itself once there is some. */
export class DiskFullError extends OffsiteError {
  readonly path: string;
  /** What is still to be written, and what an unprivileged writer may have. */
  readonly neededBytes: number;
  readonly freeBytes: number;

  constructor(path: string, neededBytes: number, freeBytes: number, options?: ErrorOptions) {
    super(
      'DiskFull',
      `${path}: the file system has ${freeBytes} bytes free, and ${neededBytes} more are needed`,
      'Free space on that file system, or enlarge it; the transfer goes on by itself.',
      options,
    );
    this.path = path;
    this.neededBytes = neededBytes;
    this.freeBytes = freeBytes;
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
      'Look at the storage; an undamaged recovery point can be recovered with --point.',
      options,
    );
    this.path = path;
    this.fault = fault;
  }
}
