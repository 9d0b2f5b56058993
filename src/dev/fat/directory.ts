/**
 * Directory entries.
 * @see Microsoft, "FAT: General Overview of On-Disk Format" (fatgen103), "FAT Directory Structure"
 */
import { encodeLongName, type FatName } from './names.ts';

export const ENTRY_BYTES = 32;

const ATTRIBUTE = { volume: 0x08, directory: 0x10, archive: 0x20 } as const;

export interface Entry {
  readonly name: FatName;
  readonly kind: 'file' | 'directory';
  /** 0 for an empty file. */
  readonly firstCluster: number;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

/** @returns the entries that one name takes in its directory */
export function encodeEntry(entry: Entry): Buffer {
  const short = encodeShort(
    entry.name.short,
    entry.kind === 'file' ? ATTRIBUTE.archive : ATTRIBUTE.directory,
    entry,
  );
  return entry.name.needsLong ? Buffer.concat([encodeLongName(entry.name), short]) : short;
}

/** @param label 11 bytes, padded with blanks @returns the root's entry for the volume's label */
export const encodeLabel = (label: string, at: Date): Buffer =>
  encodeShort(label, ATTRIBUTE.volume, { firstCluster: 0, sizeBytes: 0, modifiedAt: at });

/** @param parentCluster 0 when the parent is the root @returns the entries `.` and `..` */
export function encodeDots(ownCluster: number, parentCluster: number, at: Date): Buffer {
  const dot = (text: string, firstCluster: number): Buffer =>
    encodeShort(text.padEnd(11), ATTRIBUTE.directory, { firstCluster, sizeBytes: 0, modifiedAt: at });
  return Buffer.concat([dot('.', ownCluster), dot('..', parentCluster)]);
}

function encodeShort(
  short: string,
  attribute: number,
  { firstCluster, sizeBytes, modifiedAt }: Pick<Entry, 'firstCluster' | 'sizeBytes' | 'modifiedAt'>,
): Buffer {
  const entry = Buffer.alloc(ENTRY_BYTES);
  const { date, time } = encodeTime(modifiedAt);
  entry.write(short, 0, 'latin1');
  entry.writeUInt8(attribute, 11);
  entry.writeUInt16LE(time, 14);
  entry.writeUInt16LE(date, 16);
  entry.writeUInt16LE(date, 18);
  entry.writeUInt16LE(firstCluster >>> 16, 20);
  entry.writeUInt16LE(time, 22);
  entry.writeUInt16LE(date, 24);
  entry.writeUInt16LE(firstCluster & 0xffff, 26);
  entry.writeUInt32LE(sizeBytes, 28);
  return entry;
}

/** FAT knows local time in steps of 2 s from 1980 on; UTC keeps the bytes the same everywhere. */
function encodeTime(at: Date): { date: number; time: number } {
  const year = Math.min(Math.max(at.getUTCFullYear(), 1980), 2107);
  return {
    date: ((year - 1980) << 9) | ((at.getUTCMonth() + 1) << 5) | at.getUTCDate(),
    time: (at.getUTCHours() << 11) | (at.getUTCMinutes() << 5) | (at.getUTCSeconds() >> 1),
  };
}
