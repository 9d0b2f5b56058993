/** Who is connected for which disk task, in this process: attempts, cuts and progress. */
import type { Epoch } from '../contract/fence.ts';
import type { TransferProgress } from '../contract/transfer.ts';
import { compareEpochs } from '../domain/fences.ts';
import type { FrameConnection } from './connection.ts';
import { RefusedError } from './errors.ts';

/** One connection that named a disk task in its hello. */
export class Visitor {
  readonly diskTaskUuid: string;
  readonly epoch: Epoch;
  readonly attempt: number;
  readonly connection: FrameConnection;
  /** Resolves when the conversation is over and its last write has ended. */
  readonly ended: Promise<void>;
  readonly #end: () => void;
  #isCut = false;

  constructor(hello: { diskTaskUuid: string; epoch: Epoch; attempt: number }, connection: FrameConnection) {
    this.diskTaskUuid = hello.diskTaskUuid;
    this.epoch = hello.epoch;
    this.attempt = hello.attempt;
    this.connection = connection;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
  }

  /** True once a newer attempt or the replica site itself ended it: nothing more may be written or noted. */
  get isCut(): boolean {
    return this.#isCut;
  }

  cut(reason: string): void {
    this.#isCut = true;
    this.connection.destroy(reason);
  }

  end(): void {
    this.#end();
  }
}

interface DiskEntry {
  readonly visitors: Set<Visitor>;
  /** The admitted visitor of the highest epoch and attempt so far; kept after its end, for its numbers. */
  holder: Visitor | null;
  durableBytes: number;
  totalBytes: number | null;
  note: string | null;
}

/** Disk tasks without a connection are remembered up to this many. */
const REMEMBERED = 4096;

export class DiskRegistry {
  readonly #disks = new Map<string, DiskEntry>();

  /** Makes a connection known to {@link cut}; must come before its session is looked up. */
  enter(visitor: Visitor): void {
    const entry = this.#disks.get(visitor.diskTaskUuid) ?? {
      visitors: new Set(),
      holder: null,
      durableBytes: 0,
      totalBytes: null,
      note: null,
    };
    this.#disks.delete(visitor.diskTaskUuid);
    this.#disks.set(visitor.diskTaskUuid, entry);
    entry.visitors.add(visitor);
  }

  /** Must come when the visitor's last write has ended. */
  leave(visitor: Visitor): void {
    const entry = this.#disks.get(visitor.diskTaskUuid);
    entry?.visitors.delete(visitor);
    if (entry?.holder === null && entry.visitors.size === 0) this.#disks.delete(visitor.diskTaskUuid);
    visitor.end();
    this.#forgetOldest();
  }

  /**
   * Makes the visitor the disk's only writer: cuts the one before, and resolves when that has ended.
   * @returns true when there was one to wait for
   * @throws {RefusedError} StaleAttempt unless epoch and attempt are higher than all before
   */
  async claim(visitor: Visitor): Promise<boolean> {
    const entry = this.#entry(visitor);
    const before = entry.holder;
    if (before !== null && compareVisitors(visitor, before) <= 0) {
      throw new RefusedError(
        'StaleAttempt',
        `attempt ${before.attempt} came before attempt ${visitor.attempt}`,
      );
    }
    entry.holder = visitor;
    if (before === null || !entry.visitors.has(before)) return false;
    before.cut(`attempt ${visitor.attempt} of the same disk took over`);
    await before.ended;
    return true;
  }

  report(
    visitor: Visitor,
    progress: { durableBytes?: number; totalBytes?: number; note: string | null },
  ): void {
    const entry = this.#entry(visitor);
    if (entry.holder === visitor) Object.assign(entry, progress);
  }

  /** Ends connections of epochs below (null: all), and resolves when their last writes have ended. */
  async cut(diskTaskUuid: string, below: Epoch | null): Promise<void> {
    const visitors = [...(this.#disks.get(diskTaskUuid)?.visitors ?? [])].filter(
      ({ epoch }) => below === null || compareEpochs(epoch, below) < 0,
    );
    for (const visitor of visitors) visitor.cut('the replica site ended the session');
    await Promise.all(visitors.map(({ ended }) => ended));
  }

  progress(diskTaskUuid: string): (TransferProgress & { readonly lastSeenAtMs: number }) | null {
    const entry = this.#disks.get(diskTaskUuid);
    if (entry === undefined || entry.holder === null) return null;
    const { durableBytes, totalBytes, note, holder } = entry;
    return { diskTaskUuid, durableBytes, totalBytes, note, lastSeenAtMs: holder.connection.lastFrameAtMs };
  }

  #entry(visitor: Visitor): DiskEntry {
    const entry = this.#disks.get(visitor.diskTaskUuid);
    if (entry === undefined) throw new Error('a visitor that did not enter');
    return entry;
  }

  #forgetOldest(): void {
    for (const [uuid, entry] of this.#disks) {
      if (this.#disks.size <= REMEMBERED) return;
      if (entry.visitors.size === 0) this.#disks.delete(uuid);
    }
  }
}

const compareVisitors = (left: Visitor, right: Visitor): number =>
  compareEpochs(left.epoch, right.epoch) || left.attempt - right.attempt;
