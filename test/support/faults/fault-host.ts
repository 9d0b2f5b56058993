/** A small host of two disks with a schedule of its own: what one case of the matrix works on. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { ScheduleSettings } from '../../../src/contract/schedule.ts';
import { qemuImg, qemuIo } from '../qemu.ts';
import type { FaultSites } from './fault-sites.ts';

const SIZES = { vda: '8M', vdb: '4M' } as const;
const HOUR_MS = 3_600_000;
const LOOK_MS = 25;
const PUBLISHED_WITHIN_MS = 240_000;

export const SETTINGS: ScheduleSettings = {
  type: 'interval',
  everyMs: HOUR_MS,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

export interface EndedTask {
  readonly task_uuid: string;
  readonly outcome: string;
  readonly methods: readonly string[];
}

export class FaultHost {
  readonly name: string;
  readonly #on: FaultSites;
  #count = 0;
  #tops: Record<string, string> = {};

  constructor(on: FaultSites, name: string) {
    this.#on = on;
    this.name = name;
  }

  get ref() {
    return { replicaSite: 'b', name: this.name };
  }

  /** Takes the next snapshot: over the one before, or on a chain of its own (as after a revert). @returns its UUID */
  async snapshot(chain: 'same' | 'other' = 'same'): Promise<string> {
    this.#count += 1;
    const disks = await Promise.all(
      Object.entries(SIZES).map(async ([disk, size]) => {
        const path = join(this.#on.sites.imageDir, `${this.name}-${disk}-${this.#count}.qcow2`);
        const below = this.#tops[disk];
        if (below === undefined) await qemuImg('create', '-q', '-f', 'qcow2', path, size);
        else if (chain === 'other') await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', below, path);
        else await qemuImg('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', path);
        const lengths = below === undefined ? { vda: '3M', vdb: '1M' } : { vda: '1536k', vdb: '256k' };
        const at = `${(this.#count % 4) * 256}k`;
        await qemuIo(path, [`write -P ${this.#count % 251} ${at} ${lengths[disk as keyof typeof SIZES]}`]);
        return { disk, path };
      }),
    );
    this.#tops = Object.fromEntries(disks.map(({ disk, path }) => [disk, path]));
    const { snapshot } = await this.#on.inventory.importSnapshot({ host: this.name, disks, takenAt: null });
    return snapshot;
  }

  /** The newest layer of a disk. */
  top(disk: keyof typeof SIZES): string {
    return this.#tops[disk] ?? '';
  }

  async createSchedule(settings: ScheduleSettings = SETTINGS): Promise<void> {
    this.#on.schedules.add(this.name);
    const spec = {
      ...{ contractVersion: 1, uuid: randomUUID(), name: this.name, host: this.name },
      ...{ replicaSite: 'b', sourceSite: 'a' },
    };
    await this.#on.operator.startSchedule(spec, settings, { paused: false });
  }

  async runNow(): Promise<void> {
    await this.#on.operator.request(this.ref, 'runNow');
  }

  /** Waits until the snapshot is published and its task has ended. */
  untilPublished(snapshot: string): Promise<EndedTask> {
    return this.untilEnded(snapshot, 'published');
  }

  async untilEnded(snapshot: string, outcome: string, withinMs = PUBLISHED_WITHIN_MS): Promise<EndedTask> {
    const endMs = Date.now() + withinMs;
    for (;;) {
      const [task] = await this.#on.rows<EndedTask>(
        'b',
        `select t.uuid as task_uuid, t.outcome, array_agg(d.method order by d.disk_id) as methods
         from remote_backup_tasks t
         join host_snapshots hs on hs.id = t.target_snapshot_id
         join remote_backup_disk_tasks d on d.task_id = t.id and d.plan = t.plan
         where hs.uuid = $1 and t.outcome = $2 and t.finished_at is not null
         group by t.id order by t.generation desc limit 1`,
        [snapshot, outcome],
      );
      if (task !== undefined) return task;
      if (Date.now() > endMs) throw new Error(`${this.name}: ${snapshot} never ended as ${outcome}`);
      await new Promise(resolve => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Waits until the schedule's worker answers and no task of it runs. */
  async untilIdle(): Promise<void> {
    await this.#until('an idle schedule', async () => {
      const view = await this.#on.operator.status(this.ref);
      return view.reachable && view.status.state === 'waiting';
    });
  }

  /** Deletes the schedule and its replicas. */
  async remove(): Promise<void> {
    await this.#until('the end of the schedule', async () => {
      const { state } = await this.#on.operator.delete(this.ref, { purge: true });
      return state === 'deleted';
    });
    this.#on.schedules.delete(this.name);
  }

  /** What fails meanwhile, as the worker is started again, is asked again. */
  async #until(what: string, look: () => Promise<boolean>): Promise<void> {
    const endMs = Date.now() + PUBLISHED_WITHIN_MS;
    let last: unknown = null;
    while (Date.now() < endMs) {
      const isSo = await look().catch((error: unknown) => {
        last = error;
        return false;
      });
      if (isSo) return;
      await new Promise(resolve => setTimeout(resolve, LOOK_MS));
    }
    throw new Error(`${this.name}: never saw ${what}`, { cause: last });
  }
}
