/** The ways in which the tests bend a sound image, and the error that each must end in. */
import { open, truncate } from 'node:fs/promises';

/** Bytes written over a copy of a sound image: an offset in the header, or one read from it. */
export interface Bend {
  readonly name: string;
  readonly options?: string;
  readonly bend: (image: Patcher) => Promise<void>;
  readonly code: 'ImageCorrupt' | 'ImageUnsupported' | 'BackingFormatMissing';
  readonly says: RegExp;
}

/** Writes into an image file in place. */
export class Patcher {
  readonly path: string;
  constructor(path: string) {
    this.path = path;
  }
  async write(at: number, bytes: Buffer): Promise<void> {
    const file = await open(this.path, 'r+');
    await file.write(bytes, 0, bytes.length, at);
    await file.close();
  }
  u8 = (at: number, value: number): Promise<void> => this.write(at, Buffer.of(value));
  async u32(at: number, value: number): Promise<void> {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    await this.write(at, bytes);
  }
  async u64(at: number, value: bigint): Promise<void> {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    await this.write(at, bytes);
  }
  async readU64(at: number): Promise<bigint> {
    const file = await open(this.path, 'r');
    const { buffer } = await file.read(Buffer.alloc(8), 0, 8, at);
    await file.close();
    return buffer.readBigUInt64BE();
  }
  l1 = async (): Promise<number> => Number(await this.readU64(40));
  l2 = async (): Promise<number> => Number((await this.readU64(await this.l1())) & 0x00ffffffffff_fe00n);
}

/** Patches go to different places, so their order does not matter. */
async function all(...patches: Promise<void>[]): Promise<void> {
  await Promise.all(patches);
}

