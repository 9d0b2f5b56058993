/** Journals of known records at both sites, and a catalog in a file that survives a killed process. */
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JournalReader } from '../../../src/images/cdp/journal-reader.ts';
import {
  type DurableJournal,
  type IncomingRecord,
  type JournalSinkOptions,
  openReplicaJournal,
  type ReplicaJournal,
} from '../../../src/images/cdp/journal-sink.ts';
import type { JournalRecord } from '../../../src/images/cdp/record.ts';

export const SEGMENT_BYTES = 2 * 1024 * 1024;
export const IDENTITY = {
  epoch: '0b9ff0cf-2c2a-4f0e-9a36-5f0a4f9f2a11',
  host: 'web-01',
  disk: 'vda',
  virtualSizeBytes: 1 << 30,
};
export const START = { sequence: 100, timeUs: 1_700_000_000_000_000 };

/** Record `index`; each tenth is a checkpoint, every fiftieth has a name. */
export function recordOf(index: number, payloadBytes = 4096): IncomingRecord {
  const shared = { index, sequence: START.sequence + 1 + 2 * index, timeUs: START.timeUs + 1000 * index };
  if (index % 10 === 9) {
    const payload = Buffer.from(index % 50 === 49 ? `before-${index}` : '');
    return { ...shared, type: 'checkpoint', offset: 0, length: payload.length, payload };
  }
  const payload = Buffer.alloc(payloadBytes, index);
  return { ...shared, type: 'write', offset: (index % 100) * 4096, length: payloadBytes, payload };
}

export const recordsOf = (from: number, to: number, payloadBytes?: number): IncomingRecord[] =>
  Array.from({ length: to - from }, (_, at) => recordOf(from + at, payloadBytes));

/** What a reader gives, as it was handed over. */
export const plain = ({ type, index, sequence, timeUs, offset, length, payload }: JournalRecord) => ({
  ...{ type, index, sequence, timeUs, offset, length },
  payload,
});

/** All records that are whole, ends of segments left out. */
export async function readAll(directory: string) {
  const reader = await JournalReader.open(directory);
  const records: JournalRecord[] = [];
  try {
    for (let some = await reader.next(); some.length > 0; some = await reader.next()) records.push(...some);
  } finally {
    await reader.close();
  }
  return records.filter(({ type }) => type !== 'end').map(plain);
}

export interface Noted {
  readonly nextIndex: number;
  readonly recordBytes: number;
  readonly checkpoint: number;
}

/** As site B's catalog has it: a file that is replaced whole. */
export class FileCatalog {
  readonly #path: string;
  readonly markers: string[] = [];

  constructor(folder: string) {
    this.#path = join(folder, 'catalog.json');
  }

  async read(): Promise<Noted> {
    const text = await readFile(this.#path, 'utf8').catch(() => null);
    return text === null ? { nextIndex: 0, recordBytes: 0, checkpoint: 0 } : JSON.parse(text);
  }

  async note({ nextIndex, recordBytes, checkpoint, markers }: DurableJournal): Promise<void> {
    const before = await this.read();
    if (nextIndex < before.nextIndex) throw new Error('the catalog goes back');
    this.markers.push(...markers.map(({ name }) => name));
    const noted = { nextIndex, recordBytes, checkpoint: checkpoint?.sequence ?? before.checkpoint };
    await writeFile(`${this.#path}.new`, JSON.stringify(noted));
    await rename(`${this.#path}.new`, this.#path);
  }
}

/** Opens the journal in `folder` where its catalog says. */
export async function openSink(
  folder: string,
  change: Partial<JournalSinkOptions> = {},
): Promise<{ sink: ReplicaJournal; catalog: FileCatalog; directory: string }> {
  const directory = join(folder, 'journal.cdp');
  const catalog = new FileCatalog(folder);
  const { nextIndex, recordBytes } = await catalog.read();
  const sink = await openReplicaJournal({
    ...{ directory, identity: IDENTITY, start: START, nextIndex, recordBytes, segmentBytes: SEGMENT_BYTES },
    assertCurrent: async () => {
      if ((await catalog.read()).nextIndex !== nextIndex) throw new Error('the journal has moved');
    },
    onDurable: durable => catalog.note(durable),
    ...change,
  });
  return { sink, catalog, directory };
}

/** Receives records up to `total` in batches, each committed, from wherever the catalog is. */
export async function receiveAll(folder: string, total: number, batch = 50, payloadBytes = 16_384) {
  const { sink, directory } = await openSink(folder);
  try {
    while (sink.end.nextIndex < total) {
      const from = sink.end.nextIndex;
      const committing = sink.commit();
      await sink.append(recordsOf(from, Math.min(total, from + batch), payloadBytes));
      await committing;
      await sink.commit();
    }
  } finally {
    await sink.close();
  }
  return directory;
}

export async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'offsite-journal-'));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
