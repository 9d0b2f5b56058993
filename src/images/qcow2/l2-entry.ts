/**
 * Decodes L1 and L2 table entries.
 * @see QEMU docs/interop/qcow2, "Cluster mapping", "Extended L2 Entries"
 */
import type { PackedCluster } from '../chain-layer.ts';

/** What an entry decoder must know of its image. */
export interface TableShape {
  readonly version: 2 | 3;
  readonly clusterSizeBytes: number;
  readonly extendedL2: boolean;
  /** 32 with extended L2, else 1. */
  readonly unitsPerCluster: number;
  /** The subcluster's size with extended L2, else the cluster's. */
  readonly unitBytes: number;
}

/** Neighbouring units (clusters or subclusters) of one kind within one entry. */
export interface UnitRun {
  readonly kind: 'data' | 'zero' | 'hole';
  readonly units: number;
  /** Where the first unit's bytes lie; -1 unless plain data. */
  readonly hostOffset: number;
  readonly packed: PackedCluster | null;
}

/** Told by the decoders; the caller knows the file and the place. */
export class EntryFault extends Error {}

const COMPRESSED = 0x40000000;
const SECTOR_BYTES = 512;

/** @returns the L2 table's host offset, 0 where the L1 entry is empty @throws {EntryFault} */
export function decodeL1Entry(
  table: Buffer,
  at: number,
  clusterSizeBytes: number,
  fileSizeBytes: number,
): number {
  const high = table.readUInt32BE(at);
  const low = table.readUInt32BE(at + 4);
  const offset = hostOffsetOf(high, low);
  if (offset === 0) return 0;
  if (offset % clusterSizeBytes !== 0)
    throw new EntryFault(`an L2 table at ${offset} is not on a cluster boundary`);
  if (offset + clusterSizeBytes > fileSizeBytes)
    throw new EntryFault(`an L2 table at ${offset} lies outside the file`);
  return offset;
}

/** @param unit the first unit asked for, within the cluster @throws {EntryFault} */
export function decodeL2Entry(
  table: Buffer,
  at: number,
  unit: number,
  shape: TableShape,
  fileSizeBytes: number,
): UnitRun {
  const high = table.readUInt32BE(at);
  const low = table.readUInt32BE(at + 4);
  if ((high & COMPRESSED) !== 0) {
    const packed = decodePacked(table.readBigUInt64BE(at), shape.clusterSizeBytes, fileSizeBytes);
    return { kind: 'data', units: shape.unitsPerCluster - unit, hostOffset: -1, packed };
  }
  const offset = hostOffsetOf(high, low);
  if (shape.extendedL2) return decodeSubclusters(table, at, unit, shape, offset, fileSizeBytes);
  if ((low & 1) !== 0) {
    if (shape.version === 2) throw new EntryFault('a zero flag in a version 2 image');
    checkAligned(offset, shape.clusterSizeBytes);
    return ZERO_CLUSTER;
  }
  if (offset === 0) return HOLE_CLUSTER;
  checkData(offset, shape.clusterSizeBytes, fileSizeBytes);
  return { kind: 'data', units: 1, hostOffset: offset, packed: null };
}

const ZERO_CLUSTER: UnitRun = { kind: 'zero', units: 1, hostOffset: -1, packed: null };
const HOLE_CLUSTER: UnitRun = { kind: 'hole', units: 1, hostOffset: -1, packed: null };

function decodeSubclusters(
  table: Buffer,
  at: number,
  unit: number,
  shape: TableShape,
  offset: number,
  fileSizeBytes: number,
): UnitRun {
  const zeroBits = table.readUInt32BE(at + 8);
  const allocatedBits = table.readUInt32BE(at + 12);
  if ((zeroBits & allocatedBits) !== 0) throw new EntryFault('a subcluster that is both allocated and zero');
  if (offset === 0 && allocatedBits !== 0) throw new EntryFault('allocated subclusters without a cluster');
  checkAligned(offset, shape.clusterSizeBytes);
  const kindAt = (index: number): UnitRun['kind'] => {
    if (((zeroBits >>> index) & 1) === 1) return 'zero';
    return ((allocatedBits >>> index) & 1) === 1 ? 'data' : 'hole';
  };
  const kind = kindAt(unit);
  let units = 1;
  while (unit + units < shape.unitsPerCluster && kindAt(unit + units) === kind) units += 1;
  if (kind !== 'data') return { kind, units, hostOffset: -1, packed: null };
  checkData(offset, shape.clusterSizeBytes, fileSizeBytes);
  return { kind, units, hostOffset: offset + unit * shape.unitBytes, packed: null };
}

function decodePacked(entry: bigint, clusterSizeBytes: number, fileSizeBytes: number): PackedCluster {
  const sectorBits = BigInt(Math.log2(clusterSizeBytes) - 8);
  const offsetBits = 62n - sectorBits;
  const offset = entry & ((1n << offsetBits) - 1n);
  const moreSectors = Number((entry >> offsetBits) & ((1n << sectorBits) - 1n));
  if (offset === 0n || offset >= BigInt(fileSizeBytes)) {
    throw new EntryFault(`a compressed cluster at ${offset} lies outside the file`);
  }
  const hostOffset = Number(offset);
  return { hostOffset, packedBytes: (moreSectors + 1) * SECTOR_BYTES - (hostOffset % SECTOR_BYTES) };
}

/** Bits 9 to 55. Values beyond 2^53 lose low bits; the check against the file's size refuses them all. */
function hostOffsetOf(high: number, low: number): number {
  return (high & 0x00ffffff) * 2 ** 32 + ((low & 0xfffffe00) >>> 0);
}

function checkAligned(offset: number, clusterSizeBytes: number): void {
  if (offset % clusterSizeBytes !== 0)
    throw new EntryFault(`a cluster at ${offset} is not on a cluster boundary`);
}

/** The last cluster of a file may be cut short (its rest is zeros); it must begin inside. */
function checkData(offset: number, clusterSizeBytes: number, fileSizeBytes: number): void {
  checkAligned(offset, clusterSizeBytes);
  if (offset >= fileSizeBytes) throw new EntryFault(`a cluster at ${offset} lies outside the file`);
}
