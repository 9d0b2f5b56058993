/** A seeded campaign: processes are killed every few seconds while snapshots, pauses, deletes and re-creations go on. */
import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ScheduleSettings } from '../../src/contract/schedule.ts';
import { SETTINGS } from '../support/faults/fault-host.ts';
import type { FaultSites } from '../support/faults/fault-sites.ts';
import { ChaosHost } from './chaos-host.ts';
import { createRandom, type Random } from './random.ts';

const TARGETS = { 'worker-a': 36, 'worker-b': 36, postgres: 14, temporal: 14 } as const;
const OPERATIONS = {
  pause: 3,
  drain: 3,
  release: 2,
  resume: 6,
  runNow: 4,
  rate: 2,
  delete: 1,
  purge: 1,
} as const;
const RATE_BYTES = 256 * 1024;
const SETTLE_WITHIN_MS = 1_200_000;
const RETRY_MS = 500;

export interface CampaignCounts {
  readonly kills: Record<keyof typeof TARGETS, number>;
  readonly operations: Record<keyof typeof OPERATIONS, number>;
  snapshots: number;
}

export interface Campaign {
  readonly counts: CampaignCounts;
  readonly hosts: readonly ChaosHost[];
  /** Goes on until the time is over; then everything heals. Resolves when each host's last snapshot is published. */
  run(minutes: number): Promise<void>;
}

const continuous: ScheduleSettings = { ...SETTINGS, type: 'continuous', everyMs: null };
const everyMs = (ms: number): ScheduleSettings => ({ ...SETTINGS, everyMs: ms });

/** @param logPath gets one line for each decision */
export function createCampaign(on: FaultSites, seed: number, logPath: string): Campaign {
  const hosts = [
    new ChaosHost(on, 'web', everyMs(5_000)),
    new ChaosHost(on, 'mail', everyMs(12_000)),
    new ChaosHost(on, 'data', continuous),
    new ChaosHost(on, 'shop', continuous),
  ];
  const counts: CampaignCounts = {
    kills: zeros(TARGETS),
    operations: zeros(OPERATIONS),
    snapshots: 0,
  };
  const startedAtMs = Date.now();
  let stopping = false;

  function note(text: string): void {
    appendFileSync(logPath, `${((Date.now() - startedAtMs) / 1000).toFixed(1)} s ${text}\n`);
  }

  /** Tries until it succeeds: PostgreSQL, Temporal or a worker may be away. */
  async function attempts<T>(what: string, work: () => Promise<T>): Promise<T> {
    const endMs = Date.now() + SETTLE_WITHIN_MS;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        note(`${what}: ${(error as Error).message}`);
        if (Date.now() > endMs) throw error;
        await sleep(RETRY_MS);
      }
    }
  }

  async function kills(random: Random): Promise<void> {
    while (!stopping) {
      await sleep(random.between(1_500, 6_500));
      const target = random.weighted(TARGETS);
      const isTold = random.next() < 0.5;
      // On a busy machine a start takes longer than the time between kills; who never serves proves nothing.
      if (!(await isServing(on, target))) continue;
      note(`kill ${target}${target.startsWith('worker') && isTold ? ', Temporal is told' : ''}`);
      kill(on, target, isTold);
      counts.kills[target] += 1;
    }
  }

  async function snapshots(random: Random): Promise<void> {
    while (!stopping) {
      const host = random.of(hosts);
      await host.snapshot(random, work => attempts(`import ${host.name}`, work));
      counts.snapshots += 1;
      note(`snapshot ${host.snapshots} of ${host.name}`);
      await sleep(random.between(1_000, 6_000));
    }
  }

  /** Each host has an operator of its own, who waits for nobody else's answers. */
  async function operates(host: ChaosHost, random: Random): Promise<void> {
    while (!stopping) {
      await sleep(random.between(6_000, 30_000));
      const operation = host.isPaused ? 'resume' : random.weighted(OPERATIONS);
      note(`${operation} ${host.name}`);
      await operate(host, operation, random);
      counts.operations[operation] += 1;
    }
  }

  async function operate(host: ChaosHost, operation: keyof typeof OPERATIONS, random: Random): Promise<void> {
    const ask = (request: Parameters<ChaosHost['request']>[0]) =>
      attempts(`${operation} ${host.name}`, () => host.request(request));
    if (operation === 'delete' || operation === 'purge') return recreate(host, operation === 'purge');
    if (operation === 'rate') {
      const rate = random.next() < 0.5 ? RATE_BYTES : null;
      return void (await ask({ kind: 'updateSettings', settings: host.settings(rate) }));
    }
    if (operation === 'resume' || operation === 'runNow') {
      await ask(operation);
      if (operation === 'resume') host.isPaused = false;
      return;
    }
    host.isPaused = true;
    await ask({ kind: 'pause', mode: operation === 'pause' ? 'now' : operation });
  }

  async function recreate(host: ChaosHost, purge: boolean): Promise<void> {
    await attempts(`delete ${host.name}`, async () => {
      const { state } = await on.operator.delete(host.ref, { purge });
      if (state !== 'deleted') throw new Error('is being deleted');
    });
    const uuid = host.newUuid();
    await attempts(`create ${host.name}`, () => host.createSchedule(uuid));
  }

  async function heal(random: Random): Promise<void> {
    for (const host of hosts) {
      await attempts(`resume ${host.name}`, () => host.request('resume'));
      await attempts(`rate of ${host.name}`, () =>
        host.request({ kind: 'updateSettings', settings: host.settings(null) }),
      );
    }
    for (const host of hosts) {
      const last = await host.snapshot(random, work => attempts(`import ${host.name}`, work));
      note(`last snapshot of ${host.name}: ${last}`);
      await attempts(`run ${host.name}`, () => host.request('runNow'));
      await attempts(`publish ${host.name}`, () => assertPublished(on, last));
    }
    // Nothing that an operator did is under way any more.
    for (const host of hosts) {
      await attempts(`drain ${host.name}`, () => host.request({ kind: 'pause', mode: 'drain' }));
      await attempts(`end of ${host.name}`, () => assertIdle(on, host.name));
    }
  }

  return {
    counts,
    hosts,
    async run(minutes) {
      for (const host of hosts) {
        const uuid = host.newUuid();
        await attempts(`create ${host.name}`, () => host.createSchedule(uuid));
      }
      const actors = [
        kills(createRandom(seed, 'kills')),
        snapshots(createRandom(seed, 'snapshots')),
        ...hosts.map(host => operates(host, createRandom(seed, host.name))),
      ];
      const over = sleep(minutes * 60_000);
      try {
        await Promise.race([over, Promise.all(actors)]);
      } finally {
        stopping = true;
      }
      await Promise.all(actors);
      note('everything may heal');
      await heal(createRandom(seed, 'heal'));
    },
  };
}

