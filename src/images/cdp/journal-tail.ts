/** Finds where a journal ends, so that its writer can go on there after a crash. docs/formats/cdp-journal.md. */
import type { FileHandle } from 'node:fs/promises';
import { effect } from '../../lib/fault-points.ts';
import { openRegular, removeFile, syncDirectory } from '../replica/durable-files.ts';
import { JournalInvalidError, type JournalPlace } from './errors.ts';
import { JournalReader, readHeader, segmentsOf, startOf } from './journal-reader.ts';
import { type SegmentHeader, segmentPath } from './segment.ts';

export interface JournalTail {
  /** Open for writing; the caller closes it. */
  readonly file: FileHandle;
  readonly header: SegmentHeader;
  readonly salt: Buffer;
  readonly place: JournalPlace;
}

/**
 * Reads the newest segment to its end, and zeros what lies behind: of a torn tail nothing may be taken for a record
 * later. Removes segments that were only prepared.
 * @param durableIndex records before this are known to have been durable
 * @throws {JournalDamagedError} when records that were durable are damaged
 * @throws {JournalInvalidError} when there is no journal
 */
export async function openTail(directory: string, durableIndex: number): Promise<JournalTail> {
  const header = await newestBegun(directory);
  const reader = JournalReader.at(directory, startOf(header));
  try {
    while ((await reader.next()).length > 0);
    await reader.assertEnd(durableIndex);
  } finally {
    await reader.close();
  }
  const { place } = reader;
  // An end whose next segment was never begun is written anew, when a record does not fit.
  const isEnded = place.segment > header.segment;
  const kept = isEnded ? (reader.segmentEnd ?? place) : place;
  const file = await openRegular(segmentPath(directory, header.segment), 'r+');
  try {
    await effect('journal.tail.truncate', () => file.truncate(kept.hostOffset));
    await effect('journal.tail.extend', () => file.truncate(header.segmentBytes));
    await effect('journal.tail.fdatasync', () => file.datasync());
    await syncDirectory(directory, 'journal.tail.syncDirectory');
    return { file, header, salt: header.salt, place: kept };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function newestBegun(directory: string): Promise<SegmentHeader> {
  for (const segment of [...(await segmentsOf(directory))].reverse()) {
    const header = await readHeader(directory, segment);
    if (header !== null) return header;
    await removeFile(segmentPath(directory, segment), 'journal.tail.unlink');
  }
  throw new JournalInvalidError(directory, 'there is no journal');
}
