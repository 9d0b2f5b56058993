import { mkdtemp, open, rm, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  openJournalSource,
  type ReadingWindow,
  type SourceRecord,
} from '../../../src/images/cdp/journal-source.ts';
import { JournalWriter } from '../../../src/images/cdp/journal-writer.ts';
import { segmentPath } from '../../../src/images/cdp/segment.ts';
import { IDENTITY, plain, recordOf, recordsOf, SEGMENT_BYTES, START } from './journal-fixtures.ts';

const PAYLOAD = 16_384;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'offsite-journal-'));
});
/** A reading that a test leaves holds its files open. */
const readings: AsyncGenerator[] = [];
afterEach(async () => {
  await Promise.allSettled(readings.splice(0).map(reading => reading.return(undefined)));
  await rm(directory, { recursive: true });
});

const create = () =>
  JournalWriter.create({ directory, identity: IDENTITY, segmentBytes: SEGMENT_BYTES }, START);

async function write(writer: JournalWriter, from: number, to: number, payloadBytes = PAYLOAD): Promise<void> {
  for (const record of recordsOf(from, to, payloadBytes)) await writer.append(record);
  await writer.sync();
}

async function written(count: number): Promise<void> {
  const writer = await create();
  await write(writer, 0, count);
  await writer.close();
}

const sequenceOf = (index: number): number => (index < 0 ? START.sequence : recordOf(index).sequence);
const cutAt = (nextIndex: number) => ({ nextIndex, sequence: sequenceOf(nextIndex - 1) });

interface Control {
  ended: number | null;
  nowMs: number | null;
  looks: number;
}

/** Reads from record `from` on until the window is over. */
async function begin(window: ReadingWindow, control: Partial<Control> = {}) {
  const state: Control = { ended: null, nowMs: null, looks: 0, ...control };
  const source = await openJournalSource({
    ...{ directory, epochUuid: IDENTITY.epoch, host: IDENTITY.host, disk: IDENTITY.disk, window },
    async epochState() {
      state.looks += 1;
      return { endedAtCheckpoint: state.ended };
    },
    nowMs: () => state.nowMs ?? performance.now(),
  });
  return { source, state };
}

async function readFrom(
  from: number,
  window: ReadingWindow,
  control: Partial<Control> = {},
): Promise<SourceRecord[]> {
  const { source } = await begin(window, control);
  const records: SourceRecord[] = [];
  for await (const some of source.read(cutAt(from), new AbortController().signal)) records.push(...some);
  return records;
}

type Reading = AsyncGenerator<readonly SourceRecord[], undefined>;

/** The next records, in however many pieces they come. */
async function take(reading: Reading, count: number): Promise<readonly SourceRecord[]> {
  const records: SourceRecord[] = [];
  while (records.length < count) records.push(...((await reading.next()).value ?? []));
  return records;
}

const upTo = (checkpoint: number): ReadingWindow => ({ checkpoint: sequenceOf(checkpoint), followMs: null });
const follow = (checkpoint: number, followMs: number): ReadingWindow => ({
  checkpoint: sequenceOf(checkpoint),
  followMs,
});