function kill(on: FaultSites, target: keyof typeof TARGETS, isTold: boolean): void {
  if (target === 'worker-a' || target === 'worker-b') {
    on.keeper.kill(target === 'worker-a' ? 'a' : 'b', isTold);
    return;
  }
  const pid = on.sites.supervisor.status()[target];
  // Between two lives there is nobody to be killed.
  if (pid !== undefined) tryKill(pid);
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function isServing(on: FaultSites, target: keyof typeof TARGETS): Promise<boolean> {
  const asked = {
    'worker-a': async () => on.keeper.isServing('a'),
    'worker-b': async () => on.keeper.isServing('b'),
    postgres: async () => (await on.rows('a', 'select 1')).length === 1,
    temporal: async () => {
      const { connection } = on.sites.client;
      await connection.withDeadline(Date.now() + RETRY_MS, () =>
        connection.workflowService.getSystemInfo({}),
      );
      return true;
    },
  };
  return asked[target]().catch(() => false);
}

async function assertPublished(on: FaultSites, snapshot: string): Promise<void> {
  const [row] = await on.rows<{ state: string }>('b', 'select state from host_snapshots where uuid = $1', [
    snapshot,
  ]);
  if (row?.state !== 'complete') throw new Error(`${snapshot} is ${row?.state ?? 'unknown'} at B`);
}

async function assertIdle(on: FaultSites, name: string): Promise<void> {
  const running = await on.rows(
    'b',
    `select 1 from remote_backup_tasks t join remote_backup_schedules s on s.uuid = t.schedule_uuid
     where s.name = $1 and t.finished_at is null`,
    [name],
  );
  if (running.length > 0) throw new Error('a task runs');
}

const zeros = <K extends string>(keys: Readonly<Record<K, number>>): Record<K, number> =>
  Object.fromEntries(Object.keys(keys).map(key => [key, 0])) as Record<K, number>;
