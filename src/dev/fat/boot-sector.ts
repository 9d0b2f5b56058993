/**
 * The sectors before the tables.
 * @see Microsoft, "FAT: General Overview of On-Disk Format" (fatgen103), "Boot Sector and BPB", "FSInfo"
 */
import { FAT_COPIES, FIRST_CLUSTER, type Geometry, SECTOR_BYTES } from './geometry.ts';

export const INFO_SECTOR = 1;
export const BACKUP_BOOT_SECTOR = 6;

const FIXED_DISK = 0xf8;
const SIGNATURE = 0xaa55;

/** @param label 11 bytes, padded with blanks @returns one sector that boots nothing */
export function encodeBootSector(geometry: Geometry, label: string, serial: number): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  sector.set([0xeb, 0x58, 0x90], 0);
  sector.write('OFFSITE ', 3, 'latin1');
  sector.writeUInt16LE(SECTOR_BYTES, 11);
  sector.writeUInt8(geometry.sectorsPerCluster, 13);
  sector.writeUInt16LE(geometry.reservedSectors, 14);
  sector.writeUInt8(FAT_COPIES, 16);
  sector.writeUInt8(FIXED_DISK, 21);
  // Sectors a track and heads: of no meaning today, but mtools wants them to be possible.
  sector.writeUInt16LE(63, 24);
  sector.writeUInt16LE(255, 26);
  sector.writeUInt32LE(geometry.totalSectors, 32);
  sector.writeUInt32LE(geometry.tableSectors, 36);
  sector.writeUInt32LE(FIRST_CLUSTER, 44);
  sector.writeUInt16LE(INFO_SECTOR, 48);
  sector.writeUInt16LE(BACKUP_BOOT_SECTOR, 50);
  sector.writeUInt8(0x80, 64);
  sector.writeUInt8(0x29, 66);
  sector.writeUInt32LE(serial, 67);
  sector.write(label, 71, 'latin1');
  sector.write('FAT32   ', 82, 'latin1');
  // For whom starts from it all the same: an endless loop (jmp $) instead of whatever bytes follow.
  sector.set([0xeb, 0xfe], 90);
  sector.writeUInt16LE(SIGNATURE, 510);
  return sector;
}

/** @returns the sector that tells how many clusters are free */
export function encodeInfoSector(freeClusters: number): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  sector.write('RRaA', 0, 'latin1');
  sector.write('rrAa', 484, 'latin1');
  sector.writeUInt32LE(freeClusters, 488);
  sector.writeUInt32LE(FIRST_CLUSTER, 492);
  sector.writeUInt16LE(SIGNATURE, 510);
  return sector;
}
