/** Makes journals of logs of writes. What their common order is, docs/decisions/0056 tells. */
import { JournalWriter } from '../cdp/journal-writer.ts';
import { MAX_PAYLOAD_BYTES, type NewRecord } from '../cdp/record.ts';
import type { JournalIdentity } from '../cdp/segment.ts';
import { MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES } from '../cdp/segment.ts';
import { type LogEntry, LogInvalidError, LogWrites } from './log-writes.ts';

const SEGMENT_BYTES = Math.min(64 * 1024 * 1024, MAX_SEGMENT_BYTES);
const MAX_MARKS = 100_000;
const ZEROS = Buffer.alloc(MAX_PAYLOAD_BYTES);
const MAX_WAITING = 200;
const MAX_WAITING_BYTES = 16 * 1024 * 1024;

export interface LoggedDisk {
  /** Null for a disk to which nothing was written. */
  readonly log: string | null;
  /** The folder of its journal; made here. */
  readonly directory: string;
  readonly identity: JournalIdentity;
}

export interface ImportedCheckpoint {
  readonly sequence: number;
  readonly timeUs: number;
}

export interface ImportedLogs {
  /** How many there are; the newest is the state at the logs' end. */
  readonly checkpoints: number;
  readonly newest: ImportedCheckpoint;
  readonly markers: readonly (ImportedCheckpoint & { readonly name: string })[];
  /** By disk. */
  readonly records: ReadonlyMap<string, number>;
  /** Marks that not all logs have. */
  readonly marksLeftOut: number;
}

interface Opened extends LoggedDisk {
  readonly reader: LogWrites | null;
}

/**
 * Writes a durable journal for each disk.
 * @param startMs the time of what the logs begin with
 * @throws {LogInvalidError} before a journal is begun, unless the log changes meanwhile @throws {JournalWriteError}
 */
export async function importLogs(disks: readonly LoggedDisk[], startMs: number): Promise<ImportedLogs> {
  const opened: Opened[] = [];
  try {
    for (const disk of disks) {
      const { log, identity } = disk;
      const reader = log === null ? null : await LogWrites.open(log, identity.virtualSizeBytes);
      opened.push({ ...disk, reader });
    }
    return await new LogImport(opened, startMs).run();
  } finally {
    for (const { reader } of opened) await reader?.close();
  }
}

interface Output {
  readonly disk: string;
  readonly writer: JournalWriter;
  readonly reader: LogWrites | null;
  readonly diskBytes: number;
  readonly entries: AsyncGenerator<LogEntry, undefined> | null;
  readonly seen: Map<string, number>;
}

class LogImport {
  readonly #disks: readonly Opened[];
  readonly #startUs: number;
  readonly #outputs: Output[] = [];
  readonly #markers: (ImportedCheckpoint & { name: string })[] = [];
  #newest: ImportedCheckpoint;
  /** How often all logs have a mark. */
  #common: ReadonlyMap<string, number> = new Map();
  #sequence = 0;
  #checkpoints = 0;
  #total = 0;
  #endUs = 0;
  #isOnly = false;
  #isChanged = false;
  #waiting: Promise<void>[] = [];
  #waitingBytes = 0;

  constructor(disks: readonly Opened[], startMs: number) {
    this.#disks = disks;
    this.#startUs = startMs * 1000;
    this.#newest = { sequence: 0, timeUs: this.#startUs };
  }

