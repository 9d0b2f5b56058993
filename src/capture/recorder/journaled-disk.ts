/** A disk whose writes go into a journal: what QEMU mirrors to. */
import type { NbdExport } from '../nbd/ports.ts';
import type { HostClock } from './host-clock.ts';
import type { DiskJournal, DiskState } from './ports.ts';

/** A record holds so much at most; a longer write becomes several, with nothing of this disk between. */
const MAX_RECORD_BYTES = 1024 * 1024;
const NOTHING = Buffer.alloc(0);

export interface JournaledDiskParts {
  readonly name: string;
  readonly sizeBytes: number;
  readonly clock: HostClock;
  readonly journal: DiskJournal;
  readonly state: DiskState;
  readonly onFailure: (error: unknown) => void;
  readonly nowMs?: () => number;
}

export class JournaledDisk implements NbdExport {
  readonly name: string;
  readonly sizeBytes: number;
  readonly journal: DiskJournal;
  readonly #parts: JournaledDiskParts;
  readonly #nowMs: () => number;
  /** When each write or flush that is not answered yet arrived; the oldest is first. */
  readonly #unanswered = new Set<{ readonly sinceMs: number }>();
  #hasNews = false;
  #recordedBytes = 0;

  constructor(parts: JournaledDiskParts) {
    this.#parts = parts;
    this.#nowMs = parts.nowMs ?? (() => performance.now());
    this.name = parts.name;
    this.sizeBytes = parts.sizeBytes;
    this.journal = parts.journal;
  }

  /** Bytes of payload since the epoch's start. */
  get recordedBytes(): number {
    return this.#recordedBytes;
  }

  /** How long the oldest unanswered write has waited, 0 when there is none. */
  get unansweredMs(): number {
    for (const { sinceMs } of this.#unanswered) return this.#nowMs() - sinceMs;
    return 0;
  }

  /** @returns whether anything was recorded since the last call */
  takeNews(): boolean {
    const had = this.#hasNews;
    this.#hasNews = false;
    return had;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    await this.#parts.state.read(bytes, offset);
    return bytes;
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return this.#answering(async () => {
      const appends: Promise<void>[] = [];
      for (let at = 0; at < bytes.length; at += MAX_RECORD_BYTES) {
        const payload = bytes.subarray(at, at + MAX_RECORD_BYTES);
        appends.push(this.#append('write', offset + at, payload.length, payload));
      }
      this.#recordedBytes += bytes.length;
      await Promise.all(appends);
    });
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.#range('zero', offset, length);
  }

  trim(offset: number, length: number): Promise<void> {
    return this.#range('discard', offset, length);
  }

  flush(): Promise<void> {
    return this.#answering(async () => {
      await this.journal.sync();
    });
  }

  /** Lets go of the files. After a failure there is nothing more to say. */
  async close(): Promise<void> {
    await this.#parts.state.close().catch(() => {});
    await this.journal.close().catch(() => {});
  }

  #range(type: 'zero' | 'discard', offset: number, length: number): Promise<void> {
    if (length === 0) return Promise.resolve();
    return this.#answering(() => this.#append(type, offset, length, NOTHING));
  }

  /** Called in the turn in which the request arrived: the journal keeps this order. */
  #append(
    type: 'write' | 'zero' | 'discard',
    offset: number,
    length: number,
    payload: Buffer,
  ): Promise<void> {
    this.#hasNews = true;
    return this.journal.append({ type, ...this.#parts.clock.next(), offset, length, payload });
  }

  async #answering(work: () => Promise<void>): Promise<void> {
    const waiting = { sinceMs: this.#nowMs() };
    this.#unanswered.add(waiting);
    try {
      await work();
    } catch (error) {
      this.#parts.onFailure(error);
      throw error;
    } finally {
      this.#unanswered.delete(waiting);
    }
  }
}
