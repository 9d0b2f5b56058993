/** Runs one case of the matrix and looks at what it left. */
import { rmSync } from 'node:fs';
import { expect } from 'vitest';
import type { Fault } from '../../../src/lib/fault-injection.ts';
import { sleep } from '../e2e-faults.ts';
import { invariantsOf } from '../e2e-look.ts';
import { append } from './append-scenario.ts';
import type { FaultCase } from './cases.ts';
import { commands } from './commands-scenario.ts';
import { FaultHost } from './fault-host.ts';
import type { FaultSites } from './fault-sites.ts';
import { life } from './life-scenario.ts';
import type { Scenario } from './reach.ts';

/** A process that is held this long still answers its heartbeats. */
const HOLD_MS = 500;
/** So many increments stand on one host before it is removed: what is checked grows with every point. */
const SNAPSHOTS_PER_HOST = 8;

type Run = (on: FaultSites, faults: readonly Fault[]) => Promise<void>;

const RUNS: Readonly<Record<Scenario, Run>> = {
  start,
  full: onNewHost,
  incremental: (on, faults) => onKeptHost(on, faults, 'same'),
  compare: (on, faults) => onKeptHost(on, faults, 'other'),
  append,
  life,
  commands,
};

/** Runs the case; all of its faults have fired, its tasks are published, and section 9 holds. */
export async function runCase(on: FaultSites, { scenario, faults }: FaultCase): Promise<void> {
  if (scenario !== 'start' && on.keeper.startCount('b') === 0) await on.startWorkers();
  const done = new AbortController();
  const released = releaseHolds(on, done.signal);
  try {
    await RUNS[scenario](on, faults);
    await on.untilFired();
  } finally {
    done.abort();
    await released;
  }
  expect(await invariantsOf(on.sites)).toEqual([]);
}

async function releaseHolds(on: FaultSites, done: AbortSignal): Promise<void> {
  while (!done.aborted) {
    if (on.fired().some(({ kind }) => kind === 'hold')) {
      await sleep(HOLD_MS);
      rmSync(on.holdFile, { force: true });
      return;
    }
    await sleep(20);
  }
}

/** The very first start of both workers. */
async function start(on: FaultSites, faults: readonly Fault[]): Promise<void> {
  expect(on.keeper.startCount('a') + on.keeper.startCount('b'), 'workers started before').toBe(0);
  on.arm(faults);
  await on.startWorkers();
  // What failed as the worker started, and did not end it, is done when it is first needed.
  if (faults.some(({ kind }) => kind !== 'crash')) {
    const host = new FaultHost(on, nextName());
    const snapshot = await host.snapshot();
    await host.createSchedule();
    await host.untilPublished(snapshot);
  }
  await on.untilFired();
}

async function onNewHost(on: FaultSites, faults: readonly Fault[]): Promise<void> {
  const host = new FaultHost(on, nextName());
  const snapshot = await host.snapshot();
  // As for a replica site that was never sent to.
  await on.rows('a', 'delete from pinned_receivers');
  on.arm(faults);
  await host.createSchedule();
  const { methods } = await host.untilPublished(snapshot);
  expect(methods).toEqual(['full', 'full']);
  await on.untilFired();
  await host.untilIdle();
  on.arm([]);
  expect(await invariantsOf(on.sites)).toEqual([]);
  await host.remove();
}

let kept: { on: FaultSites; host: FaultHost; snapshots: number } | null = null;

async function onKeptHost(on: FaultSites, faults: readonly Fault[], chain: 'same' | 'other'): Promise<void> {
  const { host } = await hostWithPoint(on);
  const snapshot = await host.snapshot(chain);
  on.arm(faults);
  await host.runNow();
  const { methods } = await host.untilPublished(snapshot);
  const expected = chain === 'same' ? ['incremental', 'incremental'] : UNRELATED;
  expect(methods).toEqual(expected);
  await on.untilFired();
  await host.untilIdle();
}

/** What an unrelated chain is answered with. */
const UNRELATED = ['compare', 'compare'];

/** A host that has a recovery point already; a new one now and then. */
async function hostWithPoint(on: FaultSites) {
  if (kept !== null && kept.on === on && kept.snapshots < SNAPSHOTS_PER_HOST) {
    kept.snapshots += 1;
    return kept;
  }
  on.arm([]);
  if (kept !== null && kept.on === on) await kept.host.remove();
  const host = new FaultHost(on, nextName());
  kept = { on, host, snapshots: 1 };
  const first = await host.snapshot();
  await host.createSchedule();
  await host.untilPublished(first);
  return kept;
}

let names = 0;

function nextName(): string {
  names += 1;
  return `host${names}`;
}
