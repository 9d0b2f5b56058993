import { mkdtemp, open, readdir, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { JournalDamagedError } from '../../../src/images/cdp/errors.ts';
import { JournalReader } from '../../../src/images/cdp/journal-reader.ts';
import { openTail } from '../../../src/images/cdp/journal-tail.ts';
import { JournalWriter } from '../../../src/images/cdp/journal-writer.ts';
import type { JournalRecord, NewRecord } from '../../../src/images/cdp/record.ts';
import { SEGMENT_HEADER_BYTES, segmentPath } from '../../../src/images/cdp/segment.ts';

const SEGMENT_BYTES = 2 * 1024 * 1024;
const identity = {
  epoch: '0b9ff0cf-2c2a-4f0e-9a36-5f0a4f9f2a11',
  host: 'web-01',
  disk: 'vda',
  virtualSizeBytes: 1 << 30,
};
const start = { sequence: 100, timeUs: 1_700_000_000_000_000 };

let directory: string;
const remove = () => rm(directory, { recursive: true });
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'offsite-journal-'));
});
afterEach(remove);

const create = () => JournalWriter.create({ directory, identity, segmentBytes: SEGMENT_BYTES }, start);

const writeOf = (sequence: number, bytes: Buffer, offset = sequence * 4096): NewRecord => ({
  type: 'write',
  sequence: start.sequence + sequence,
  timeUs: start.timeUs + sequence,
  offset,
  length: bytes.length,
  payload: bytes,
});

const checkpointOf = (sequence: number, name = ''): NewRecord => ({
  type: 'checkpoint',
  sequence: start.sequence + sequence,
  timeUs: start.timeUs + sequence,
  offset: 0,
  length: Buffer.byteLength(name),
  payload: Buffer.from(name),
});

async function readAll(): Promise<readonly JournalRecord[]> {
  const reader = await JournalReader.open(directory);
  const all: JournalRecord[] = [];
  for (let some = await reader.next(); some.length > 0; some = await reader.next()) all.push(...some);
  try {
    await reader.assertEnd();
  } finally {
    await reader.close();
  }
  return all;
}

/** Writes `count` records of 1000 bytes; every tenth call is synced. */
async function fill(writer: JournalWriter, count: number, from = 1, syncEach = 10): Promise<void> {
  for (let sequence = from; sequence < from + count; sequence += 1) {
    await writer.append(writeOf(sequence, Buffer.alloc(1000, sequence)));
    if (sequence % syncEach === 0) await writer.sync();
  }
}

async function overwrite(hostOffset: number, bytes: Buffer, segment = 0): Promise<void> {
  const file = await open(segmentPath(directory, segment), 'r+');
  await file.write(bytes, 0, bytes.length, hostOffset);
  await file.close();
}

describe('a CDP journal', () => {
  it('gives back what was appended, in order, over many segments', async () => {
    const writer = await create();
    const records: NewRecord[] = [];
    for (let sequence = 1; sequence <= 900; sequence += 1) {
      const kind = sequence % 5;
      if (kind === 0) records.push(checkpointOf(sequence, sequence % 50 === 0 ? `before-${sequence}` : ''));
      else if (kind === 1) {
        records.push({ ...checkpointOf(sequence), type: 'zero', offset: 4096, length: 2 ** 40 });
      } else records.push(writeOf(sequence, Buffer.alloc(sequence * 20, sequence)));
    }
    await Promise.all(records.map(record => writer.append(record)));
    await writer.close();
    expect(writer.durable).toEqual(writer.written);
    expect(writer.written.segment).toBeGreaterThan(1);

    const read = await readAll();
    expect(
      read.map(({ type, sequence, timeUs, offset, length, payload }) => ({
        type,
        sequence,
        timeUs,
        offset,
        length,
        payload,
      })),
    ).toEqual(records);
    expect(read.map(({ index }) => index)).toEqual(records.map((_, index) => index));
    expect(await readdir(directory)).toHaveLength(writer.written.segment + 1);
  });

  it('is read while it is written, from any place', async () => {
    const writer = await create();
    const reader = await JournalReader.open(directory);
    expect(await reader.next()).toEqual([]);
    await fill(writer, 3);
    expect((await reader.next()).map(({ index }) => index)).toEqual([0, 1, 2]);
    const { place } = reader;
    await fill(writer, 4000, 4, 500);
    let seen = 0;
    for (let some = await reader.next(); some.length > 0; some = await reader.next()) seen += some.length;
    expect(seen).toBe(4000);
    expect(reader.place).toEqual(writer.written);
    const again = JournalReader.at(directory, place);
    expect((await again.next())[0]?.sequence).toBe(start.sequence + 4);
    await Promise.all([reader.close(), again.close(), writer.close()]);
  });

  it('does not come back to what was refused: a record of the past', async () => {
    const writer = await create();
    await writer.append(writeOf(5, Buffer.alloc(8)));
    expect(() => writer.append(writeOf(5, Buffer.alloc(8)))).toThrow(RangeError);
    expect(() => writer.append({ ...writeOf(6, Buffer.alloc(8)), length: 9 })).toThrow(RangeError);
    await writer.close();
    expect(await readAll()).toHaveLength(1);
  });
});

