/** Sound journals of the writer itself, and how their segments are bent: fields, lengths, order, checksums. */
import fs from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JournalWriter } from '../../../src/images/cdp/journal-writer.ts';
import {
  encodeRecordHeader,
  type NewRecord,
  payloadChecksum,
  RECORD_HEADER_BYTES,
  type RecordHeader,
} from '../../../src/images/cdp/record.ts';
import { decodeSegmentHeader, SEGMENT_HEADER_BYTES } from '../../../src/images/cdp/segment.ts';
import { seal } from '../../../src/images/replica/record.ts';
import type { Random } from '../random.ts';

export const VIRTUAL_SIZE_BYTES = 40 * 4096 + 512;
const SEGMENT_BYTES = 2 * 2 ** 20;
const LIMITS = [
  0n,
  1n,
  2n,
  511n,
  512n,
  4096n,
  2n ** 31n,
  2n ** 32n,
  2n ** 52n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 64n - 1n,
];

/** One segment's bytes, up to its last record. */
export interface SoundSegment {
  readonly bytes: Buffer;
  readonly salt: Buffer;
  /** Where its records begin. */
  readonly places: readonly number[];
}

export interface SoundJournal {
  readonly segments: readonly SoundSegment[];
  readonly newestSequence: number;
}

/** Two journals of one segment, and one of three. */
export async function writeJournals(): Promise<readonly SoundJournal[]> {
  const folder = await mkdtemp(join(tmpdir(), 'offsite-hostile-'));
  try {
    return [
      await writeJournal(join(folder, 'a'), 'a', [100, 4096, 512, 5000]),
      await writeJournal(join(folder, 'b'), 'b', [4096]),
      await writeJournal(join(folder, 'c'), 'c', [4096, 512], true),
    ];
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function writeJournal(
  directory: string,
  disk: string,
  lengths: readonly number[],
  hasManySegments = false,
): Promise<SoundJournal> {
  const identity = {
    epoch: '0b9ff0cf-2c2a-4f0e-9a36-5f0a4f9f2a11',
    host: 'h',
    disk,
    virtualSizeBytes: VIRTUAL_SIZE_BYTES,
  };
  const options = { directory, identity, segmentBytes: SEGMENT_BYTES };
  const writer = await JournalWriter.create(options, { sequence: 0, timeUs: 0 });
  let sequence = 0;
  const append = (type: NewRecord['type'], offset: number, length: number, payload = Buffer.alloc(0)) => {
    sequence += 1;
    return writer.append({ type, sequence, timeUs: 1000 * sequence, offset, length, payload });
  };
  for (const [index, length] of lengths.entries()) {
    await append('write', index * 4096 + (index % 2) * 100, length, Buffer.alloc(length, index + 1));
    await append('zero', index * 4096, 700);
    await append('checkpoint', 0, 4, Buffer.from('name'));
    await writer.sync();
    await append('discard', 20 * 4096, 8192);
  }
  if (hasManySegments) {
    // A large write fills a segment: small ones lie around it.
    for (let left = 5; left > 0; left -= 1)
      await append('write', 0, 163_840 - 512, Buffer.alloc(163_328, left));
    for (let left = 20; left > 0; left -= 1) await append('write', 0, 163_328, Buffer.alloc(163_328, left));
    await append('checkpoint', 0, 0);
  }
  await append('checkpoint', 0, 0);
  await writer.close();
  const names = fs.readdirSync(directory).sort();
  const segments = names.map(name => soundSegment(fs.readFileSync(join(directory, name))));
  return { segments: segments.filter(segment => segment !== null), newestSequence: sequence };
}

/** @returns null for one that was only prepared */
function soundSegment(whole: Buffer): SoundSegment | null {
  const header = decodeSegmentHeader('sound', whole.subarray(0, SEGMENT_HEADER_BYTES));
  if (header === null) return null;
  const end = Math.ceil((whole.findLastIndex(byte => byte !== 0) + 1) / 8) * 8;
  const places: number[] = [];
  for (let at = SEGMENT_HEADER_BYTES; at < end; ) {
    places.push(at);
    const [type, length] = [whole[at + 4], Number(whole.readBigUInt64LE(at + 40))];
    const payloadBytes = type === 1 || type === 4 ? length : 0;
    at += Math.ceil((RECORD_HEADER_BYTES + payloadBytes) / 8) * 8;
  }
  return { bytes: Buffer.from(whole.subarray(0, end)), salt: header.salt, places };
}

/** @returns other bytes of the same segment, cut anywhere, mostly with the checksums put right again */
export function bendSegment(random: Random, { bytes: sound, salt, places }: SoundSegment): Buffer {
  let bytes: Buffer = Buffer.from(sound);
  for (let left = random.pick([0, 1, 1, 1, 2, 4]); left > 0; left -= 1) {
    bytes = random.oneIn(4) ? bendHead(random, bytes) : bendRecord(random, bytes, salt, places);
  }
  return bytes;
}

function bendHead(random: Random, bytes: Buffer): Buffer {
  const head = bytes.subarray(0, SEGMENT_HEADER_BYTES);
  if (head.length < SEGMENT_HEADER_BYTES) return bytes;
  const at = random.pick([0, 8, 12, 16, 32, 40, 48, 56, 64, 72, 80, 144, 4000]);
  if (random.oneIn(2)) head.writeBigUInt64LE(random.pick(LIMITS), at);
  else head[at + random.below(8)] = random.u32();
  if (!random.oneIn(6)) seal(head);
  return random.oneIn(12) ? bytes.subarray(0, random.below(bytes.length)) : bytes;
}

function bendRecord(random: Random, bytes: Buffer, salt: Buffer, places: readonly number[]): Buffer {
  const at = random.pick(places);
  if (at + RECORD_HEADER_BYTES > bytes.length) return bytes;
  switch (random.below(8)) {
    case 0:
      return bytes.subarray(0, at + random.below(RECORD_HEADER_BYTES + 8));
    case 1: {
      const place = random.below(bytes.length);
      bytes[place] = (bytes[place] ?? 0) ^ (1 << random.below(8));
      return bytes;
    }
    case 2: {
      const from = random.pick(places);
      if (from < bytes.length)
        bytes.copy(bytes, at, from, Math.min(from + RECORD_HEADER_BYTES, bytes.length));
      return bytes;
    }
    case 3:
      return Buffer.from(
        Buffer.concat([bytes.subarray(0, at), random.bytes(8 * random.below(20)), bytes.subarray(at)]),
      );
    default: {
      const header = bytes.subarray(at, at + RECORD_HEADER_BYTES);
      const place = random.pick([4, 8, 16, 24, 32, 40, 48, 56]);
      if (place === 4) header[4] = random.below(7);
      else if (random.oneIn(4)) header[place + random.below(8)] = random.u32();
      else
        header.writeBigUInt64LE(random.oneIn(2) ? random.pick(LIMITS) : BigInt(random.below(300_000)), place);
      if (!random.oneIn(6)) sealRecord(bytes, at, salt);
      return bytes;
    }
  }
}

const TYPES = ['write', 'zero', 'discard', 'checkpoint', 'end'] as const;

/** Puts the checksums right, as far as the numbers can be written at all. */
function sealRecord(bytes: Buffer, at: number, salt: Buffer): void {
  const head = bytes.subarray(at, at + RECORD_HEADER_BYTES);
  const [index, sequence, timeUs, offset, length] = [8, 16, 24, 32, 40].map(place =>
    Number(head.readBigUInt64LE(place)),
  ) as [number, number, number, number, number];
  const type = TYPES[(head[4] ?? 0) - 1] ?? 'write';
  const hasPayload = type === 'write' || type === 'checkpoint';
  const payload = bytes.subarray(
    at + RECORD_HEADER_BYTES,
    at + RECORD_HEADER_BYTES + (hasPayload ? length : 0),
  );
  const header: RecordHeader = {
    ...{ type, index, sequence, timeUs, offset, length },
    durableOffset: head.readUInt32LE(48),
    payloadChecksum: Buffer.from(payloadChecksum(payload)),
  };
  if ([index, sequence, timeUs, offset, length].some(number => number > 2 ** 63)) return;
  encodeRecordHeader(header, salt).copy(head);
}
