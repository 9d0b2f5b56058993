/** What end-to-end tests look at behind the command line: both catalogs, Temporal, and the replica files. */
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { ROOT_MARKER } from '../../src/images/replica/root-marker.ts';
import { checkInvariants, type Violation } from './invariants/check-invariants.ts';
import type { TwoSites } from './two-sites.ts';

/** Section 9 of the design over both sites. @param quiescent no task runs */
export const invariantsOf = (
  sites: TwoSites,
  quiescent = true,
  hosts: readonly string[] | null = null,
): Promise<Violation[]> =>
  checkInvariants({
    hosts,
    sourceDb: sites.databaseUrl.a,
    replicaDb: sites.databaseUrl.b,
    replicaRoots: [sites.replicaRoot],
    replicaSite: sites.siteName.b,
    sourceSite: sites.siteName.a,
    temporal: { client: sites.client, replicaSite: sites.siteName.b },
    quiescent,
  });

const READY_WITHIN_MS = 30_000;

/** Rows of one site's catalog; waits while PostgreSQL comes up again. */
export async function rowsOf<Row extends object>(
  sites: TwoSites,
  site: 'a' | 'b',
  sql: string,
): Promise<Row[]> {
  const client = await connected(sites.databaseUrl[site]);
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function connected(connectionString: string): Promise<pg.Client> {
  const endMs = Date.now() + READY_WITHIN_MS;
  for (;;) {
    const client = new pg.Client({ connectionString });
    try {
      await client.connect();
      return client;
    } catch (error) {
      await client.end().catch(() => undefined);
      if (Date.now() > endMs) throw error;
      await new Promise(resolve => setTimeout(resolve, 200));
    }
  }
}

export interface OpenTransfer {
  readonly diskTaskUuid: string;
  readonly taskUuid: string;
  readonly disk: string;
  readonly epoch: { readonly generation: number; readonly plan: number; readonly openCount: number };
}

/** The disks of unfinished tasks whose receiver is open and has not everything yet, as B's catalog knows it. */
export async function openTransfers(sites: TwoSites): Promise<OpenTransfer[]> {
  const rows = await rowsOf<Record<string, string>>(
    sites,
    'b',
    `select s.disk_task_uuid, s.generation, s.plan, s.open_count, t.uuid as task_uuid, d.ident
     from receiver_sessions s
     join remote_backup_disk_tasks dt on dt.uuid = s.disk_task_uuid
     join remote_backup_tasks t on t.id = dt.task_id
     join disks d on d.id = dt.disk_id
     where s.state = 'open' and t.outcome is null and s.plan = t.plan order by d.ident`,
  );
  return rows.map(row => ({
    diskTaskUuid: String(row.disk_task_uuid),
    taskUuid: String(row.task_uuid),
    disk: String(row.ident),
    epoch: {
      generation: Number(row.generation),
      plan: Number(row.plan),
      openCount: Number(row.open_count),
    },
  }));
}

/** The files of a folder and those below it, relative, sorted; without the marker of a replica folder. */
export async function filesUnder(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => !entry.isDirectory() && entry.name !== ROOT_MARKER)
    .map(entry => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();
}

const SLOT_BYTES = 512;

/**
 * The bytes that B holds as durable, over all layers that are being received.
 * @see docs/formats/replica-files.md, "Progress"
 */
export async function durableBytes(sites: TwoSites): Promise<number> {
  let totalBytes = 0;
  for (const name of await filesUnder(sites.replicaRoot)) {
    if (name.endsWith('.progress')) totalBytes += await progressOf(join(sites.replicaRoot, name));
  }
  return totalBytes;
}

async function progressOf(path: string): Promise<number> {
  const file = await open(path, 'r');
  try {
    const bytes = Buffer.alloc(2 * SLOT_BYTES);
    await file.read(bytes, 0, bytes.length, 0);
    const slots = [bytes.subarray(0, SLOT_BYTES), bytes.subarray(SLOT_BYTES)];
    const written = slots.filter(slot => slot.toString('latin1', 0, 7) === 'OFFSPRG');
    return Math.max(0, ...written.map(slot => Number(slot.readBigUInt64LE(24))));
  } finally {
    await file.close();
  }
}

export interface PendingFailure {
  readonly workflowId: string;
  readonly activity: string;
  readonly attempt: number;
  readonly code: string | null;
  readonly message: string;
}

/** The activities that a task or its disks wait for after a failure, as Temporal's own description tells. */
export async function pendingFailures(sites: TwoSites, taskUuid: string): Promise<PendingFailure[]> {
  const found: PendingFailure[] = [];
  const visit = async (workflowId: string): Promise<void> => {
    const { raw } = await sites.client.workflow.getHandle(workflowId).describe();
    for (const { activityType, attempt, lastFailure } of raw.pendingActivities ?? []) {
      if (!lastFailure) continue;
      found.push({
        workflowId,
        activity: activityType?.name ?? '',
        attempt: attempt ?? 0,
        code: lastFailure.applicationFailureInfo?.type ?? null,
        message: lastFailure.message ?? '',
      });
    }
    for (const child of raw.pendingChildren ?? []) await visit(child.workflowId ?? '');
  };
  await visit(`task/${taskUuid}`);
  return found;
}
