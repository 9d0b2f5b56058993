/** Where in a sound qcow2 image the things lie that a mutation aims at. */

export interface Sites {
  readonly clusterBytes: number;
  readonly isExtended: boolean;
  readonly entryBytes: 8 | 16;
  readonly headerBytes: number;
  /** The first byte behind the header's extensions, and where the backing name begins; 0 for none. */
  readonly extensionsEnd: number;
  readonly nameAt: number;
  readonly l1At: number;
  readonly l1Entries: number;
  /** Host offsets of L2 tables. */
  readonly l2Tables: readonly number[];
  /** Host offsets of L2 entries that say something. */
  readonly usedEntries: readonly number[];
  /** Compressed clusters: where the entry is, and where the data. */
  readonly packed: readonly { readonly entryAt: number; readonly dataAt: number; readonly bytes: number }[];
  readonly snapshotsAt: number;
}

const OFFSET_BITS = 0x00ff_ffff_ffff_fe00n;

/** @returns null for a raw image */
export function findSites(bytes: Buffer): Sites | null {
  if (bytes.length < 72 || bytes.readUInt32BE(0) !== 0x514649fb) return null;
  const isV3 = bytes.readUInt32BE(4) === 3;
  const clusterBits = bytes.readUInt32BE(20);
  const clusterBytes = 2 ** clusterBits;
  const isExtended = isV3 && (bytes.readBigUInt64BE(72) & 16n) !== 0n;
  const entryBytes = isExtended ? 16 : 8;
  const headerBytes = isV3 ? bytes.readUInt32BE(100) : 72;
  const l1At = Number(bytes.readBigUInt64BE(40));
  const l1Entries = bytes.readUInt32BE(36);
  const l2Tables: number[] = [];
  const usedEntries: number[] = [];
  const packed: Sites['packed'][number][] = [];
  for (let index = 0; index < l1Entries; index += 1) {
    const table = Number(bytes.readBigUInt64BE(l1At + index * 8) & OFFSET_BITS);
    if (table === 0) continue;
    l2Tables.push(table);
    for (let at = table; at < table + clusterBytes && at + entryBytes <= bytes.length; at += entryBytes) {
      const entry = bytes.readBigUInt64BE(at);
      const isUsed = entry !== 0n || (isExtended && bytes.readBigUInt64BE(at + 8) !== 0n);
      if (isUsed) usedEntries.push(at);
      if ((entry >> 62n) % 2n === 1n) packed.push({ entryAt: at, ...packedAt(entry, clusterBits) });
    }
  }
  return {
    clusterBytes,
    isExtended,
    entryBytes,
    headerBytes,
    extensionsEnd: endOfExtensions(bytes, headerBytes, clusterBytes),
    nameAt: Number(bytes.readBigUInt64BE(8)),
    l1At,
    l1Entries,
    l2Tables,
    usedEntries,
    packed,
    snapshotsAt: Number(bytes.readBigUInt64BE(64)),
  };
}

function packedAt(entry: bigint, clusterBits: number): { dataAt: number; bytes: number } {
  const sectorBits = BigInt(clusterBits - 8);
  const offsetBits = 62n - sectorBits;
  const dataAt = Number(entry & ((1n << offsetBits) - 1n));
  const sectors = Number((entry >> offsetBits) & ((1n << sectorBits) - 1n)) + 1;
  return { dataAt, bytes: sectors * 512 - (dataAt % 512) };
}

function endOfExtensions(bytes: Buffer, start: number, clusterBytes: number): number {
  let at = start;
  while (at + 8 <= Math.min(clusterBytes, bytes.length)) {
    const [type, length] = [bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4)];
    at += 8;
    if (type === 0) break;
    at += Math.ceil(length / 8) * 8;
  }
  return at;
}