describe('a journal that is read to be sent', () => {
  it('says whose it is, and is read from any record on, over the ends of segments', async () => {
    await written(400);
    const { source } = await begin(upTo(399));
    expect(source.identity).toEqual({
      ...{ epochUuid: IDENTITY.epoch, host: IDENTITY.host, disk: IDENTITY.disk },
      ...{ virtualSizeBytes: IDENTITY.virtualSizeBytes, start: START },
    });
    for (const from of [0, 1, 57, 126, 127, 128, 140, 141, 142, 143, 399]) {
      const records = await readFrom(from, upTo(399));
      expect(records.map(plain), `from ${from}`).toEqual(recordsOf(from, 400, PAYLOAD));
    }
  });

  it('ends right after the checkpoint that is due, and at once when the receiver has it', async () => {
    await written(100);
    expect((await readFrom(0, upTo(49))).length).toBe(50);
    expect((await readFrom(50, upTo(49))).length).toBe(0);
    // The receiver has more than the checkpoint, and stands between two: only a checkpoint is an end.
    expect((await readFrom(55, upTo(49))).map(({ index }) => index)).toEqual([55, 56, 57, 58, 59]);
  });

  it('waits for a checkpoint that is not written yet', async () => {
    const writer = await create();
    await write(writer, 0, 45);
    const reading = readFrom(0, upTo(49));
    await new Promise(resolve => setTimeout(resolve, 100));
    await write(writer, 45, 60);
    expect((await reading).length).toBe(50);
    await writer.close();
  });

  it('is another one than was asked for, or none', async () => {
    await written(10);
    const window = upTo(9);
    const options = {
      directory,
      epochUuid: IDENTITY.epoch,
      host: IDENTITY.host,
      disk: IDENTITY.disk,
      window,
    };
    const epochState = async () => ({ endedAtCheckpoint: null });
    for (const change of [
      { epochUuid: '11111111-2c2a-4f0e-9a36-5f0a4f9f2a11' },
      { disk: 'vdb' },
      { host: 'web-02' },
      { directory: join(directory, 'nowhere') },
    ]) {
      await expect(openJournalSource({ ...options, ...change, epochState })).rejects.toMatchObject({
        code: 'PlanBroken',
      });
    }
  });

  it('is not read on from a record that the receiver has another one before', async () => {
    await written(20);
    const { source } = await begin(upTo(19));
    const reading = source.read({ nextIndex: 5, sequence: 1 }, new AbortController().signal).next();
    await expect(reading).rejects.toMatchObject({ code: 'PlanBroken' });
  });

  it('says so when retention has removed the record that is wanted, and goes on behind it', async () => {
    await written(400);
    await unlink(segmentPath(directory, 0));
    await expect(readFrom(10, upTo(399))).rejects.toMatchObject({
      code: 'PlanBroken',
      message: expect.stringContaining('record 10, which the replica wants, is kept no more'),
    });
    expect((await readFrom(200, upTo(399))).length).toBe(200);
  });
});

describe('a journal that is followed', () => {
  it('gives what is written, soon, until the window is over, and then ends at a checkpoint', async () => {
    const writer = await create();
    await write(writer, 0, 10);
    const { source, state } = await begin(follow(9, 60_000), { nowMs: 0 });
    const records: SourceRecord[] = [];
    const reading = (async () => {
      for await (const some of source.read(cutAt(0), new AbortController().signal)) records.push(...some);
    })();
    for (let from = 10; from < 300; from += 29) {
      await write(writer, from, from + 29);
      while (records.length < from + 29) await new Promise(resolve => setTimeout(resolve, 5));
    }
    state.nowMs = 60_001;
    await write(writer, 300, 330);
    await reading;
    expect(records.map(plain)).toEqual(recordsOf(0, records.length, PAYLOAD));
    expect(records.at(-1)?.type).toBe('checkpoint');
    expect(records.length).toBeGreaterThanOrEqual(300);
    await writer.close();
  });

  it('ends when the window is over while nothing is written', async () => {
    const writer = await create();
    await write(writer, 0, 10);
    const { source, state } = await begin(follow(9, 60_000), { nowMs: 0 });
    const reading = source.read(cutAt(0), new AbortController().signal);
    expect((await take(reading, 10)).length).toBe(10);
    const rest = reading.next();
    state.nowMs = 60_001;
    expect(await rest).toMatchObject({ done: true });
    await writer.close();
  });

  it('never ends before the checkpoint that must have been sent', async () => {
    await written(100);
    const records = await readFrom(0, follow(79, 0));
    expect(records.length).toBe(80);
  });

  it('keeps its window when it is read again over another connection', async () => {
    await written(20);
    const { source, state } = await begin(follow(9, 1_000), { nowMs: 0 });
    const first = source.read(cutAt(0), new AbortController().signal);
    expect((await take(first, 20)).length).toBe(20);
    await first.return(undefined);
    state.nowMs = 1_001;
    const again = source.read(cutAt(10), new AbortController().signal);
    expect(await again.next()).toMatchObject({ done: true });
  });

  it('ends with its epoch, at the newest checkpoint that all disks have', async () => {
    await written(57);
    const records = await readFrom(0, follow(19, 60_000), { ended: sequenceOf(39) });
    expect(records.length).toBe(40);
    // The end of the epoch was noted later than more was sent.
    expect((await readFrom(52, follow(19, 60_000), { ended: sequenceOf(39) })).length).toBe(0);
  });

  it('notices within a second or two that its epoch has ended', async () => {
    const writer = await create();
    await write(writer, 0, 30);
    const { source, state } = await begin(follow(9, 600_000));
    const reading = source.read(cutAt(0), new AbortController().signal);
    expect((await take(reading, 30)).length).toBe(30);
    state.ended = sequenceOf(29);
    expect(await reading.next()).toMatchObject({ done: true });
    expect(state.looks).toBeGreaterThan(1);
    await writer.close();
  });

  it('goes on while the catalog does not answer', async () => {
    await written(30);
    const silent = await openJournalSource({
      ...{ directory, epochUuid: IDENTITY.epoch, host: IDENTITY.host, disk: IDENTITY.disk },
      window: follow(29, 0),
      epochState: () => Promise.reject(new Error('PostgreSQL is away')),
    });
    const reading = silent.read(cutAt(0), new AbortController().signal);
    expect((await take(reading, 30)).length).toBe(30);
    await reading.return(undefined);
  });

  it('stops when it is told to', async () => {
    const writer = await create();
    const { source } = await begin(follow(9, 600_000));
    const stop = new AbortController();
    const reading = source.read(cutAt(0), stop.signal).next();
    stop.abort(new Error('enough'));
    await expect(reading).rejects.toThrow();
    await writer.close();
  });
});

