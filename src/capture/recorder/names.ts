/** How what the recorder makes in QEMU is named: by the prefix the next recorder knows it. QEMU allows 31 characters. */

export const PREFIX = 'offsite-';

/** The names of one disk in one epoch. */
export interface DiskNames {
  /** The node of the new overlay, and that of its file. */
  readonly overlay: string;
  readonly overlayFile: string;
  /** The node of the NBD client. */
  readonly target: string;
  readonly filter: string;
  readonly job: string;
  /** Where the jobs that make the overlay run. */
  readonly create: string;
}

/** @param index of the disk within the take-over */
export function diskNames(epoch: string, index: number): DiskNames {
  const tail = `${epoch.replaceAll('-', '').slice(0, 12)}-${index}`;
  return {
    overlay: `${PREFIX}o-${tail}`,
    overlayFile: `${PREFIX}f-${tail}`,
    target: `${PREFIX}n-${tail}`,
    filter: `${PREFIX}x-${tail}`,
    job: `${PREFIX}m-${tail}`,
    create: `${PREFIX}c-${tail}`,
  };
}
