/** An operator without a process for each command: the catalog of site A, and signals to schedules of site B. */
import { randomUUID } from 'node:crypto';
import { createReplicaInventory } from '../../src/catalog/replica-inventory.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import { CONTRACT_VERSION, scheduleWorkflowId } from '../../src/contract/names.ts';
import {
  QUERIES,
  type RequestOutcome,
  type ScheduleSettings,
  type ScheduleStatus,
  SIGNALS,
  type TaskSummary,
} from '../../src/contract/schedule.ts';
import { initialScheduleState } from '../../src/domain/schedule-state.ts';
import { startScheduleWorkflow } from '../../src/orchestration/schedule-start.ts';
import { openCatalog } from '../../src/sites/open-catalog.ts';
import { openSourceInventory } from '../../src/sites/source-inventory.ts';
import { until } from './e2e-host.ts';
import type { TwoSites } from './two-sites.ts';

export const HOURLY: ScheduleSettings = {
  type: 'interval',
  everyMs: 3_600_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

export interface Operator {
  /** Registers a host snapshot at A. @returns its UUID */
  importDisks(host: string, disks: Readonly<Record<string, string>>): Promise<string>;
  /** Takes a snapshot out of A's catalog. */
  forget(snapshot: string): Promise<void>;
  /** Creates a schedule of this name and host at B. @returns its UUID */
  create(name: string, host: string, settings?: ScheduleSettings): Promise<string>;
  status(name: string): Promise<ScheduleStatus>;
  /** Sends a request and waits for its answer. */
  ask(name: string, signal: keyof typeof SIGNALS, extra?: object): Promise<RequestOutcome>;
  untilStatus(
    name: string,
    what: string,
    ready: (status: ScheduleStatus) => boolean,
  ): Promise<ScheduleStatus>;
  /** Waits until the snapshot is published and nothing runs. @returns the task that did it */
  untilPublished(name: string, snapshot: string): Promise<TaskSummary>;
  close(): Promise<void>;
}

export async function openOperator(sites: TwoSites): Promise<Operator> {
  const inventory = await openSourceInventory(await loadConfig(sites.configPath.a));
  const db = await openCatalog(await loadConfig(sites.configPath.b), 'replica');
  const replica = createReplicaInventory(db);
  const handle = (name: string) => sites.client.workflow.getHandle(scheduleWorkflowId('b', name));
  const operator: Operator = {
    async importDisks(host, disks) {
      const list = Object.entries(disks).map(([disk, path]) => ({ disk, path }));
      return (await inventory.importSnapshot({ host, disks: list, takenAt: null })).snapshot;
    },
    async forget(snapshot) {
      await inventory.forget(snapshot);
    },
    async create(name, host, settings = HOURLY) {
      const uuid = randomUUID();
      const spec = {
        contractVersion: CONTRACT_VERSION,
        uuid,
        name,
        host,
        replicaSite: 'b',
        sourceSite: 'a',
      };
      await startScheduleWorkflow(sites.client, spec, initialScheduleState(settings, { paused: false }));
      return uuid;
    },
    status: name => handle(name).query<ScheduleStatus>(QUERIES.status),
    async ask(name, signal, extra = {}) {
      const requestId = randomUUID();
      await handle(name).signal(SIGNALS[signal], { requestId, ...extra });
      return until(
        `the answer to ${signal}`,
        async () => (await operator.status(name)).requests.find(found => found.requestId === requestId),
        found => found !== undefined,
      ) as Promise<RequestOutcome>;
    },
    untilStatus: (name, what, ready) => until(what, () => operator.status(name), ready),
    async untilPublished(name, snapshot) {
      // The status tells of the newest task only, and that may be one after it already.
      const ofSnapshot = (task: TaskSummary) =>
        task.outcome === 'published' && task.hostSnapshot === snapshot;
      const published = (await until(
        `${snapshot} published`,
        async () => (await replica.showSchedule(name))?.tasks.find(ofSnapshot),
        found => found !== undefined,
      )) as TaskSummary;
      await operator.untilStatus(
        name,
        `the end of task ${published.generation}`,
        ({ lastTask }) => (lastTask?.generation ?? 0) >= published.generation,
      );
      return published;
    },
    async close() {
      await inventory.close();
      await db.destroy();
    },
  };
  return operator;
}