describe('a journal whose tail is torn or damaged', () => {
  async function spoil(segment: number, hostOffset: number): Promise<void> {
    const file = await open(segmentPath(directory, segment), 'r+');
    await file.write(Buffer.alloc(64, 0xee), 0, 64, hostOffset);
    await file.close();
  }

  it('is waited for where it is torn, and goes on when the record is whole', async () => {
    const writer = await create();
    await write(writer, 0, 10);
    const torn = Buffer.alloc(40);
    torn.write('OREC');
    const { hostOffset } = writer.written;
    const file = await open(segmentPath(directory, 0), 'r+');
    await file.write(torn, 0, torn.length, hostOffset);
    await file.close();
    const { source } = await begin(follow(19, 0));
    const reading = source.read(cutAt(0), new AbortController().signal);
    expect((await take(reading, 10)).length).toBe(10);
    const next = reading.next();
    await new Promise(resolve => setTimeout(resolve, 1_500));
    await write(writer, 10, 20);
    expect((await next).value?.[0]?.index).toBe(10);
    await writer.close();
  });

  it('gives all before the damage, then says from where to where records are lost', async () => {
    await written(400);
    await spoil(1, 500_000);
    for (const ended of [null, sequenceOf(399)]) {
      const { source } = await begin(follow(399, 60_000), { ended });
      const records: SourceRecord[] = [];
      const reading = (async () => {
        for await (const some of source.read(cutAt(0), new AbortController().signal)) records.push(...some);
      })();
      await expect(reading).rejects.toMatchObject({
        code: 'PlanBroken',
        message: expect.stringMatching(/is damaged from record \d+ \(.*\) to record \d+ \(/),
      });
      expect(records.length).toBeGreaterThan(127);
      expect(records.map(plain)).toEqual(recordsOf(0, records.length, PAYLOAD));
    }
  });

  it('is damaged, too, where its writer still goes on behind', async () => {
    const writer = await create();
    await write(writer, 0, 20);
    await spoil(0, 4096 + 5 * 16_456);
    const { source } = await begin(follow(9, 60_000));
    const reading = source.read(cutAt(0), new AbortController().signal);
    expect((await take(reading, 5)).length).toBe(5);
    await write(writer, 20, 30);
    await expect(reading.next()).rejects.toMatchObject({ code: 'PlanBroken' });
    await writer.close();
  });

  it('has lost what its ended epoch promised', async () => {
    await written(35);
    await expect(readFrom(0, follow(19, 60_000), { ended: sequenceOf(49) })).rejects.toMatchObject({
      code: 'PlanBroken',
      message: expect.stringContaining(`before the checkpoint ${sequenceOf(49)}`),
    });
  });

  it('ends where the receiver has more than survived a power cut here', async () => {
    await written(35);
    expect((await readFrom(60, follow(19, 60_000), { ended: sequenceOf(29) })).length).toBe(0);
    await expect(readFrom(60, follow(19, 60_000))).rejects.toMatchObject({ code: 'PlanBroken' });
  });
});