const HUGE = 0x00ff_ffff_ffff_0000n;
export const bends: readonly Bend[] = [
  { name: 'another magic', bend: i => i.u32(0, 1), code: 'ImageUnsupported', says: /not a qcow2 image/ },
  { name: 'qcow version 1', bend: i => i.u32(4, 1), code: 'ImageUnsupported', says: /version 1/ },
  { name: 'qcow version 4', bend: i => i.u32(4, 4), code: 'ImageUnsupported', says: /version 4/ },
  { name: 'clusters of 256 bytes', bend: i => i.u32(20, 8), code: 'ImageCorrupt', says: /cluster_bits is 8/ },
  { name: 'clusters of 4 MiB', bend: i => i.u32(20, 22), code: 'ImageCorrupt', says: /cluster_bits is 22/ },
  {
    name: 'cluster_bits of 2^31',
    bend: i => i.u32(20, 0x80000000),
    code: 'ImageCorrupt',
    says: /cluster_bits/,
  },
  { name: 'a header of 80 bytes', bend: i => i.u32(100, 80), code: 'ImageCorrupt', says: /header of 80/ },
  {
    name: 'a header of 4 GiB',
    bend: i => i.u32(100, 0xffffffff),
    code: 'ImageCorrupt',
    says: /header of 4294967295/,
  },
  { name: 'AES encryption', bend: i => i.u32(32, 1), code: 'ImageUnsupported', says: /encrypted/ },
  { name: 'LUKS encryption', bend: i => i.u32(32, 2), code: 'ImageUnsupported', says: /encrypted/ },
  { name: 'the corrupt bit', bend: i => i.u8(79, 2), code: 'ImageCorrupt', says: /corrupt bit/ },
  {
    name: 'an external data file',
    bend: i => i.u8(79, 4),
    code: 'ImageUnsupported',
    says: /external data file/,
  },
  { name: 'an unknown feature', bend: i => i.u8(72, 0x80), code: 'ImageUnsupported', says: /feature 63/ },
  {
    name: 'a compression bit without a type',
    bend: i => i.u8(79, 8),
    code: 'ImageCorrupt',
    says: /contradict/,
  },
  {
    name: 'a compression type without its bit',
    bend: i => i.u8(104, 1),
    code: 'ImageCorrupt',
    says: /contradict/,
  },
  {
    name: 'an unknown compression',
    bend: i => all(i.u8(79, 8), i.u8(104, 9)),
    code: 'ImageUnsupported',
    says: /compression type 9/,
  },
  {
    name: 'extended L2 with small clusters',
    options: 'cluster_size=4096',
    bend: i => i.u8(79, 16),
    code: 'ImageCorrupt',
    says: /extended L2/,
  },
  { name: 'a disk of 2^63 bytes', bend: i => i.u64(24, 1n << 63n), code: 'ImageCorrupt', says: /disk of/ },
  {
    name: 'a disk larger than its L1',
    bend: i => i.u64(24, 1n << 40n),
    code: 'ImageCorrupt',
    says: /too few/,
  },
  {
    name: 'an L1 of 32 GiB',
    bend: i => i.u32(36, 0xffffffff),
    code: 'ImageCorrupt',
    says: /more than 32 MiB/,
  },
  { name: 'an L1 beyond the file', bend: i => i.u64(40, HUGE), code: 'ImageCorrupt', says: /L1 table/ },
  { name: 'an L1 at nothing', bend: i => i.u64(40, 0n), code: 'ImageCorrupt', says: /L1 table lies outside/ },
  { name: 'an L1 between clusters', bend: i => i.u64(40, 12345n), code: 'ImageCorrupt', says: /boundary/ },
  {
    name: 'an L1 longer than the file',
    bend: i => i.u32(36, 4_000_000),
    code: 'ImageCorrupt',
    says: /L1 table lies/,
  },
  { name: 'no refcount table', bend: i => i.u32(56, 0), code: 'ImageCorrupt', says: /refcount table of 0/ },
  {
    name: 'a huge refcount table',
    bend: i => i.u32(56, 0xffffffff),
    code: 'ImageCorrupt',
    says: /refcount table/,
  },
  {
    name: 'a refcount table beyond',
    bend: i => i.u64(48, HUGE),
    code: 'ImageCorrupt',
    says: /refcount table/,
  },
  { name: 'refcounts of 2^9 bits', bend: i => i.u32(96, 9), code: 'ImageCorrupt', says: /refcounts of/ },
  { name: '4 billion snapshots', bend: i => i.u32(60, 0xffffffff), code: 'ImageCorrupt', says: /snapshots/ },
  {
    name: 'snapshots beyond the file',
    bend: i => all(i.u32(60, 1), i.u64(64, HUGE)),
    code: 'ImageCorrupt',
    says: /snapshot/,
  },
  {
    name: 'an extension without an end',
    bend: i => i.u32(116, 0xfffffff0),
    code: 'ImageCorrupt',
    says: /overruns/,
  },
  {
    name: 'a backing name beyond the first cluster',
    bend: i => all(i.u64(8, 65_530n), i.u32(16, 100)),
    code: 'ImageCorrupt',
    says: /backing file name of 100/,
  },
  {
    name: 'a backing name of 2000 bytes',
    bend: i => all(i.u64(8, 1024n), i.u32(16, 2000)),
    code: 'ImageCorrupt',
    says: /backing file name of 2000/,
  },
  {
    name: 'a backing name with a NUL',
    bend: i => all(i.u64(8, 4096n), i.u32(16, 3), i.write(4096, Buffer.from('a\0b'))),
    code: 'ImageCorrupt',
    says: /not text/,
  },
  {
    name: 'a backing name without a format',
    bend: i => all(i.u64(8, 4096n), i.u32(16, 6), i.write(4096, Buffer.from('x.qcow'))),
    code: 'BackingFormatMissing',
    says: /without a format/,
  },
  {
    name: 'an L2 beyond the file',
    bend: async i => i.u64(await i.l1(), HUGE),
    code: 'ImageCorrupt',
    says: /L1 entry 0/,
  },
  {
    name: 'an L2 between clusters',
    bend: async i => i.u64(await i.l1(), 0x50200n),
    code: 'ImageCorrupt',
    says: /L1 entry 0/,
  },
  {
    name: 'data beyond the file',
    bend: async i => i.u64(await i.l2(), HUGE),
    code: 'ImageCorrupt',
    says: /L2 entry/,
  },
  {
    name: 'data between clusters',
    bend: async i => i.u64(await i.l2(), 0x50200n),
    code: 'ImageCorrupt',
    says: /L2 entry/,
  },
  {
    name: 'a zero flag in version 2',
    options: 'compat=0.10',
    bend: async i => i.u64(await i.l2(), 1n),
    code: 'ImageCorrupt',
    says: /zero flag/,
  },
  {
    name: 'packed data beyond the file',
    bend: async i => i.u64(await i.l2(), 0x4000_0000_7fff_0000n),
    code: 'ImageCorrupt',
    says: /compressed cluster/,
  },
  {
    name: 'packed data that is none',
    bend: async i => all(i.write(512, Buffer.alloc(512, 0xff)), i.u64(await i.l2(), 0x4000_0000_0000_0200n)),
    code: 'ImageCorrupt',
    says: /is broken/,
  },
  {
    name: 'a subcluster both zero and allocated',
    options: 'extended_l2=on',
    bend: async i => i.u64((await i.l2()) + 8, 0xffffffff_ffffffffn),
    code: 'ImageCorrupt',
    says: /both allocated and zero/,
  },
  {
    name: 'allocated subclusters of no cluster',
    options: 'extended_l2=on',
    bend: async i => i.u64(await i.l2(), 0n),
    code: 'ImageCorrupt',
    says: /without a cluster/,
  },
  {
    name: 'a file cut inside the header',
    bend: i => truncate(i.path, 90),
    code: 'ImageCorrupt',
    says: /ends inside/,
  },
  {
    name: 'a file cut after the header',
    bend: i => truncate(i.path, 70_000),
    code: 'ImageCorrupt',
    says: /outside the file/,
  },
  { name: 'an empty file', bend: i => truncate(i.path, 0), code: 'ImageUnsupported', says: /not a qcow2/ },
];
