/** Makes a FAT32 file system out of files, on a machine that has no mkfs. */
import { createHash } from 'node:crypto';
import { ClusterAllocator } from './allocation.ts';
import { BACKUP_BOOT_SECTOR, encodeBootSector, encodeInfoSector, INFO_SECTOR } from './boot-sector.ts';
import { ENTRY_BYTES, encodeDots, encodeEntry, encodeLabel } from './directory.ts';
import { FatError } from './fat-error.ts';
import { clusterOffset, FAT_COPIES, type Geometry, planGeometry, SECTOR_BYTES } from './geometry.ts';
import { assignShortNames, type FatName } from './names.ts';
import { SparseVolume } from './sparse-volume.ts';
import { buildTree, type DirectoryNode, type FatFile, type FileNode, walk } from './tree.ts';

export type { FatFile } from './tree.ts';

const LABEL = /^[A-Z0-9_-]{1,11}$/;
const MAX_DIRECTORY_BYTES = 65_536 * ENTRY_BYTES;

export interface FatVolumeOptions {
  readonly files: readonly FatFile[];
  /** A multiple of 64 KiB, 33 MiB at least. */
  readonly sizeBytes: number;
  /** 1 to 11 capital letters, digits, `_` and `-`. */
  readonly label: string;
  /** The time of the label, the directories and the files that have none of their own. */
  readonly at: Date;
}

/**
 * Builds a FAT32 volume with long file names. The same input gives the same bytes, in whatever order the
 * files are given, and a file added or changed alters few clusters.
 * @throws {FatError} for names, sizes or amounts that the format cannot hold
 */
export function buildFatVolume({ files, sizeBytes, label, at }: FatVolumeOptions): SparseVolume {
  if (!LABEL.test(label)) throw new FatError(`"${label}" cannot be the label of a FAT volume`);
  const geometry = planGeometry(sizeBytes);
  const volume = new SparseVolume(sizeBytes);
  const root = buildTree(files);
  const allocator = new ClusterAllocator(geometry);
  const placed = place(root, geometry, allocator);
  for (const [node, { chain, names }] of placed) {
    const content =
      node.kind === 'file' ? node.file.bytes : encodeDirectory(node, names, placed, label.padEnd(11), at);
    writeChain(volume, geometry, chain, content);
  }
  writeSystemArea(volume, geometry, allocator, label.padEnd(11));
  return volume;
}

interface Placement {
  readonly chain: readonly number[];
  /** The names of a directory's children, in their order. */
  readonly names: readonly FatName[];
}
type Placements = ReadonlyMap<FileNode | DirectoryNode, Placement>;

function place(root: DirectoryNode, { clusterBytes }: Geometry, allocator: ClusterAllocator): Placements {
  const placed = new Map<FileNode | DirectoryNode, Placement>();
  for (const node of [root, ...walk(root)]) {
    const names = node.kind === 'directory' ? assignShortNames([...node.children.keys()]) : [];
    const sizeBytes = node.kind === 'file' ? node.file.bytes.length : directoryBytes(node, names);
    if (node.kind === 'file' && sizeBytes > 0xffff_ffff) throw new FatError(`"${node.path}" is too large`);
    placed.set(node, { chain: allocator.allocate(node.path, Math.ceil(sizeBytes / clusterBytes)), names });
  }
  return placed;
}

function directoryBytes(directory: DirectoryNode, names: readonly FatName[]): number {
  // The root has its label, every other directory `.` and `..`.
  const fixedEntries = directory.parent === null ? 1 : 2;
  const longEntries = names.map(name => (name.needsLong ? Math.ceil(name.long.length / 13) : 0));
  const sizeBytes =
    (fixedEntries + names.length + longEntries.reduce((sum, count) => sum + count, 0)) * ENTRY_BYTES;
  if (sizeBytes > MAX_DIRECTORY_BYTES) throw new FatError(`"${directory.path}" holds too many names`);
  return sizeBytes;
}

function encodeDirectory(
  directory: DirectoryNode,
  names: readonly FatName[],
  placed: Placements,
  label: string,
  at: Date,
): Buffer {
  const firstCluster = (node: FileNode | DirectoryNode): number => placed.get(node)?.chain[0] ?? 0;
  const { parent } = directory;
  const parentCluster = parent === null || parent.parent === null ? 0 : firstCluster(parent);
  const head =
    parent === null ? encodeLabel(label, at) : encodeDots(firstCluster(directory), parentCluster, at);
  const entries = [...directory.children.values()].map((node, index) =>
    encodeEntry({
      name: names[index] as FatName,
      kind: node.kind,
      firstCluster: firstCluster(node),
      sizeBytes: node.kind === 'file' ? node.file.bytes.length : 0,
      modifiedAt: node.kind === 'file' ? (node.file.modifiedAt ?? at) : at,
    }),
  );
  return Buffer.concat([head, ...entries]);
}

function writeChain(
  volume: SparseVolume,
  geometry: Geometry,
  chain: readonly number[],
  content: Uint8Array,
): void {
  const { clusterBytes } = geometry;
  chain.forEach((cluster, index) => {
    const piece = content.subarray(index * clusterBytes, (index + 1) * clusterBytes);
    volume.write(clusterOffset(geometry, cluster), piece);
  });
}

function writeSystemArea(
  volume: SparseVolume,
  geometry: Geometry,
  allocator: ClusterAllocator,
  label: string,
): void {
  const serial = createHash('sha256').update(label).digest().readUInt32LE(0);
  for (const first of [0, BACKUP_BOOT_SECTOR]) {
    volume.write(first * SECTOR_BYTES, encodeBootSector(geometry, label, serial));
    volume.write((first + INFO_SECTOR) * SECTOR_BYTES, encodeInfoSector(allocator.freeCount));
  }
  const table = allocator.encode();
  for (let copy = 0; copy < FAT_COPIES; copy += 1) {
    volume.write((geometry.reservedSectors + copy * geometry.tableSectors) * SECTOR_BYTES, table);
  }
}
