/** Rules 1 and 2 for journals: up to the published checkpoint B has every record of A, once and in order. */
import { JournalReader } from '../../../src/images/cdp/journal-reader.ts';
import type { JournalRecord } from '../../../src/images/cdp/record.ts';
import type { Violation } from './violation.ts';

/** @param atSource the folder of A's journal; left out when A has none any more */
export async function* checkJournal(
  where: string,
  { path, checkpoint }: { path: string; checkpoint: number },
  atSource?: string,
): AsyncGenerator<Violation, undefined> {
  const own = recordsOf(path, checkpoint);
  const theirs = atSource === undefined ? null : recordsOf(atSource, checkpoint);
  try {
    let newest: JournalRecord | null = null;
    for await (const record of own) {
      newest = record;
      if (theirs === null) continue;
      const { value: same } = await theirs.next();
      if (same === undefined || describe(same) !== describe(record) || !same.payload.equals(record.payload)) {
        const text = `${where} has ${describe(record)} where A has ${same && describe(same)}`;
        yield { rule: 1, code: 'contentDiffers', text };
        return;
      }
    }
    if (newest?.type !== 'checkpoint' || newest.sequence !== checkpoint) {
      const text = `${where} ends with ${newest && describe(newest)}, published is checkpoint ${checkpoint}`;
      yield { rule: 1, code: 'pointIncomplete', text };
    }
  } catch (error) {
    const text = `${where} cannot be judged: ${(error as Error).message}`;
    yield { rule: 1, code: 'imageUnreadable', text };
  } finally {
    await theirs?.return(undefined);
  }
}

/** The records up to and with the checkpoint. */
async function* recordsOf(directory: string, checkpoint: number): AsyncGenerator<JournalRecord, undefined> {
  const reader = await JournalReader.open(directory);
  try {
    for (let batch = await reader.next(); batch.length > 0; batch = await reader.next()) {
      for (const record of batch) {
        if (record.sequence > checkpoint) return;
        yield record;
      }
    }
  } finally {
    await reader.close();
  }
}

const describe = ({ type, index, sequence, timeUs, offset, length }: JournalRecord): string =>
  `record ${index}: ${type} ${offset}+${length} of sequence ${sequence} at ${timeUs}`;
