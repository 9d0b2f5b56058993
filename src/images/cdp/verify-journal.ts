/** A journal at rest: is every record that was durable still whole? */
import { JournalDamagedError, JournalInvalidError } from './errors.ts';
import { JournalReader, segmentsOf } from './journal-reader.ts';
import { recordBytes } from './record.ts';

export interface VerifyJournalOptions {
  /** Records before this are known to have been durable. */
  readonly nextIndex: number;
  /** Called with the size of what was read: waits as long as it likes. */
  readonly take?: (sizeBytes: number) => Promise<void>;
}

/**
 * Reads records, checksums and all, up to `nextIndex`; what lies behind may still be written.
 * @returns what is wrong, in words; null when all is whole
 * @throws what says nothing about the journal, and what `take` throws
 */
export async function verifyJournal(
  directory: string,
  { nextIndex, take }: VerifyJournalOptions,
): Promise<string | null> {
  if (nextIndex === 0) return null;
  try {
    const first = (await segmentsOf(directory))[0];
    if (first !== 0) return first === undefined ? 'its journal is gone' : 'the start of its journal is gone';
    const reader = await JournalReader.open(directory);
    try {
      while (reader.place.index < nextIndex) {
        const records = await reader.next();
        if (records.length === 0) await reader.assertEnd(nextIndex);
        await take?.(records.reduce((sum, record) => sum + recordBytes(record), 0));
      }
    } finally {
      await reader.close();
    }
    return null;
  } catch (error) {
    if (error instanceof JournalDamagedError || error instanceof JournalInvalidError) return error.message;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return 'its journal is gone';
    if (code === 'EIO') return 'its journal cannot be read (EIO)';
    throw error;
  }
}
