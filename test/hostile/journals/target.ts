/** A CDP journal whose segments are bent: read, judged, replayed and taken up again by a writer. */
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OffsiteError } from '../../../src/domain/errors.ts';
import { JournalReader } from '../../../src/images/cdp/journal-reader.ts';
import { openTail } from '../../../src/images/cdp/journal-tail.ts';
import { decodeRecordHeader, MAX_PAYLOAD_BYTES } from '../../../src/images/cdp/record.ts';
import { readReplay, writeReplayImage } from '../../../src/images/cdp/replay.ts';
import { decodeSegmentHeader, SEGMENT_HEADER_BYTES, segmentPath } from '../../../src/images/cdp/segment.ts';
import { must, type Target } from '../campaign.ts';
import type { Random } from '../random.ts';
import {
  bendSegment,
  type SoundJournal,
  type SoundSegment,
  VIRTUAL_SIZE_BYTES,
  writeJournals,
} from './bend.ts';

const MEMORY_FOLDER = '/dev/shm';
const MIB = 2 ** 20;
/** Cases with files cost fifty times as much as those in memory. */
const FILES_EACH = 32;

export async function openJournalTarget(): Promise<Target> {
  const parent = fs.existsSync(MEMORY_FOLDER) ? MEMORY_FOLDER : tmpdir();
  const folder = fs.mkdtempSync(join(parent, 'offsite-hostile-'));
  const journals = await writeJournals();
  const maxima = { 'cases with files': 0, 'most records of a case': 0 };
  return {
    name: 'journals',
    // A reader's chunk.
    maxBufferBytes: 4 * MAX_PAYLOAD_BYTES,
    // Three readers, a replay's window, an image.
    maxCaseBytes: 40 * MIB,
    maxima,
    async run(random) {
      if (!random.oneIn(FILES_EACH)) return inMemory(random, random.pick(journals));
      maxima['cases with files'] += 1;
      return onDisk(random, random.pick(journals), folder, maxima);
    },
    close: async () => fs.rmSync(folder, { recursive: true }),
  };
}

/** The heads alone, of a segment and of all that might be records. */
function inMemory(random: Random, { segments }: SoundJournal): string {
  const sound = random.pick(segments);
  // The large payloads of a long journal say nothing here.
  const bytes = bendSegment(random, { ...sound, bytes: sound.bytes.subarray(0, 64 * 1024) });
  try {
    const header = decodeSegmentHeader('bent', bytes.subarray(0, SEGMENT_HEADER_BYTES));
    if (header === null) return 'not begun';
    const { segmentBytes, virtualSizeBytes, firstIndex, sequence, timeUs } = header;
    for (const number of [segmentBytes, virtualSizeBytes, firstIndex, sequence, timeUs]) {
      must(Number.isSafeInteger(number) && number >= 0, () => `a head with the number ${number}`);
    }
    let records = 0;
    const strays = Array.from({ length: 8 }, () => random.below(bytes.length));
    for (const at of [...sound.places, ...strays]) {
      if (at > bytes.length) continue;
      const record = decodeRecordHeader(bytes.subarray(at), header.salt);
      if (record === null) continue;
      records += 1;
      const { index, offset, length, type } = record;
      must(
        Number.isSafeInteger(index) && Number.isSafeInteger(offset + length),
        () => `a ${type} of ${length} bytes at ${offset}`,
      );
      if (type === 'write') must(length <= MAX_PAYLOAD_BYTES, () => `a write of ${length} bytes`);
    }
    return records === 0 ? 'no record' : 'accepted';
  } catch (error) {
    if (error instanceof OffsiteError) return error.code;
    throw error;
  }
}

async function onDisk(
  random: Random,
  journal: SoundJournal,
  folder: string,
  maxima: Record<string, number>,
): Promise<string> {
  const directory = join(folder, 'journal');
  fs.rmSync(directory, { recursive: true, force: true });
  fs.mkdirSync(directory);
  lay(random, journal, directory);
  let outcome = 'accepted';
  const judge = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof OffsiteError)) throw error;
      if (outcome === 'accepted') outcome = error.code;
    }
  };
  await judge(() => readAll(directory, maxima));
  await judge(() => replay(random, journal, directory, join(folder, 'image.qcow2')));
  await judge(async () => {
    const { file, place } = await openTail(directory, random.oneIn(2) ? 0 : random.below(12));
    await file.close();
    must(place.hostOffset >= SEGMENT_HEADER_BYTES, () => `a tail at ${place.hostOffset}`);
    // What was kept is whole to its end now.
    await readAll(directory, maxima);
  });
  return outcome;
}

/** Puts bent segments under their names or others'; one may be missing, of another journal, or no file. */
function lay(random: Random, journal: SoundJournal, directory: string): void {
  const bentOne = random.below(journal.segments.length);
  for (const [number, sound] of journal.segments.entries()) {
    if (random.oneIn(40)) continue;
    const name = random.oneIn(40) ? number + 1 : number;
    const path = segmentPath(directory, name);
    const isFolder = random.oneIn(60);
    if (fs.existsSync(path)) continue;
    if (isFolder) fs.mkdirSync(path);
    else fs.writeFileSync(path, number === bentOne ? bendSegment(random, sound) : sound.bytes);
  }
  if (random.oneIn(40)) {
    const path = segmentPath(directory, journal.segments.length);
    const head: SoundSegment | undefined = journal.segments[0];
    if (!fs.existsSync(path) && head !== undefined) fs.writeFileSync(path, head.bytes);
  }
}

async function readAll(directory: string, maxima: Record<string, number>): Promise<void> {
  const reader = await JournalReader.open(directory);
  let records = 0;
  let sequence = -1;
  let index = -1;
  try {
    for (let some = await reader.next(); some.length > 0; some = await reader.next()) {
      for (const record of some) {
        records += 1;
        must(record.sequence > sequence, () => `sequence ${record.sequence} after ${sequence}`);
        must(index < 0 || record.index === index + 1, () => `record ${record.index} after ${index}`);
        sequence = record.sequence;
        index = record.index;
      }
    }
    await reader.assertEnd();
  } finally {
    await reader.close();
    maxima['most records of a case'] = Math.max(maxima['most records of a case'] ?? 0, records);
  }
}

/** To a checkpoint, and as an image; what lies beyond the disk must be refused before. */
async function replay(
  random: Random,
  { newestSequence }: SoundJournal,
  directory: string,
  path: string,
): Promise<void> {
  const untilSequence = random.oneIn(2) ? newestSequence : 1 + random.below(newestSequence);
  const { index } = await readReplay(directory, { virtualSizeBytes: VIRTUAL_SIZE_BYTES, untilSequence });
  for (const { offset, length } of index.map()) {
    must(offset + length <= VIRTUAL_SIZE_BYTES, () => `an extent to ${offset + length}`);
  }
  if (!random.oneIn(4)) return;
  try {
    await writeReplayImage({
      ...{ path, directory, index, base: { name: 'base.raw', format: 'raw' } },
      readBase: async (target, offset) => {
        must(offset + target.length <= VIRTUAL_SIZE_BYTES, () => `a read of the base at ${offset}`);
        target.fill(0xbb);
      },
    });
  } finally {
    fs.rmSync(path, { force: true });
  }
}
