/** Sound sidecar files of replicas, and how they are bent: their fields, their lengths, with or without the checksum. */
import { ContentDigester, mapDigest } from '../../../src/domain/content-digest.ts';
import { type ExtentKind, type ExtentMap, ExtentMapBuilder } from '../../../src/domain/extent-map.ts';
import { encodeDigestFile } from '../../../src/images/replica/digest-file.ts';
import { encodeMapFile } from '../../../src/images/replica/map-file.ts';
import { CHECKSUM_BYTES, seal } from '../../../src/images/replica/record.ts';
import { createXxh128 } from '../../../src/lib/digest.ts';
import type { Random } from '../random.ts';

const MIB = 2 ** 20;

function makeMap(clusterSizeBytes: number, extents: readonly (readonly [ExtentKind, number])[]): ExtentMap {
  const virtualSizeBytes = extents.reduce((sum, [, length]) => sum + length, 0);
  const builder = new ExtentMapBuilder({ virtualSizeBytes, clusterSizeBytes });
  for (const [kind, length] of extents) builder.add(kind, length);
  return builder.build();
}

export const MAPS: readonly ExtentMap[] = [
  makeMap(4096, [
    ['data', 8192],
    ['hole', 4096],
    ['zero', 4096],
    ['data', 1024],
  ]),
  makeMap(65_536, [
    ['data', 65_536],
    ['hole', 4 * MIB],
    ['data', 131_072],
    ['hole', MIB],
    ['data', 512],
  ]),
  makeMap(
    512,
    Array.from({ length: 60 }, (_, index) => [index % 2 === 0 ? 'data' : 'zero', 512] as const),
  ),
  makeMap(4096, [['hole', 4096 * 5]]),
];

const BACKINGS = [
  null,
  { name: 'base.qcow2', format: 'qcow2' },
  { name: '../x/raw', format: 'raw' },
] as const;
const MAP_FILES = MAPS.flatMap(map => BACKINGS.map(backing => encodeMapFile({ map, backing })));

const DIGEST_FILES = MAPS.map(map => {
  const digester = new ContentDigester(map, createXxh128);
  digester.update(Buffer.alloc(map.dataBytes, 7));
  const contentDigest = digester.finish();
  const { virtualSizeBytes, clusterSizeBytes, dataBytes } = map;
  const head = {
    virtualSizeBytes,
    clusterSizeBytes,
    dataBytes,
    contentDigest,
    mapDigest: mapDigest(map, createXxh128),
  };
  return encodeDigestFile(head, digester.entries);
});

export const SLOT_BYTES = 512;

function progressSlot(map: ExtentMap, sequence: number, durableBytes: number): Buffer {
  const slot = Buffer.alloc(SLOT_BYTES);
  slot.write('OFFSPRG\0', 0, 'latin1');
  slot.writeUInt32LE(1, 8);
  slot.writeBigUInt64LE(BigInt(sequence), 16);
  slot.writeBigUInt64LE(BigInt(durableBytes), 24);
  slot.set(mapDigest(map, createXxh128), 32);
  return seal(slot);
}

/** Of the first map. */
const PROGRESS_FILES = [1024, 4096, 9216].map(durable =>
  Buffer.concat([progressSlot(MAPS[0] as ExtentMap, 4, durable), progressSlot(MAPS[0] as ExtentMap, 3, 512)]),
);

const NUMBERS = [
  0n,
  1n,
  2n,
  4n,
  511n,
  512n,
  4096n,
  2n ** 16n,
  2n ** 20n,
  2n ** 21n,
  2n ** 22n,
  2n ** 26n,
  2n ** 31n,
];
const LIMITS = [
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 52n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 2n,
  2n ** 63n,
  2n ** 64n - 1n,
];

export function bentMapFile(random: Random): Buffer {
  return bend(random, random.pick(MAP_FILES), CHECKSUM_BYTES, whole => seal(whole));
}

export function bentDigestFile(random: Random): Buffer {
  return bend(random, random.pick(DIGEST_FILES), CHECKSUM_BYTES, whole => seal(whole));
}

export function bentProgressFile(random: Random): Buffer {
  return bend(random, random.pick(PROGRESS_FILES), CHECKSUM_BYTES, whole => {
    for (let at = 0; at + SLOT_BYTES <= whole.length; at += SLOT_BYTES)
      seal(whole.subarray(at, at + SLOT_BYTES));
    return whole;
  });
}

/** Mostly with a checksum that is right again, so that what it protects is read. */
function bend(random: Random, sound: Buffer, sealBytes: number, reseal: (bytes: Buffer) => Buffer): Buffer {
  let bytes = Buffer.from(sound);
  for (let left = random.pick([1, 1, 1, 2, 3]); left > 0; left -= 1) bytes = bendOnce(random, bytes);
  return bytes.length > sealBytes && !random.oneIn(4) ? reseal(bytes) : bytes;
}

function bendOnce(random: Random, bytes: Buffer): Buffer<ArrayBuffer> {
  const copy = Buffer.from(bytes);
  const at = random.below(Math.max(1, random.oneIn(3) ? copy.length : Math.min(copy.length, 96)));
  switch (random.below(8)) {
    case 0:
      return copy.subarray(0, random.below(copy.length + 1));
    case 1:
      return Buffer.concat([copy.subarray(0, at), random.bytes(random.below(60)), copy.subarray(at)]);
    case 2:
      return Buffer.concat([
        copy.subarray(0, at),
        copy.subarray(Math.min(copy.length, at + 1 + random.below(40))),
      ]);
    case 3: {
      const from = random.below(copy.length || 1);
      copy.copy(copy, at, from, from + random.below(40));
      return copy;
    }
    case 4:
    case 5:
      if (copy.length > 0) copy[at] = random.u32();
      return copy;
    default:
      return withNumber(random, copy, Math.floor(at / 4) * 4);
  }
}

function withNumber(random: Random, bytes: Buffer<ArrayBuffer>, at: number): Buffer<ArrayBuffer> {
  const value = random.oneIn(3) ? random.pick(LIMITS) : random.pick(NUMBERS);
  if (at + 8 <= bytes.length && random.oneIn(2)) bytes.writeBigUInt64LE(value, at);
  else if (at + 4 <= bytes.length) bytes.writeUInt32LE(Number(value & 0xffff_ffffn), at);
  return bytes;
}
