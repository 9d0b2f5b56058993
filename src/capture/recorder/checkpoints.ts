/** Sets checkpoints: the same sequence and time in every disk's journal. */
import type { HostClock, Tick } from './host-clock.ts';
import type { JournaledDisk } from './journaled-disk.ts';

const EVERY_MS = 200;

export interface CheckpointsParts {
  readonly clock: HostClock;
  readonly disks: readonly JournaledDisk[];
  /** A checkpoint is durable in every journal. */
  readonly onCheckpoint: (checkpoint: Tick) => void;
  readonly onFailure: (error: unknown) => void;
  readonly everyMs?: number;
}

export class Checkpoints {
  readonly #parts: CheckpointsParts;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<unknown> = Promise.resolve();
  #newest: Tick | null = null;

  constructor(parts: CheckpointsParts) {
    this.#parts = parts;
  }

  /** The newest that is durable in every journal. */
  get newest(): Tick | null {
    return this.#newest;
  }

  start(): void {
    this.#timer = setTimeout(() => {
      this.setIfNews().then(
        () => this.#timer !== null && this.start(),
        error => this.#parts.onFailure(error),
      );
    }, this.#parts.everyMs ?? EVERY_MS);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Sets one when anything was recorded since the last. */
  async setIfNews(): Promise<void> {
    const news = this.#parts.disks.map(disk => disk.takeNews());
    if (news.includes(true)) await this.set('');
  }

  /** Sets one now. @param marker its name, empty for none @returns it, once it is durable in every journal */
  async set(marker: string): Promise<Tick> {
    const payload = Buffer.from(marker, 'utf8');
    const tick = this.#parts.clock.next();
    // In one turn: no write comes between the disks' records of this checkpoint.
    const { disks } = this.#parts;
    const appended = disks.map(({ journal }) =>
      journal.append({ type: 'checkpoint', ...tick, offset: 0, length: payload.length, payload }),
    );
    const durable = Promise.all(appended).then(() => Promise.all(disks.map(({ journal }) => journal.sync())));
    const before = this.#running;
    const counted = durable.then(async () => {
      await before;
      this.#newest = tick;
      this.#parts.onCheckpoint(tick);
    });
    this.#running = counted.catch(() => {});
    await counted;
    return tick;
  }
}