describe('the end of a journal', () => {
  it('is where a record is torn: what the writer had not made durable', async () => {
    const writer = await create();
    await fill(writer, 50);
    const durable = writer.durable;
    await writer.append(writeOf(51, Buffer.alloc(5000, 1)));
    await writer.append(writeOf(52, Buffer.alloc(5000, 2)));
    // The first page of record 51 never reached the disk, the later ones did.
    await overwrite(durable.hostOffset, Buffer.alloc(100));
    expect((await readAll()).at(-1)?.sequence).toBe(start.sequence + 50);
    await writer.close();
  });

  it('is damage where later records tell that it was durable', async () => {
    const writer = await create();
    await fill(writer, 50);
    const reader = await JournalReader.open(directory);
    await reader.next();
    await reader.close();
    await writer.close();
    // Record 20, within its payload.
    const recordBytes = 72 + 1000;
    await overwrite(SEGMENT_HEADER_BYTES + 20 * recordBytes + 500, Buffer.from([0xff]));
    const error = await readAll().catch(caught => caught);
    expect(error).toBeInstanceOf(JournalDamagedError);
    expect(error.from).toMatchObject({ index: 20, sequence: start.sequence + 20 });
    // Records written after the third sync know of it.
    expect(error.to).toMatchObject({ index: 30, sequence: start.sequence + 31 });
    expect(error.message).toContain('damaged from record 20');
  });

  it('is damage where a later segment exists, or the number of durable records is known', async () => {
    const writer = await create();
    await fill(writer, 4000, 1, 10_000);
    await writer.close();
    await overwrite(SEGMENT_BYTES - 4096, Buffer.alloc(4096));
    await expect(readAll()).rejects.toMatchObject({ code: 'JournalDamaged', to: { segment: 1 } });

    await truncate(segmentPath(directory, 1), SEGMENT_HEADER_BYTES);
    const reader = JournalReader.at(directory, {
      ...writer.written,
      segment: 2,
      hostOffset: SEGMENT_HEADER_BYTES,
    });
    await expect(reader.assertEnd(writer.durable.index + 1)).rejects.toMatchObject({ to: null });
    await reader.close();
  });

  it('is not moved by what a guest writes: records of another salt in a payload', async () => {
    const writer = await create();
    await fill(writer, 30);
    await writer.close();
    const file = await open(segmentPath(directory, 0));
    const bytes = Buffer.alloc(20_000);
    await file.read(bytes, 0, bytes.length, SEGMENT_HEADER_BYTES);
    await file.close();
    await remove();

    const victim = await create();
    const planted = writeOf(1, bytes);
    await victim.append(planted);
    const end = victim.written;
    await victim.append(writeOf(2, bytes));
    await victim.close();
    await overwrite(end.hostOffset, Buffer.alloc(8));
    expect(await readAll()).toHaveLength(1);
  });
});

describe('a writer that comes after a crash', () => {
  it('goes on after the torn tail, and nothing of the tail comes back', async () => {
    const writer = await create();
    await fill(writer, 25);
    const { hostOffset } = writer.written;
    await fill(writer, 5, 26, 100);
    await writer.close();
    await overwrite(hostOffset, Buffer.alloc(16));
    const tail = await openTail(directory, 25);
    expect(tail.place).toMatchObject({ index: 25, hostOffset });
    const next = JournalWriter.resume({ directory, identity, segmentBytes: SEGMENT_BYTES }, tail);
    // Shorter than the torn record, so that the old records behind would lie on a boundary.
    await next.append(writeOf(26, Buffer.alloc(1000 - 72)));
    await next.close();
    expect((await readAll()).map(({ sequence }) => sequence - start.sequence)).toEqual(
      Array.from({ length: 26 }, (_, index) => index + 1),
    );
  });

  it('goes on at a segment that ended without a follower', async () => {
    const writer = await create();
    await fill(writer, 4000, 1, 10_000);
    await writer.close();
    expect(writer.written.segment).toBe(2);
    await truncate(segmentPath(directory, 2), 0);
    await truncate(segmentPath(directory, 2), SEGMENT_BYTES);
    const before = (await readAll()).length;
    const tail = await openTail(directory, 0);
    expect(tail.place.segment).toBe(1);
    const next = JournalWriter.resume({ directory, identity, segmentBytes: SEGMENT_BYTES }, tail);
    for (let sequence = 5000; sequence < 5010; sequence += 1) {
      await next.append(writeOf(sequence, Buffer.alloc(1000)));
    }
    await next.close();
    expect(await readAll()).toHaveLength(before + 10);
    expect((await readdir(directory)).sort()).toEqual([0, 1, 2].map(n => segmentPath('', n)));
  });

  it('is refused a journal that is damaged', async () => {
    const writer = await create();
    await fill(writer, 50);
    await writer.close();
    await overwrite(SEGMENT_HEADER_BYTES + 10, Buffer.from([0xff, 0xff]));
    await expect(openTail(directory, 0)).rejects.toMatchObject({
      code: 'JournalDamaged',
      from: { index: 0 },
    });
    await expect(openTail(join(directory, 'none'), 0)).rejects.toThrow();
  });
});
