/** The journals of one epoch, and what the disks read as while they grow. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { GuestDisk } from '../capture/recorder/guest-disks.ts';
import { HostClock } from '../capture/recorder/host-clock.ts';
import { JournaledDisk } from '../capture/recorder/journaled-disk.ts';
import { JournalWriter } from '../images/cdp/journal-writer.ts';
import { LiveState } from '../images/cdp/live-state.ts';
import { type ImageChain, openChain } from '../images/chain.ts';
import { effect } from '../lib/fault-points.ts';

export interface EpochJournals {
  readonly clock: HostClock;
  readonly disks: readonly JournaledDisk[];
  readonly directoryOf: (disk: string) => string;
}

export interface EpochJournalsInput {
  readonly host: string;
  readonly epoch: string;
  /** Of the epoch. */
  readonly directory: string;
  readonly segmentBytes: number;
  readonly imageRoots: readonly string[];
  readonly disks: readonly GuestDisk[];
  readonly onFailure: (error: unknown) => void;
}

/** Begins a journal a disk, durably. @throws {DiskFullError} or the system's error; nothing stays then */
export async function openJournals(input: EpochJournalsInput): Promise<EpochJournals> {
  const { host, epoch, directory, segmentBytes, imageRoots, onFailure } = input;
  const start = { sequence: 0, timeUs: Date.now() * 1000 };
  const clock = new HostClock(start);
  const directoryOf = (disk: string) => join(directory, disk);
  const disks: JournaledDisk[] = [];
  try {
    for (const { disk, path, virtualSizeBytes } of input.disks) {
      const identity = { epoch, host, disk, virtualSizeBytes };
      const options = { directory: directoryOf(disk), identity, segmentBytes, inThread: true };
      const journal = await JournalWriter.create(options, start);
      const base = new LazyChain(path, imageRoots);
      const live = new LiveState(options.directory, virtualSizeBytes, (target, at) => base.read(target, at));
      const state = {
        read: (target: Buffer, offset: number) => live.read(target, offset),
        close: async () => {
          await live.close();
          await base.close();
        },
      };
      disks.push(
        new JournaledDisk({ name: disk, sizeBytes: virtualSizeBytes, clock, journal, state, onFailure }),
      );
    }
    return { clock, disks, directoryOf };
  } catch (error) {
    for (const disk of disks) await disk.close();
    await dropJournals(directory).catch(() => {});
    throw error;
  }
}

/** Removes the journals of an epoch that the catalog does not know. */
export async function dropJournals(directory: string): Promise<void> {
  await effect('recorder.journals.remove', () => rm(directory, { recursive: true, force: true }));
}

/** The frozen layers, opened when somebody reads: only then are they sure to be frozen. */
class LazyChain {
  readonly #path: string;
  readonly #imageRoots: readonly string[];
  #chain: Promise<ImageChain> | null = null;

  constructor(path: string, imageRoots: readonly string[]) {
    this.#path = path;
    this.#imageRoots = imageRoots;
  }

  async read(target: Buffer, offset: number): Promise<void> {
    this.#chain ??= openChain(this.#path, { imageRoots: this.#imageRoots });
    await (await this.#chain).read(target, offset);
  }

  async close(): Promise<void> {
    await this.#chain?.then(chain => chain.close()).catch(() => {});
    this.#chain = null;
  }
}
