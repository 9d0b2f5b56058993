/** A host of the campaign: its disks, its snapshots, and the schedule that it has just now. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { ScheduleSettings } from '../../src/contract/schedule.ts';
import type { OperatorRequest } from '../../src/orchestration/orchestrator.ts';
import type { FaultSites } from '../support/faults/fault-sites.ts';
import { qemuImg, qemuIo } from '../support/qemu.ts';
import type { Random } from './random.ts';

/** Below the depth at which a chain is refused. */
const DEEPEST_CHAIN = 24;
const KIB = 1024;

export class ChaosHost {
  readonly name: string;
  snapshots = 0;
  schedules = 0;
  isPaused = false;
  #depth = 0;
  #tops: Record<string, string> = {};
  readonly #on: FaultSites;
  readonly #settings: ScheduleSettings;

  constructor(on: FaultSites, name: string, settings: ScheduleSettings) {
    this.#on = on;
    this.name = name;
    this.#settings = settings;
  }

  /** One name for all schedules that the host has, one after the other. */
  get ref() {
    return { replicaSite: 'b', name: this.name };
  }

  /** Writes somewhere into each disk and takes a snapshot, now and then on a chain of its own. @returns its UUID */
  async snapshot(random: Random, attempts: <T>(work: () => Promise<T>) => Promise<T>): Promise<string> {
    this.snapshots += 1;
    const isOther = this.#depth >= DEEPEST_CHAIN || random.next() < 0.06;
    this.#depth = isOther ? 1 : this.#depth + 1;
    const disks: { disk: string; path: string }[] = [];
    for (const [disk, sizeKib] of Object.entries({ vda: 16 * KIB, vdb: 4 * KIB })) {
      const path = join(this.#on.sites.imageDir, `${this.name}-${disk}-${this.snapshots}.qcow2`);
      await this.#layer(path, this.#tops[disk], `${sizeKib}k`, isOther);
      const writes = Array.from({ length: random.between(1, 3) }, () => {
        const lengthKib = random.between(4, sizeKib / 8);
        const atKib = random.between(0, sizeKib - lengthKib);
        const pattern = random.between(1, 255);
        return random.next() < 0.2
          ? `write -z ${atKib}k ${lengthKib}k`
          : `write -P ${pattern} ${atKib}k ${lengthKib}k`;
      });
      await qemuIo(path, writes);
      disks.push({ disk, path });
      this.#tops[disk] = path;
    }
    const { snapshot } = await attempts(() =>
      this.#on.inventory.importSnapshot({ host: this.name, disks, takenAt: null }),
    );
    return snapshot;
  }

  async #layer(path: string, below: string | undefined, size: string, isOther: boolean): Promise<void> {
    if (below === undefined) await qemuImg('create', '-q', '-f', 'qcow2', path, size);
    else if (isOther) await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', below, path);
    else await qemuImg('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', path);
  }

  /** May be called again after it failed: a schedule that exists is found. */
  createSchedule(uuid: string): Promise<unknown> {
    const { name } = this;
    const spec = { contractVersion: 1, uuid, name, host: name, replicaSite: 'b', sourceSite: 'a' };
    this.#on.schedules.add(name);
    this.isPaused = false;
    return this.#on.operator.startSchedule(spec, this.#settings, { paused: false });
  }

  newUuid(): string {
    this.schedules += 1;
    return randomUUID();
  }

  request(request: OperatorRequest): Promise<unknown> {
    return this.#on.operator.request(this.ref, request);
  }

  settings(bandwidthBytesPerSecond: number | null): ScheduleSettings {
    return { ...this.#settings, bandwidthBytesPerSecond };
  }
}
