/** Two sites whose workers fail as a plan says, and what tests need to run tasks between them quickly. */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { loadConfig } from '../../../src/config/load-config.ts';
import type { SiteConfig } from '../../../src/config/site-config.ts';
import { scheduleWorkflowId } from '../../../src/contract/names.ts';
import { type Fault, type FiredFault, readFired } from '../../../src/lib/fault-injection.ts';
import type { Orchestrator } from '../../../src/orchestration/orchestrator.ts';
import { createOrchestrator } from '../../../src/orchestration/temporal-orchestrator.ts';
import { openSourceInventory } from '../../../src/sites/source-inventory.ts';
import { awaiting } from '../e2e-faults.ts';
import { startTwoSites, type TwoSites } from '../two-sites.ts';
import { announceDeath } from './dead-worker.ts';
import { builtWorker, createWorkerKeeper, type Site, type WorkerKeeper } from './worker-keeper.ts';

const SITES = ['a', 'b'] as const;

export interface FaultSites {
  readonly sites: TwoSites;
  readonly keeper: WorkerKeeper;
  /** The built command line. */
  readonly starter: string;
  /** The schedules' operator, in this process, whose own fault points are off. */
  readonly operator: Orchestrator;
  readonly inventory: Awaited<ReturnType<typeof openSourceInventory>>;
  readonly config: { readonly a: SiteConfig; readonly b: SiteConfig };
  /** What a process needs in its environment to fail as the plan says. */
  readonly armed: Readonly<Record<string, string>>;
  /** A file that holds last as long as; made anew by each {@link arm}. */
  readonly holdFile: string;
  /** Schedules by name whose workflows are told of a worker's death. */
  readonly schedules: Set<string>;
  /** Makes this the plan and forgets what fired before. */
  arm(faults: readonly Fault[]): void;
  fired(): readonly FiredFault[];
  /** Starts both workers and waits until they poll. */
  startWorkers(): Promise<void>;
  /** Waits until every fault of the plan has fired. */
  untilFired(): Promise<void>;
  rows<Row extends object>(site: Site, sql: string, values?: readonly unknown[]): Promise<Row[]>;
  close(): Promise<void>;
}

/** Starts PostgreSQL and Temporal, and no worker yet. */
export async function startFaultSites(): Promise<FaultSites> {
  const entry = await builtWorker();
  const sites = await startTwoSites({ workers: false });
  const plan = join(sites.dataDir, 'faults.json');
  const holdFile = join(sites.dataDir, 'hold');
  const armed = { OFFSITE_FAULTS: plan, OFFSITE_FAULTS_ARMED: 'test' };
  const schedules = new Set<string>();

  let planned: readonly Fault[] = [];

  function arm(faults: readonly Fault[]): void {
    planned = faults;
    writeFileSync(holdFile, '');
    writeFileSync(`${plan}.new`, JSON.stringify({ faults }));
    rmSync(`${plan}.fired`, { force: true });
    renameSync(`${plan}.new`, plan);
  }
  arm([]);

  const keeper = createWorkerKeeper({
    sites,
    entry,
    environment: armed,
    onDeath(site, pid) {
      const roots = [...schedules].map(name => scheduleWorkflowId('b', name));
      // Temporal's own time-outs stand behind it.
      announceDeath(sites.client, `${site}.${site}1@${pid}`, roots).catch(() => undefined);
    },
  });
  const config = { a: await loadConfig(sites.configPath.a), b: await loadConfig(sites.configPath.b) };
  const inventory = await openSourceInventory(config.a);
  const operator = createOrchestrator(config.b);
  const pools = { a: poolOf(sites.databaseUrl.a), b: poolOf(sites.databaseUrl.b) };
  return {
    starter: entry.replace(/worker\.js$/, 'starter.js'),
    ...{ sites, keeper, operator, inventory, config, armed, holdFile, schedules, arm },
    fired: () => readFired(plan),
    async startWorkers() {
      for (const site of SITES) keeper.start(site);
      await awaiting('both workers polling', () => SITES.every(site => keeper.isServing(site)));
    },
    async untilFired() {
      const missing = () => planned.filter(({ id }) => !readFired(plan).some(fired => fired.id === id));
      await awaiting('every fault', () => missing().length === 0).catch(() => {
        throw new Error(`never fired: ${missing().map(({ id }) => id)}`);
      });
    },
    rows: async (site, sql, values = []) => (await pools[site].query(sql, [...values])).rows,
    async close() {
      await keeper.close();
      await operator.close();
      await inventory.close();
      await Promise.all([pools.a.end(), pools.b.end()]);
      await sites.close();
    },
  };
}

function poolOf(connectionString: string): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 2 });
  // A server that was killed ends the connections that rest; the next question opens new ones.
  pool.on('error', () => {});
  return pool;
}
