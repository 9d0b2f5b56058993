/** Section 9 of the design as one function over both catalogs, all files and all workflows. */
import type { Client } from '@temporalio/client';
import { loadCatalogs, loadReplica } from './catalog-loader.ts';
import { checkFiles } from './file-rules.ts';
import { checkLocks } from './lock-rules.ts';
import { checkPoints } from './point-rules.ts';
import type { Catalogs, ReplicaRows } from './site-rows.ts';
import { checkTasks } from './task-rules.ts';
import { collect, type Violation } from './violation.ts';
import { checkWorkflows } from './workflow-rules.ts';

export type { Violation } from './violation.ts';

export interface InvariantInput {
  /** Connection strings of the two catalogs. */
  readonly sourceDb: string;
  readonly replicaDb: string;
  /** The replica's name: other replica sites of the source have locks of their own. Left out where there is none. */
  readonly replicaSite?: string;
  /** The source's name: schedules of other sources are not judged by its catalog. Left out where there is none. */
  readonly sourceSite?: string;
  /** The folders that hold replica files and nothing else. */
  readonly replicaRoots: readonly string[];
  /** Null leaves Temporal out, for states that were made without it. */
  readonly temporal: { readonly client: Client; readonly replicaSite: string } | null;
  /** True when no task runs. Else what may change between two looks is left out. */
  readonly quiescent: boolean;
  /** Points and schedules of these hosts only, where the others were looked at before; null for all. */
  readonly hosts?: readonly string[] | null;
}

/** @returns every breach found, an empty list for a sound state; the texts name what and where */
export async function checkInvariants(input: InvariantInput): Promise<Violation[]> {
  const { sourceDb, replicaDb, quiescent } = input;
  const catalogs = await loadCatalogs(sourceDb, replicaDb);
  const reload = (): Promise<ReplicaRows> => loadReplica(replicaDb);
  const own = ofSource(catalogs, input.sourceSite);
  const found = [...checkTasks(own), ...checkLocks(own, quiescent, input.replicaSite)];
  const hosts = input.hosts ?? null;
  found.push(...(await collect(checkPoints(ofHosts(catalogs, hosts)))));
  found.push(...(await collect(checkFiles(catalogs.replica, input.replicaRoots, reload))));
  if (input.temporal !== null) {
    const workflowInput = { ...input.temporal, quiescent, hosts, reload };
    found.push(...(await collect(checkWorkflows(catalogs.replica, workflowInput))));
  }
  return found;
}

/** Rows of tasks and files stay whole: what they say of each other is judged over all of them. */
function ofHosts({ source, replica }: Catalogs, hosts: readonly string[] | null): Catalogs {
  if (hosts === null) return { source, replica };
  const isOf = ({ host }: { readonly host: string }) => hosts.includes(host);
  return {
    source: { ...source, snapshots: source.snapshots.filter(isOf) },
    replica: { ...replica, snapshots: replica.snapshots.filter(isOf) },
  };
}

/** The catalogs without what the replica has from other sources. */
function ofSource(catalogs: Catalogs, sourceSite: string | undefined): Catalogs {
  if (sourceSite === undefined) return catalogs;
  const schedules = catalogs.replica.schedules.filter(row => row.sourceSite === sourceSite);
  const uuids = new Set(schedules.map(({ uuid }) => uuid));
  const tasks = catalogs.replica.tasks.filter(task => uuids.has(task.scheduleUuid));
  return { ...catalogs, replica: { ...catalogs.replica, schedules, tasks } };
}
