/** Changes of a sound image: of its header, tables, packed data and size, by what they mean and by chance. */
import { deflateRawSync, zstdCompressSync } from 'node:zlib';
import type { Random } from '../random.ts';
import { backingName } from './backing-names.ts';
import type { SoundChain, SoundFile } from './corpus.ts';
import type { Sites } from './sites.ts';

type Mutation = (random: Random, sound: SoundFile, chain: SoundChain) => void;
type Qcow2Mutation = (random: Random, file: SoundFile['file'], sites: Sites) => void;

const U32_FIELDS = [0, 4, 16, 20, 32, 36, 56, 60, 96, 100];
const U64_FIELDS = [8, 24, 40, 48, 64, 72, 80, 88];
const U32_VALUES = [
  0, 1, 2, 3, 4, 8, 9, 12, 16, 20, 21, 22, 31, 32, 63, 64, 104, 112, 1023, 1024, 65_535, 65_536,
];
const U32_LIMITS = [2 ** 22, 2 ** 22 + 1, 2 ** 24, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const U64_LIMITS = [
  0n,
  1n,
  511n,
  512n,
  2n ** 31n,
  2n ** 32n,
  2n ** 52n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 56n - 512n,
  2n ** 62n,
  2n ** 63n,
  2n ** 64n - 1n,
];

const offsetIn = (random: Random, file: SoundFile['file'], alignment: number): bigint =>
  BigInt(random.below(Math.ceil(file.soundSizeBytes / alignment) + 2) * alignment);

const headerNumber: Qcow2Mutation = (random, file) => {
  const value = random.pick([
    () => random.pick(U32_VALUES),
    () => random.pick(U32_LIMITS),
    () => random.u32(),
  ])();
  file.u32(random.pick(U32_FIELDS), value);
};

const headerOffset: Qcow2Mutation = (random, file, sites) => {
  const value = random.pick([
    () => random.pick(U64_LIMITS),
    () => offsetIn(random, file, sites.clusterBytes),
    () => offsetIn(random, file, 1),
    () => BigInt(file.soundSizeBytes + random.below(3) - 1),
    () => BigInt(random.below(2 ** 20)) * 512n,
  ])();
  file.u64(random.pick(U64_FIELDS), value);
};

/** The disk's size together with an L1 table that is claimed to be large enough. */
const diskSize: Qcow2Mutation = (random, file, sites) => {
  const perEntry = (sites.clusterBytes / sites.entryBytes) * sites.clusterBytes;
  const entries = random.below(random.pick([2, 100, 2 ** 12, 2 ** 22 + 2]));
  file.u64(24, BigInt(Math.min(entries * perEntry, 2 ** 60)) + BigInt(random.below(1024) - 512));
  file.u32(36, entries + random.below(3) - 1);
  if (random.oneIn(2)) file.sizeBytes = random.pick([2 ** 26, 2 ** 40, 2 ** 52]);
};

const feature: Qcow2Mutation = (random, file) => {
  const at = random.pick([72, 72, 72, 80, 88]);
  const bit = random.oneIn(3) ? random.below(64) : random.below(5);
  file.u64(at, file.bytes.readBigUInt64BE(at) ^ (1n << BigInt(bit)));
  if (random.oneIn(2)) file.u8(104, random.below(4));
};

const EXTENSION_TYPES = [0xe2792aca, 0x6803f857, 0x23852875, 0x0537be77, 0x44415441, 0xdeadbeef, 0];

const extension: Qcow2Mutation = (random, file, sites) => {
  const at = random.oneIn(2) ? sites.headerBytes : Math.max(sites.headerBytes, sites.extensionsEnd - 8);
  const type = random.pick(EXTENSION_TYPES);
  const length = random.pick([0, 1, 5, 7, 8, 15, 16, 48, 96, 144, random.below(70_000), random.u32()]);
  file.u32(at, type);
  file.u32(at + 4, length);
  const body = random.oneIn(2)
    ? Buffer.from(random.pick(['qcow2', 'raw', 'vmdk', 'QCOW2', '']))
    : random.bytes(16);
  if (random.oneIn(2)) file.write(at + 8, body);
};

/** Puts a backing name behind the extensions, mostly with a format. */
const backing: Qcow2Mutation = (random, file, sites) => {
  const name = backingName(random);
  let at = sites.headerBytes;
  if (!random.oneIn(8)) {
    const format = random.pick(['qcow2', 'qcow2', 'raw', 'luks', '']);
    file.u32(at, 0xe2792aca);
    file.u32(at + 4, format.length);
    file.write(at + 8, Buffer.from(format.padEnd(8, '\0')));
    at += 8 + Math.ceil(format.length / 8) * 8;
  }
  file.u32(at, 0);
  file.u32(at + 4, 0);
  file.u64(8, BigInt(at + 8));
  file.u32(16, random.oneIn(10) ? random.below(2000) : name.length);
  file.write(at + 8, name);
};

function entryValue(random: Random, file: SoundFile['file'], sites: Sites): bigint {
  const place = random.pick([
    () => offsetIn(random, file, sites.clusterBytes),
    () => offsetIn(random, file, sites.clusterBytes),
    () => offsetIn(random, file, 512),
    () => 0n,
    () => random.pick(U64_LIMITS),
    () => BigInt(random.pick(sites.l2Tables.length > 0 ? sites.l2Tables : [0])),
    () => BigInt(sites.l1At),
  ])();
  const flags = random.pick([
    0n,
    2n ** 63n,
    2n ** 63n,
    1n,
    2n ** 63n + 1n,
    2n ** 62n,
    2n ** 62n + 2n ** 55n,
    2n ** 56n,
  ]);
  return place | flags;
}

const l1Entry: Qcow2Mutation = (random, file, sites) => {
  const count = random.oneIn(4) ? sites.l1Entries : 1;
  const first = count === 1 ? random.below(sites.l1Entries) : 0;
  const value = entryValue(random, file, sites);
  for (let index = first; index < first + Math.min(count, 4096); index += 1)
    file.u64(sites.l1At + index * 8, value);
};

const l2Entry: Qcow2Mutation = (random, file, sites) => {
  const table = sites.l2Tables.length > 0 ? random.pick(sites.l2Tables) : sites.l1At;
  const used = sites.usedEntries.length > 0 && !random.oneIn(4) ? random.pick(sites.usedEntries) : null;
  const at = used ?? table + random.below(sites.clusterBytes / sites.entryBytes) * sites.entryBytes;
  if (!random.oneIn(3) || !sites.isExtended) file.u64(at, entryValue(random, file, sites));
  if (sites.isExtended && !random.oneIn(3)) {
    const zero = random.oneIn(2) ? random.u32() : 0;
    file.u32(at + 8, zero);
    file.u32(at + 12, random.oneIn(3) ? random.u32() : (random.u32() & ~zero) >>> 0);
  }
};

/** A table full of two entries in turns: as many runs as can be. */
const stripes: Qcow2Mutation = (random, file, sites) => {
  if (sites.l2Tables.length === 0) return;
  const table = random.pick(sites.l2Tables);
  const values = [entryValue(random, file, sites), random.oneIn(2) ? 0n : entryValue(random, file, sites)];
  const bytes = Buffer.from(new Uint8Array(Math.min(sites.clusterBytes, random.oneIn(8) ? 65_536 : 2048)));
  for (let at = 0, turn = 0; at < bytes.length; at += sites.entryBytes, turn += 1) {
    bytes.writeBigUInt64BE(BigInt.asUintN(64, values[turn % 2] ?? 0n), at);
    if (sites.isExtended) bytes.writeBigUInt64BE(0x5555_5555_aaaa_aaaan, at + 8);
  }
  file.write(table, bytes);
};

const zeros = Buffer.alloc(8 * 2 ** 20);
/** Small data that unpacks to far more than a cluster, or to nothing, or to many small frames. */
const BOMBS = [
  deflateRawSync(zeros),
  deflateRawSync(Buffer.alloc(0)),
  deflateRawSync(zeros.subarray(0, 4096)),
  zstdCompressSync(zeros),
  zstdCompressSync(Buffer.alloc(0)),
  Buffer.concat(Array.from({ length: 80 }, () => zstdCompressSync(Buffer.alloc(1)))),
  Buffer.concat(Array.from({ length: 80 }, () => zstdCompressSync(Buffer.alloc(0)))),
  // A skippable frame, and one that announces 2^64 - 1 bytes.
  Buffer.from('502a4d1804000000aaaaaaaa', 'hex'),
  Buffer.from('28b52ffde0ffffffffffffffff010000', 'hex'),
  // A window of 2^41 bytes.
  Buffer.from('28b52ffd00f8010000', 'hex'),
];

const packedData: Qcow2Mutation = (random, file, sites) => {
  if (sites.packed.length === 0) return;
  const { entryAt, dataAt, bytes } = random.pick(sites.packed);
  const kind = random.below(4);
  if (kind === 0) file.write(dataAt, random.pick(BOMBS));
  if (kind === 1) file.u8(dataAt + random.below(Math.min(bytes, 24)), random.u32());
  if (kind === 2) file.u8(dataAt + random.below(bytes), random.u32());
  if (kind === 3) {
    const sectorBits = BigInt(Math.log2(sites.clusterBytes) - 8);
    const offsetBits = 62n - sectorBits;
    const sectors = BigInt(random.below(2 ** Number(sectorBits)));
    const place = random.oneIn(2) ? BigInt(dataAt) : offsetIn(random, file, 1);
    file.u64(entryAt, (2n ** 62n) | (sectors << offsetBits) | (place & ((1n << offsetBits) - 1n)));
  }
};

const anyByte: Mutation = (random, { file, sites }) => {
  const near =
    sites === null ? 0 : random.pick([0, sites.l1At, ...sites.l2Tables.slice(0, 2), sites.snapshotsAt]);
  const at = random.oneIn(6) ? random.below(file.soundSizeBytes) : near + random.below(160);
  if (random.oneIn(2)) file.u8(at, random.u32());
  else file.u8(at, (file.bytes[at] ?? 0) ^ (1 << random.below(8)));
};

/** Bytes of one place at another. */
const splice: Mutation = (random, { file }) => {
  const length = 1 + random.below(random.oneIn(4) ? 512 : 32);
  const from = random.below(Math.min(file.soundSizeBytes, 2 ** 20));
  file.write(
    random.below(Math.min(file.soundSizeBytes, 2 ** 20)),
    Buffer.from(file.bytes.subarray(from, from + length)),
  );
};

const fileSize: Mutation = (random, { file }) => {
  file.sizeBytes = random.pick([
    () => random.below(file.soundSizeBytes + 1),
    () => random.below(256),
    () => Math.max(0, file.soundSizeBytes - random.below(5000)),
    () => file.soundSizeBytes + random.below(65_536),
    () => random.pick([2 ** 30 + 1, 2 ** 44, 2 ** 52 + 512, 2 ** 53 - 1]),
  ])();
};

/** One file under two names: what a loop looks like to the reader. */
const twin: Mutation = (random, { file }, chain) => {
  file.inode = random.pick(chain.files).file.inode;
};

const onlyQcow2 =
  (mutation: Qcow2Mutation): Mutation =>
  (random, sound) => {
    if (sound.sites !== null) mutation(random, sound.file, sound.sites);
  };

/** Weighted: a mutation stands as often as it is to be chosen. */
const MUTATIONS: readonly Mutation[] = [
  ...[headerNumber, headerNumber, headerOffset, headerOffset, diskSize, feature, extension, backing, backing],
  ...[l1Entry, l1Entry, l2Entry, l2Entry, l2Entry, l2Entry, stripes, packedData, packedData, packedData],
].map(onlyQcow2);
const ALL = [...MUTATIONS, anyByte, anyByte, anyByte, splice, fileSize, twin];

/** Changes the chain's files until they are restored. */
export function mutate(random: Random, chain: SoundChain): void {
  for (let left = 1 + random.below(random.oneIn(4) ? 8 : 3); left > 0; left -= 1) {
    const sound = random.oneIn(3) ? random.pick(chain.files) : chain.files[0];
    random.pick(ALL)(random, sound, chain);
  }
}
