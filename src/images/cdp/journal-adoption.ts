/**
 * Makes a journal of a replica end where the catalog says, whoever wrote to it before and may still do so.
 * docs/decisions/0048 (a resumed journal is another file), 0053.
 */
import { randomBytes } from 'node:crypto';
import { renameSync, unlinkSync } from 'node:fs';
import { type FileHandle, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { effect, effectSync } from '../../lib/fault-points.ts';
import {
  openNew,
  openOrNull,
  readFully,
  removeFile,
  syncDirectory,
  writeFully,
} from '../replica/durable-files.ts';
import { JournalDamagedError, JournalInvalidError, type JournalPlace } from './errors.ts';
import { JournalReader, readHeader, segmentsOf, startOf } from './journal-reader.ts';
import { type SegmentHeader, segmentPath } from './segment.ts';

const PIECE_BYTES = 1024 * 1024;
const COPY_NAME = /^[0-9]{8}\.cdp\.[0-9a-f]{16}$/;

export interface AdoptedJournal {
  /** The newest segment, for writing; the caller closes it. */
  readonly file: FileHandle;
  readonly header: SegmentHeader;
  readonly place: JournalPlace;
}

/**
 * Copies the newest segment up to record `nextIndex` into a new file, puts it in the old one's place, and removes what
 * lies behind. A writer that was taken for dead goes on in the old file, which has no name any more.
 * @param assertCurrent asked right before anything is taken away: throws when another one has gone on since
 * @returns null when there is nothing of the journal, which is right for record 0 only
 * @throws {JournalDamagedError} when records that the catalog has cannot be read
 */
export async function adoptJournal(input: {
  readonly directory: string;
  readonly nextIndex: number;
  readonly assertCurrent: () => Promise<void>;
}): Promise<AdoptedJournal | null> {
  const { directory, nextIndex, assertCurrent } = input;
  await removeCopies(directory);
  const header = nextIndex === 0 ? null : await segmentWith(directory, nextIndex - 1);
  if (header === null) {
    if (nextIndex > 0) throw new JournalInvalidError(directory, `record ${nextIndex - 1} is not there`);
    await assertCurrent();
    await removeBehind(directory, -1);
    return null;
  }
  const place = await placeOf(directory, header, nextIndex);
  const name = segmentPath(directory, header.segment);
  const copy = `${name}.${randomBytes(8).toString('hex')}`;
  const file = await openNew(copy, 'journal.adopt.create');
  let isPlaced = false;
  try {
    await copyRecords(name, file, place.hostOffset, header.segmentBytes);
    await effect('journal.adopt.fsync', () => file.sync());
    await assertCurrent();
    effectSync('journal.adopt.rename', () => renameSync(copy, name));
    isPlaced = true;
    await removeBehind(directory, header.segment);
    return { file, header, place };
  } catch (error) {
    await file.close();
    if (!isPlaced) await removeFile(copy, 'journal.adopt.unlinkCopy').catch(() => false);
    throw error;
  }
}

/** Of an adoption that died, or of one that is just under way in a process taken for dead: that one then fails. */
async function removeCopies(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (COPY_NAME.test(name)) await removeFile(join(directory, name), 'journal.adopt.unlinkStray');
  }
}

/**
 * The head of the segment that holds the record. One that a writer taken for dead has made does not go on where the
 * segment before it ends, and is passed over.
 * @returns null when the record lies before all of them
 */
async function segmentWith(directory: string, index: number): Promise<SegmentHeader | null> {
  const segments = await segmentsOf(directory);
  for (const segment of [...segments].reverse()) {
    const header = await readHeader(directory, segment);
    if (header === null || header.firstIndex > index) continue;
    if (segment === segments[0] || (await endsAt(directory, segment - 1, header.firstIndex))) return header;
  }
  return null;
}

/** Whether a segment ends, by its own word, right before record `index`. */
async function endsAt(directory: string, segment: number, index: number): Promise<boolean> {
  const header = await readHeader(directory, segment);
  if (header === null) return false;
  const reader = JournalReader.at(directory, startOf(header));
  try {
    while (reader.segmentEnd === null && (await reader.next()).length > 0);
    return reader.segmentEnd?.segment === segment && reader.segmentEnd.index === index;
  } finally {
    await reader.close();
  }
}

/** Where the record with the number would begin in the segment that has the one before. */
async function placeOf(directory: string, header: SegmentHeader, nextIndex: number): Promise<JournalPlace> {
  const reader = JournalReader.at(directory, startOf(header));
  try {
    let place = reader.place;
    while (place.index < nextIndex) {
      const records = await reader.next(nextIndex - place.index);
      place = reader.place;
      if (records.length === 0 || place.segment !== header.segment) break;
    }
    if (place.index === nextIndex && place.segment === header.segment) return place;
    await reader.assertEnd(nextIndex);
    throw new JournalDamagedError(segmentPath(directory, header.segment), place, null);
  } finally {
    await reader.close();
  }
}

/** The head and the records; zeros from there on, so that making a record durable has no new blocks to allot. */
async function copyRecords(
  from: string,
  to: FileHandle,
  keptBytes: number,
  segmentBytes: number,
): Promise<void> {
  const source = await openOrNull(from, 'r');
  if (source === null) throw new JournalInvalidError(from, 'the segment is gone');
  const piece = Buffer.alloc(PIECE_BYTES);
  try {
    for (let at = 0; at < keptBytes; at += piece.length) {
      const part = piece.subarray(0, Math.min(piece.length, keptBytes - at));
      if ((await readFully(source, part, at)) < part.length) {
        throw new JournalInvalidError(from, 'the segment became shorter');
      }
      await writeFully('journal.adopt.write', to, part, at);
    }
  } finally {
    await source.close();
  }
  piece.fill(0);
  for (let at = keptBytes; at < segmentBytes; at += piece.length) {
    const part = piece.subarray(0, Math.min(piece.length, segmentBytes - at));
    await writeFully('journal.adopt.zero', to, part, at);
  }
}

/** The newest first, so that what is left has no gap whenever it is cut short. */
async function removeBehind(directory: string, last: number): Promise<void> {
  const segments = (await segmentsOf(directory)).filter(segment => segment > last);
  for (const segment of segments.reverse()) {
    effectSync('journal.adopt.unlink', () => unlinkSync(segmentPath(directory, segment)));
  }
  await syncDirectory(directory, 'journal.adopt.syncDirectory');
}