  async run(): Promise<ImportedLogs> {
    const scans = [];
    for (const { reader } of this.#disks) if (reader !== null) scans.push(await scan(reader));
    const marks = commonMarks(scans);
    this.#common = countsOf(marks);
    // A flush is one of its own disk: it says something of the host only where there is one log.
    this.#isOnly = scans.length === 1;
    const flushes = this.#isOnly ? (scans[0]?.flushes ?? 0) : 0;
    this.#total = marks.length + flushes + 1;
    const changedAtMs = Math.max(...scans.map(({ log }) => log.changedAtMs));
    this.#endUs = Math.max(this.#startUs, changedAtMs * 1000);
    try {
      await this.#begin();
      await this.#convert(marks);
      for (const { writer } of this.#outputs) await writer.sync();
    } finally {
      await Promise.allSettled([...this.#waiting, ...this.#outputs.map(({ writer }) => writer.close())]);
    }
    return {
      ...{ checkpoints: this.#checkpoints, newest: this.#newest, markers: this.#markers },
      records: new Map(this.#outputs.map(({ disk, writer }) => [disk, writer.written.index])),
      marksLeftOut: scans.reduce((sum, found) => sum + found.marks.length - marks.length, 0),
    };
  }

  async #convert(marks: readonly string[]): Promise<void> {
    for (const name of marks) {
      for (const output of this.#outputs) await this.#feed(output, name);
      await this.#checkpoint(name);
    }
    for (const output of this.#outputs) await this.#feed(output, null);
    if (this.#isChanged || this.#checkpoints === 0) await this.#checkpoint('');
    await this.#settle();
  }

  async #begin(): Promise<void> {
    for (const { directory, identity, reader } of this.#disks) {
      const neededBytes = Math.ceil(((reader?.sizeBytes ?? 0) + 1) / 4096) * 4096;
      const segmentBytes = Math.min(SEGMENT_BYTES, Math.max(MIN_SEGMENT_BYTES, neededBytes));
      const start = { sequence: 0, timeUs: this.#startUs };
      const writer = await JournalWriter.create({ directory, identity, segmentBytes }, start);
      this.#outputs.push({
        ...{ disk: identity.disk, writer, reader, diskBytes: identity.virtualSizeBytes },
        ...{ entries: reader?.entries() ?? null, seen: new Map<string, number>() },
      });
    }
  }

  /** Takes the entries of one log up to the next mark that all have, or to its end. */
  async #feed(output: Output, until: string | null): Promise<void> {
    if (output.entries === null) return;
    for (;;) {
      const { value: entry } = await output.entries.next();
      if (entry === undefined) {
        if (until !== null) throw changed(output);
        return;
      }
      if (entry.kind !== 'mark') await this.#take(output, entry);
      else if (this.#isCommon(output, entry.name)) {
        if (entry.name !== until) throw changed(output);
        return;
      }
    }
  }

  #isCommon({ seen }: Output, name: string): boolean {
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return count <= (this.#common.get(name) ?? 0);
  }

  async #take(output: Output, entry: Exclude<LogEntry, { kind: 'mark' }>): Promise<void> {
    const isFlush = entry.kind === 'flush' || (entry.kind === 'write' && entry.isFlush);
    if (isFlush) await this.#flushed();
    if (entry.kind === 'flush') return;
    await this.#write(output, entry);
    if (entry.kind === 'write' && entry.isFua) await this.#flushed();
  }

  async #flushed(): Promise<void> {
    if (this.#isOnly && this.#isChanged) await this.#checkpoint('');
  }

  async #write(output: Output, entry: Extract<LogEntry, { kind: 'write' | 'discard' }>): Promise<void> {
    const { offset, kind } = entry;
    const length = Math.min(entry.length, output.diskBytes - offset);
    if (length <= 0) return;
    this.#isChanged = true;
    const place = { offset, length, payload: Buffer.alloc(0) };
    if (kind === 'discard' || output.reader === null)
      return this.#append(output, { type: 'discard', ...place });
    for (let done = 0; done < length; done += MAX_PAYLOAD_BYTES) {
      const pieceBytes = Math.min(MAX_PAYLOAD_BYTES, length - done);
      const payload = await output.reader.read(entry.hostOffset + done, pieceBytes);
      const piece = { offset: offset + done, length: pieceBytes };
      if (payload.equals(ZEROS.subarray(0, pieceBytes))) {
        await this.#append(output, { type: 'zero', ...piece, payload: Buffer.alloc(0) });
      } else await this.#append(output, { type: 'write', ...piece, payload });
    }
  }

  async #append({ writer }: Output, record: Omit<NewRecord, 'sequence' | 'timeUs'>): Promise<void> {
    this.#sequence += 1;
    const timeUs = this.#timeOf(this.#checkpoints);
    this.#push(writer.append({ ...record, sequence: this.#sequence, timeUs }));
    this.#waitingBytes += record.payload.length;
    if (this.#waiting.length >= MAX_WAITING || this.#waitingBytes >= MAX_WAITING_BYTES) await this.#settle();
  }

  async #checkpoint(name: string): Promise<void> {
    this.#sequence += 1;
    const timeUs = this.#timeOf(this.#checkpoints);
    const payload = Buffer.from(name);
    for (const { writer } of this.#outputs) {
      const record = { type: 'checkpoint' as const, offset: 0, length: payload.length, payload };
      this.#push(writer.append({ ...record, sequence: this.#sequence, timeUs }));
    }
    await this.#settle();
    this.#newest = { sequence: this.#sequence, timeUs };
    if (name !== '') this.#markers.push({ ...this.#newest, name });
    this.#checkpoints += 1;
    this.#isChanged = false;
  }

  /** Logs have no clock: checkpoints lie a millisecond apart, the last at the log's last change. */
  #timeOf(checkpoint: number): number {
    return Math.max(this.#startUs, this.#endUs - (this.#total - 1 - checkpoint) * 1000);
  }

  /** What fails meanwhile is told where all are waited for. */
  #push(appended: Promise<void>): void {
    appended.catch(() => undefined);
    this.#waiting.push(appended);
  }

  async #settle(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    await Promise.all(waiting);
  }
}

interface Scan {
  readonly log: LogWrites;
  readonly marks: readonly string[];
  /** At most so many checkpoints come of flushes. */
  readonly flushes: number;
}

/** Reads all entries, so that a log that is none is refused before anything is written. */
async function scan(log: LogWrites): Promise<Scan> {
  const marks: string[] = [];
  let flushes = 0;
  for await (const entry of log.entries()) {
    if (entry.kind === 'mark') marks.push(entry.name);
    else if (entry.kind === 'flush') flushes += 1;
    else if (entry.kind === 'write') flushes += Number(entry.isFlush) + Number(entry.isFua);
    if (marks.length > MAX_MARKS) throw new LogInvalidError(log.path, `it has more than ${MAX_MARKS} marks`);
  }
  return { log, marks, flushes };
}

/** The marks that all logs have, as often as all have them. @throws {LogInvalidError} when their order differs */
function commonMarks(scans: readonly Scan[]): readonly string[] {
  const counts = scans.map(({ marks }) => countsOf(marks));
  const lists = scans.map(({ marks }) => {
    const seen = new Map<string, number>();
    return marks.filter(name => {
      const count = (seen.get(name) ?? 0) + 1;
      seen.set(name, count);
      return counts.every(other => (other.get(name) ?? 0) >= count);
    });
  });
  const [first = [], ...others] = lists;
  for (const [index, list] of others.entries()) {
    if (list.every((name, at) => name === first[at])) continue;
    const path = scans[index + 1]?.log.path ?? '';
    throw new LogInvalidError(path, `its marks stand in another order than those of ${scans[0]?.log.path}`);
  }
  return first;
}

function countsOf(names: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

const changed = ({ reader }: Output): LogInvalidError =>
  new LogInvalidError(reader?.path ?? '', 'it changed while it was read');
