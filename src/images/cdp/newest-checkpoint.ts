/** Where a journal that nobody writes any more ends: its newest checkpoint. */
import { effect } from '../../lib/fault-points.ts';
import { openRegular } from '../replica/durable-files.ts';
import { JournalReader, readHeader, segmentsOf, startOf } from './journal-reader.ts';
import { segmentPath } from './segment.ts';

export interface JournalEnd {
  readonly sequence: number;
  readonly timeUs: number;
}

/**
 * Reads the newest segments only, and makes them durable: what a dead writer left in the page cache counts then.
 * @returns null when the journal has no checkpoint
 * @throws {JournalInvalidError} for a folder with something else
 */
export async function newestCheckpoint(directory: string): Promise<JournalEnd | null> {
  const segments = await segmentsOf(directory);
  for (const segment of [...segments].reverse()) {
    const header = await readHeader(directory, segment);
    if (header === null) continue;
    await syncSegment(segmentPath(directory, segment));
    const reader = JournalReader.at(directory, startOf(header));
    let newest: JournalEnd | null = null;
    try {
      for (let records = await reader.next(); records.length > 0; records = await reader.next()) {
        const found = records.findLast(({ type }) => type === 'checkpoint');
        if (found !== undefined) newest = { sequence: found.sequence, timeUs: found.timeUs };
      }
    } finally {
      await reader.close();
    }
    if (newest !== null) return newest;
  }
  return null;
}

async function syncSegment(path: string): Promise<void> {
  const file = await openRegular(path, 'r+');
  try {
    await effect('journal.left.fdatasync', () => file.datasync());
  } finally {
    await file.close();
  }
}
