/**
 * Where the parts of a FAT32 volume lie.
 * @see Microsoft, "FAT: General Overview of On-Disk Format" (fatgen103), sections 3 and 4
 */
import { FatError } from './fat-error.ts';
import { VOLUME_BLOCK_BYTES } from './sparse-volume.ts';

export const SECTOR_BYTES = 512;
export const FAT_COPIES = 2;
/** The first cluster that holds data; the numbers below it are reserved. */
export const FIRST_CLUSTER = 2;

/** With fewer clusters a reader takes the volume for FAT16; a margin keeps clear of the border. */
const MIN_CLUSTERS = 65_525 + 100;
const MAX_CLUSTERS = 0x0fff_fff0;
const MAX_SECTORS_PER_CLUSTER = 8;
const MIN_RESERVED_SECTORS = 32;
const BLOCK_SECTORS = VOLUME_BLOCK_BYTES / SECTOR_BYTES;

export interface Geometry {
  readonly totalSectors: number;
  readonly sectorsPerCluster: number;
  readonly clusterBytes: number;
  /** Sectors before the first table. */
  readonly reservedSectors: number;
  /** Sectors of one table. */
  readonly tableSectors: number;
  readonly clusterCount: number;
  /** Bytes from the start of the volume to cluster {@link FIRST_CLUSTER}; on a volume block's border. */
  readonly dataOffset: number;
}

/** Takes the largest clusters, up to 4 KiB, with which the volume still is FAT32. @throws {FatError} below 33 MiB */
export function planGeometry(sizeBytes: number): Geometry {
  for (let sectors = MAX_SECTORS_PER_CLUSTER; sectors >= 1; sectors /= 2) {
    const geometry = layOut(sizeBytes, sectors);
    if (geometry.clusterCount > MAX_CLUSTERS) break;
    if (geometry.clusterCount >= MIN_CLUSTERS) return geometry;
  }
  throw new FatError(`a FAT32 volume cannot have ${sizeBytes} bytes`);
}

/** @returns the offset of a cluster in bytes from the start of the volume */
export const clusterOffset = (geometry: Geometry, cluster: number): number =>
  geometry.dataOffset + (cluster - FIRST_CLUSTER) * geometry.clusterBytes;

function layOut(sizeBytes: number, sectorsPerCluster: number): Geometry {
  const totalSectors = Math.floor(sizeBytes / SECTOR_BYTES);
  // Sized for all sectors, the table is a little larger than it must be, which the format allows.
  const tableSectors = Math.ceil(((totalSectors / sectorsPerCluster + FIRST_CLUSTER) * 4) / SECTOR_BYTES);
  const unaligned = MIN_RESERVED_SECTORS + FAT_COPIES * tableSectors;
  const dataSector = Math.ceil(unaligned / BLOCK_SECTORS) * BLOCK_SECTORS;
  return {
    totalSectors,
    sectorsPerCluster,
    clusterBytes: sectorsPerCluster * SECTOR_BYTES,
    reservedSectors: dataSector - FAT_COPIES * tableSectors,
    tableSectors,
    clusterCount: Math.floor((totalSectors - dataSector) / sectorsPerCluster),
    dataOffset: dataSector * SECTOR_BYTES,
  };
}
