/** Finds checkpoints in a journal that may still grow, without reading more of it than is needed. */
import { JournalReader, readHeader, segmentsOf, startOf } from './journal-reader.ts';
import type { JournalRecord } from './record.ts';

/** A state of the disk that can be restored. */
export interface Checkpoint {
  readonly sequence: number;
  /** Microseconds since 1970, by the recorder's clock. */
  readonly timeUs: number;
  /** The marker's name, empty for a plain one. */
  readonly marker: string;
}

/** Which checkpoints count. */
export interface CheckpointBounds {
  /** Those of this millisecond count, and those before. */
  readonly atMs: number;
  /** Sequences, both ends included. A journal without the last one is damaged. */
  readonly oldest: number;
  readonly newest: number;
  readonly signal?: AbortSignal;
}

/**
 * The newest checkpoint at or before a time. Times never fall within a journal, so the search begins at the last segment
 * that begins in time.
 * @returns null when all that count are later
 * @throws {JournalDamagedError} when the journal cannot be read up to there @throws {JournalInvalidError}
 */
export async function newestCheckpointAt(
  directory: string,
  bounds: CheckpointBounds,
): Promise<Checkpoint | null> {
  const segments = await segmentsOf(directory);
  for (let at = await lastInTime(directory, segments, bounds); at >= 0; at -= 1) {
    const found = await newestFrom(directory, segments[at] as number, bounds);
    if (found !== null) return found.sequence < bounds.oldest ? null : found;
  }
  return null;
}

/**
 * Reads a journal from its start up to where it is whole.
 * @returns the newest checkpoint, null when there is none before the damage
 */
export async function newestWholeCheckpoint(
  directory: string,
  newest: number,
  signal?: AbortSignal,
): Promise<Checkpoint | null> {
  const reader = await JournalReader.open(directory);
  let found: Checkpoint | null = null;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const records = await reader.next();
      if (records.length === 0) return found;
      for (const record of records) {
        if (record.sequence > newest) return found;
        found = checkpointOf(record) ?? found;
      }
    }
  } finally {
    await reader.close();
  }
}

/** The index of the last segment whose first record may count, -1 for none. */
async function lastInTime(
  directory: string,
  segments: readonly number[],
  bounds: CheckpointBounds,
): Promise<number> {
  let low = 0;
  let high = segments.length - 1;
  let found = -1;
  while (low <= high) {
    const middle = Math.floor((low + high) / 2);
    const header = await readHeader(directory, segments[middle] as number);
    // What was only prepared has no head yet, and nothing in it.
    const isInTime = header !== null && msOf(header.timeUs) <= bounds.atMs && header.sequence < bounds.newest;
    if (isInTime) {
      found = middle;
      low = middle + 1;
    } else high = middle - 1;
  }
  return found;
}

/** The newest that counts in one segment; what is asked for may lie in an earlier one. */
async function newestFrom(
  directory: string,
  segment: number,
  { atMs, newest, signal }: CheckpointBounds,
): Promise<Checkpoint | null> {
  const header = await readHeader(directory, segment);
  if (header === null) return null;
  const reader = JournalReader.at(directory, startOf(header));
  let found: Checkpoint | null = null;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const records = await reader.next();
      // Whoever knows of a checkpoint knows of the records before: what ends sooner is damaged.
      if (records.length === 0) await reader.assertEnd(reader.place.index + 1);
      for (const record of records) {
        const isOver = record.segment !== segment || record.sequence > newest || msOf(record.timeUs) > atMs;
        if (isOver) return found;
        found = checkpointOf(record) ?? found;
        if (record.sequence === newest) return found;
      }
    }
  } finally {
    await reader.close();
  }
}

function checkpointOf({ type, sequence, timeUs, payload }: JournalRecord): Checkpoint | null {
  return type === 'checkpoint' ? { sequence, timeUs, marker: payload.toString('utf8') } : null;
}

/** Milliseconds, as times are shown: what is shown can be asked for. */
export const msOf = (timeUs: number): number => Math.floor(timeUs / 1000);
