/** Records what the source answered: partial snapshots, and a disk task each disk. */
import type { Fence } from '../contract/fence.ts';
import type { DiskTask } from '../contract/replica-activities.ts';
import type { DiskPlan, SyncAnswer, SyncTarget } from '../contract/sync.ts';
import { PlanBrokenError } from '../domain/errors.ts';
import { type Database, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError } from './errors.ts';
import { diskIdOrCreate, type HostRow, lockHostOrCreate } from './host-rows.ts';
import { lockRunningTask, type StorageRow, type TaskRow } from './replica-rows.ts';
import { lockLiveSchedule } from './replica-schedules.ts';

interface SnapshotRow {
  readonly id: number;
  readonly uuid: string;
  readonly host_id: number;
  readonly state: 'partial' | 'complete';
}

export interface RecordSyncInput {
  readonly fence: Fence;
  readonly taskUuid: string;
  readonly answer: SyncAnswer;
  /** The node that takes files of disks which have none here yet. */
  readonly node: string;
}

export function createSyncRows(db: Database) {
  return {
    /**
     * Creates or updates the target's rows as partial, never lowering what is published, and gives each disk
     * of the answer its disk task. The unique (task, plan, disk) makes it idempotent.
     * @throws {PlanBrokenError} when a base is not published here
     */
    recordSyncInfo: (input: RecordSyncInput): Promise<readonly DiskTask[]> =>
      inTransaction(db, 'replica.commit.recordSyncInfo', async trx => {
        const schedule = await lockLiveSchedule(trx, input.fence.scheduleUuid);
        const task = await lockRunningTask(trx, input.fence, input.taskUuid);
        const { target } = input.answer;
        if (target === null) {
          await storeAnswer(trx, task, input.answer, null);
          return [];
        }
        const host = await lockHostOrCreate(trx, schedule.host);
        const snapshot = await partialSnapshot(trx, host, target, schedule.source_site);
        await storeAnswer(trx, task, input.answer, snapshot.id);
        if (target.position !== null) await recordEpoch(trx, host, snapshot, target);
        const disks: DiskTask[] = [];
        for (const plan of target.disks) {
          disks.push(await recordDisk(trx, { host, snapshot, task, plan, node: input.node }));
        }
        return disks;
      }),
  };
}

async function storeAnswer(
  trx: Transaction,
  task: TaskRow,
  answer: SyncAnswer,
  targetId: number | null,
): Promise<void> {
  await trx('remote_backup_tasks')
    .where({ id: task.id })
    .update({
      sync_info: JSON.stringify(answer),
      warnings: JSON.stringify(answer.warnings),
      target_snapshot_id: targetId,
    });
}

async function partialSnapshot(
  trx: Transaction,
  host: HostRow,
  target: SyncTarget,
  sourceSite: string,
): Promise<SnapshotRow> {
  await trx('host_snapshots')
    .insert({
      uuid: target.hostSnapshot,
      host_id: host.id,
      kind: target.position === null ? 'qcow2' : 'cdp',
      origin_site: target.originSite,
      // A site in the middle of a cascade tells its own sequence, which is not the origin's.
      origin_sequence: target.originSite === sourceSite ? target.sourceSequence : null,
      taken_at: new Date(target.takenAtMs),
      state: 'partial',
    })
    .onConflict('uuid')
    .ignore();
  const row = await trx<SnapshotRow>('host_snapshots')
    .where({ uuid: target.hostSnapshot } as object)
    .first('id', 'uuid', 'host_id', 'state');
  if (row?.host_id !== host.id) {
    throw new CatalogInputError(`snapshot ${target.hostSnapshot} is one of another host here`);
  }
  return row;
}

/** A journal stands on a base that is published here. @throws {PlanBrokenError} when it is not */
async function recordEpoch(
  trx: Transaction,
  host: HostRow,
  snapshot: SnapshotRow,
  { base, position }: SyncTarget,
): Promise<void> {
  const published = await trx('host_snapshots')
    .where({ uuid: base ?? null, host_id: host.id, state: 'complete' })
    .first<{ id: number } | undefined>('id');
  if (published === undefined || position === null) {
    throw new PlanBrokenError(`the base ${base} of ${snapshot.uuid} is not published here`);
  }
  await trx('cdp_epochs')
    .insert({ host_snapshot_id: snapshot.id, base_snapshot_id: published.id, epoch: position.epoch })
    .onConflict('host_snapshot_id')
    .ignore();
}

async function recordDisk(
  trx: Transaction,
  parts: { host: HostRow; snapshot: SnapshotRow; task: TaskRow; plan: DiskPlan; node: string },
): Promise<DiskTask> {
  const { host, snapshot, task, plan } = parts;
  const diskId = await diskIdOrCreate(trx, host.id, plan.disk);
  const key = { host_snapshot_id: snapshot.id, disk_id: diskId };
  const insert = trx('disk_snapshots')
    .insert({ ...key, virtual_size_bytes: plan.virtualSizeBytes })
    .onConflict(['host_snapshot_id', 'disk_id']);
  await (snapshot.state === 'partial' ? insert.merge(['virtual_size_bytes']) : insert.ignore());
  const diskSnapshot = await trx('disk_snapshots').where(key).first<{ id: number }>('id');

  const base = plan.baseSnapshot === null ? null : await publishedBase(trx, diskId, plan.baseSnapshot);
  await trx('remote_backup_disk_tasks')
    .insert({
      task_id: task.id,
      plan: task.plan,
      disk_id: diskId,
      method: plan.method,
      reason: plan.reason,
      base_snapshot: plan.baseSnapshot,
      base_storage_id: base?.id ?? null,
      node: base?.node ?? (await nodeOfDisk(trx, diskId)) ?? parts.node,
      disk_snapshot_id: diskSnapshot.id,
    })
    .onConflict(['task_id', 'plan', 'disk_id'])
    .ignore();
  const row = await trx('remote_backup_disk_tasks')
    .where({ task_id: task.id, plan: task.plan, disk_id: diskId })
    .first<{ uuid: string; node: string }>('uuid', 'node');
  return { diskTaskUuid: row.uuid, disk: plan.disk, node: row.node };
}

/** The storage in use of the disk in the base's host snapshot. */
async function publishedBase(
  trx: Transaction,
  diskId: number,
  hostSnapshot: string,
): Promise<Pick<StorageRow, 'id' | 'node'>> {
  const row = await trx('disk_snapshots as ds')
    .join('host_snapshots as hs', 'hs.id', 'ds.host_snapshot_id')
    .join('snapshot_storages as st', 'st.id', 'ds.storage_id')
    .where({ 'hs.uuid': hostSnapshot, 'hs.state': 'complete', 'ds.disk_id': diskId, 'st.state': 'published' })
    .first<{ id: number; node: string } | undefined>('st.id', 'st.node');
  if (row === undefined) throw new PlanBrokenError(`the base ${hostSnapshot} is not published here`);
  return row;
}

/** All layers of a disk lie on one node. */
async function nodeOfDisk(trx: Transaction, diskId: number): Promise<string | null> {
  const row = await trx('snapshot_storages as st')
    .join('disk_snapshots as ds', 'ds.id', 'st.disk_snapshot_id')
    .where('ds.disk_id', diskId)
    .whereNotNull('st.layout_digest')
    .whereNot('st.state', 'dropped')
    .orderBy('st.id', 'desc')
    .first<{ node: string } | undefined>('st.node');
  return row?.node ?? null;
}
