/** Rows and answers that the catalog's tests share. */
import { randomUUID } from 'node:crypto';
import type { Database } from '../../../src/catalog/database.ts';
import type { LayerFile } from '../../../src/catalog/register-snapshot.ts';
import type { ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import type { CatalogTask } from '../../../src/catalog/replica-tasks.ts';
import { createSourceInventory } from '../../../src/catalog/source-inventory.ts';
import type { Fence } from '../../../src/contract/fence.ts';
import { CONTRACT_VERSION, lockTypeOf } from '../../../src/contract/names.ts';
import type { ScheduleSettings, ScheduleSpec, TaskSummary } from '../../../src/contract/schedule.ts';
import type { Cursor, DiskPlan, SyncAnswer, SyncQuery } from '../../../src/contract/sync.ts';
import type { SealedFile } from '../../../src/domain/sealed-file.ts';

export const FINGERPRINT = 'ab'.repeat(32);
export const MIB = 1024 * 1024;

export const SETTINGS: ScheduleSettings = {
  type: 'interval',
  everyMs: 60_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

let counter = 0;
/** A name that no other test uses. */
export const fresh = (prefix: string): string => {
  counter += 1;
  return `${prefix}-${counter}`;
};

export const digestOf = (seed: number): string => seed.toString(16).padStart(32, '0');

export function specOf(changes: Partial<ScheduleSpec> = {}): ScheduleSpec {
  return {
    contractVersion: CONTRACT_VERSION,
    uuid: randomUUID(),
    name: fresh('schedule'),
    replicaSite: 'b',
    sourceSite: 'a',
    host: fresh('host'),
    ...changes,
  };
}

let inode = 1000;
/** A file that exists in no other snapshot. */
export function fileAt(path: string): LayerFile {
  inode += 1;
  return { path, device: '2049', inode: String(inode) };
}

/** Registers a snapshot whose disks lie in these files; `chains` are the layers beneath, the nearest first. */
export async function register(
  db: Database,
  host: string,
  tops: Record<string, LayerFile>,
  chains: Record<string, readonly LayerFile[]> = {},
) {
  return createSourceInventory(db).registerHostSnapshot({
    host,
    uuid: randomUUID(),
    originSite: 'a',
    takenAtMs: 1_700_000_000_000,
    disks: Object.entries(tops).map(([disk, file]) => ({
      ...file,
      disk,
      node: 'a1',
      format: 'qcow2',
      virtualSizeBytes: 64 * MIB,
      chain: chains[disk] ?? [],
    })),
  });
}

/** Registers `count` snapshots of one disk, each on the one before. @returns their uuids, the oldest first */
export async function registerChain(db: Database, host: string, count: number): Promise<string[]> {
  const uuids: string[] = [];
  let chain: LayerFile[] = [];
  for (let index = 0; index < count; index += 1) {
    const top = fileAt(`/images/${host}/vda.${index}.qcow2`);
    uuids.push((await register(db, host, { vda: top }, { vda: chain })).snapshot);
    chain = [top, ...chain];
  }
  return uuids;
}

export function fenceOf(scheduleUuid: string, generation: number, plan = 1): Fence {
  return { scheduleUuid, generation, plan };
}

export function cursorOf(hostSnapshot: string, taskUuid: string): Cursor {
  return { hostSnapshot, taskUuid, position: null, proofs: [] };
}

export function queryOf(host: string, fence: Fence, changes: Partial<SyncQuery> = {}): SyncQuery {
  return {
    fence,
    replicaSite: 'b',
    scheduleName: 'nightly',
    host,
    type: 'interval',
    taskUuid: randomUUID(),
    lockType: lockTypeOf(fence.scheduleUuid),
    prev: null,
    unfinished: null,
    replicaHoldsHost: false,
    replicaDoubts: [],
    ...changes,
  };
}

export function planOf(changes: Partial<DiskPlan> = {}): DiskPlan {
  return {
    disk: 'vda',
    method: 'full',
    baseSnapshot: null,
    reason: 'first copy',
    virtualSizeBytes: 64 * MIB,
    sourceNode: 'a1',
    senderFingerprint: FINGERPRINT,
    proof: [],
    ...changes,
  };
}

export function answerOf(hostSnapshot: string, disks: readonly DiskPlan[] = [planOf()]): SyncAnswer {
  return {
    result: 'create',
    target: {
      hostSnapshot,
      originSite: 'a',
      sourceSequence: 1,
      takenAtMs: 1_700_000_000_000,
      position: null,
      disks,
    },
    row: 3,
    reason: 'nothing is published yet',
    skipped: [],
    skippedCount: 0,
    warnings: [],
    waiting: false,
  };
}

export const NOTHING: SyncAnswer = {
  result: 'none',
  target: null,
  row: 7,
  reason: 'nothing is newer',
  skipped: [],
  skippedCount: 0,
  warnings: [],
  waiting: false,
};

let map = 1;
/** A map that no other test uses. */
export const freshMap = (): string => {
  map += 1;
  return digestOf(map);
};

/** What a sealed file might be. */
export const SEALED: SealedFile = {
  device: '2049',
  inode: '77',
  sizeBytes: 4096,
  mtimeNs: '1700000000000000001',
  ctimeNs: '1700000000000000002',
  contentDigest: digestOf(7),
};

/** Opens, lays out, receives and seals one disk task. @returns its layout */
export async function transfer(
  catalog: ReplicaCatalog,
  fence: Fence,
  diskTaskUuid: string,
  mapDigest = freshMap(),
) {
  const epoch = { generation: fence.generation, plan: fence.plan, openCount: 1 };
  await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint: FINGERPRINT });
  const layout = await catalog.adoptLayout({
    diskTaskUuid,
    epoch,
    mapDigest,
    virtualSizeBytes: 64 * MIB,
    clusterSizeBytes: 65_536,
  });
  await catalog.markReceived({ diskTaskUuid, epoch, totalBytes: 4096, contentDigest: digestOf(7) });
  const path = `${layout.directory}/${layout.finalName}`;
  await catalog.markSealed({ fence, diskTaskUuid, path, file: SEALED });
  return layout;
}

/** Runs one task of a registered schedule to its recovery point. */
export async function publishTask(
  catalog: ReplicaCatalog,
  scheduleUuid: string,
  answer: SyncAnswer,
): Promise<{ task: CatalogTask; fence: Fence; summary: TaskSummary }> {
  const taskUuid = randomUUID();
  const task = await catalog.createEmptyTask({ scheduleUuid, taskUuid });
  const fence = fenceOf(scheduleUuid, task.generation);
  const disks = await catalog.recordSyncInfo({ fence, taskUuid, answer, node: 'b1' });
  for (const { diskTaskUuid } of disks) await transfer(catalog, fence, diskTaskUuid);
  return { task, fence, summary: await catalog.finishTask({ fence, taskUuid }) };
}

/** Registers a schedule of a new host. */
export async function newSchedule(
  catalog: ReplicaCatalog,
  changes: Partial<ScheduleSpec> = {},
): Promise<ScheduleSpec> {
  const spec = specOf(changes);
  await catalog.registerSchedule({ spec, settings: SETTINGS, paused: false });
  return spec;
}

let revision = 0;
/** Pauses or resumes a schedule, as a newer write than all before. */
export function recordPaused(
  catalog: ReplicaCatalog,
  scheduleUuid: string,
  paused: boolean,
): Promise<boolean> {
  revision += 1;
  return catalog.recordPaused({ scheduleUuid, revision, paused, draining: false, releasing: false });
}
