/** The rows of a replica's schedules, tasks and disk tasks, and how one transaction takes hold of them. */
import type { Fence } from '../contract/fence.ts';
import type { EmptyTask } from '../contract/replica-activities.ts';
import type { DiskSummary, ScheduleSettings, TaskOutcome, TaskSummary } from '../contract/schedule.ts';
import type { Cursor, SyncAnswer, SyncMethod, SyncTarget } from '../contract/sync.ts';
import { SupersededError } from '../domain/errors.ts';
import type { SealedFile } from '../domain/sealed-file.ts';
import type { Transaction } from './database.ts';
import { CatalogInputError } from './errors.ts';
import { checkFence } from './fence-rows.ts';
import { targetAgeMs } from './source-clock.ts';

export interface ScheduleRow {
  readonly uuid: string;
  readonly name: string;
  readonly replica_site: string;
  readonly source_site: string;
  readonly host: string;
  readonly settings: ScheduleSettings;
  readonly paused: boolean;
  readonly draining: boolean;
  readonly releasing: boolean;
  readonly revision: number;
  readonly deleting: boolean;
  readonly purge: boolean;
  readonly forced: boolean;
  readonly deleted_at: Date | null;
  readonly created_at: Date;
  readonly next_run_at: Date | null;
  readonly next_run_after: Date | null;
  readonly last_generation: number;
  readonly cursor: Cursor | null;
  readonly cursor_snapshot_id: number | null;
  readonly cursor_generation: number | null;
}

/** What the task was told when it was made; a retry is told the same. Doubts are looked for each time. */
export type CurrentInfo = Pick<
  EmptyTask,
  'taskUuid' | 'lockType' | 'generation' | 'unfinished' | 'replicaHoldsHost'
>;

export interface TaskRow {
  readonly id: number;
  readonly uuid: string;
  readonly schedule_uuid: string;
  readonly generation: number;
  readonly plan: number;
  readonly plan_reasons: readonly string[];
  readonly prev_info: Cursor | null;
  readonly current_info: CurrentInfo;
  readonly sync_info: SyncAnswer | null;
  readonly target_snapshot_id: number | null;
  readonly outcome: TaskOutcome | null;
  readonly reason: string | null;
  readonly warnings: readonly string[];
  readonly started_at: Date;
  readonly finished_at: Date | null;
}

export interface DiskTaskRow {
  readonly uuid: string;
  readonly task_id: number;
  readonly plan: number;
  readonly disk_id: number;
  readonly method: SyncMethod;
  readonly reason: string;
  readonly base_snapshot: string | null;
  readonly base_storage_id: number | null;
  readonly node: string;
  readonly disk_snapshot_id: number | null;
  readonly storage_id: number | null;
  readonly state: 'planned' | 'received' | 'sealed';
  readonly bytes_sent: number;
  readonly bytes_total: number;
  readonly compared: Comparison | null;
}

/** What a disk was compared with, as kept on its disk task. */
export interface Comparison {
  readonly kind: 'replica' | 'seed' | 'none';
  /** The image; null for none. */
  readonly path: string | null;
  readonly format: 'qcow2' | 'raw';
  readonly seedUuid: string | null;
  /** True when every layer was proven in the same pass: the new layer is an overlay over it. */
  readonly isProven: boolean;
  /** Of all hashes that were sent: 32 hexadecimal digits; null for none. */
  readonly token: string | null;
  /** The digest of the whole disk as its sender read it, hexadecimal; null until its map came. */
  readonly guestDigest: string | null;
  /** In words for the operator. */
  readonly text: string;
}

export interface StorageRow {
  readonly id: number;
  readonly disk_snapshot_id: number;
  readonly node: string;
  readonly path: string;
  readonly format: 'qcow2' | 'cdp';
  readonly state: 'partial' | 'sealed' | 'published' | 'dropped';
  readonly layout_digest: string | null;
  readonly map_digest: string | null;
  readonly virtual_size_bytes: number | null;
  readonly cluster_size_bytes: number | null;
  readonly base_storage_id: number | null;
  readonly content_digest: string | null;
  readonly total_bytes: number | null;
  readonly sealed_file: SealedFile | null;
}

/** The schedule's row, locked until the transaction ends. All that acts on a schedule takes it first. */
export async function lockSchedule(trx: Transaction, uuid: string): Promise<ScheduleRow | null> {
  return (await trx<ScheduleRow>('remote_backup_schedules').where({ uuid }).forUpdate().first()) ?? null;
}

/** The task's row under the fence's schedule, locked. @throws {CatalogInputError} when it is not the fence's task */
export async function lockTask(trx: Transaction, fence: Fence, taskUuid: string): Promise<TaskRow> {
  const task = await trx<TaskRow>('remote_backup_tasks').where({ uuid: taskUuid }).forUpdate().first();
  if (
    task === undefined ||
    task.schedule_uuid !== fence.scheduleUuid ||
    task.generation !== fence.generation
  ) {
    throw new CatalogInputError(`task ${taskUuid} is not task ${fence.generation} of its schedule`);
  }
  return task;
}

/** As {@link lockTask}, under the fence. @throws {SupersededError} when the task has ended */
export async function lockRunningTask(trx: Transaction, fence: Fence, taskUuid: string): Promise<TaskRow> {
  const task = await lockTask(trx, fence, taskUuid);
  await checkFence(trx, fence);
  if (task.outcome !== null) throw new SupersededError(`task ${taskUuid} has ended as ${task.outcome}`);
  return task;
}

/** The disk task with the task and schedule that it belongs to. @throws {CatalogInputError} when unknown */
export async function findDiskTask(
  trx: Transaction,
  uuid: string,
): Promise<DiskTaskRow & { schedule_uuid: string; generation: number; task_uuid: string }> {
  const row = await trx('remote_backup_disk_tasks as dt')
    .join('remote_backup_tasks as t', 't.id', 'dt.task_id')
    .where('dt.uuid', uuid)
    .first('dt.*', 't.schedule_uuid', 't.generation', 't.uuid as task_uuid');
  if (row === undefined) throw new CatalogInputError(`disk task ${uuid} is unknown`);
  return row;
}

/** The schedule stands at the task's target now, in the transaction that publishes it. */
export async function writeCursor(
  trx: Transaction,
  task: TaskRow,
  target: SyncTarget,
  position: Cursor['position'],
): Promise<void> {
  const cursor: Cursor = {
    hostSnapshot: target.hostSnapshot,
    taskUuid: task.uuid,
    position,
    proofs: target.disks.map(({ disk, proof }) => ({ disk, layers: proof })),
  };
  await trx('remote_backup_schedules')
    .where({ uuid: task.schedule_uuid })
    .update({
      cursor: JSON.stringify(cursor),
      cursor_snapshot_id: task.target_snapshot_id,
      cursor_generation: task.generation,
    });
}

/** No hello of these sessions is admitted any more. What was received stays known. */
export async function closeSessionsOf(
  trx: Transaction,
  where: string,
  binding: string | number,
): Promise<void> {
  await trx.raw(
    `update receiver_sessions s set state = 'closed'
     from remote_backup_disk_tasks dt join remote_backup_tasks t on t.id = dt.task_id
     where dt.uuid = s.disk_task_uuid and s.state = 'open' and ${where}`,
    [binding],
  );
}

/** Ends a task that is not finished; its sessions close. */
export async function finishTaskRow(
  trx: Transaction,
  task: TaskRow,
  outcome: TaskOutcome,
  reason: string | null,
): Promise<TaskRow> {
  const [row] = await trx<TaskRow>('remote_backup_tasks')
    .where({ id: task.id })
    .update({ outcome, reason, finished_at: trx.fn.now() } as object)
    .returning('*');
  await closeSessionsOf(trx, 't.id = ?', task.id);
  return row as TaskRow;
}

/** What the workflow is told at the end of a task. */
export const readOutcome = async (trx: Transaction, task: TaskRow): Promise<TaskSummary> => ({
  ...(await readSummary(trx, task)),
  targetAgeMs: await targetAgeMs(trx, task.uuid),
});

/** What an operator reads of a task, with the disks of its newest plan. */
export async function readSummary(trx: Transaction, task: TaskRow): Promise<TaskSummary> {
  const rows = await trx('remote_backup_disk_tasks as dt')
    .join('disks as d', 'd.id', 'dt.disk_id')
    .where({ 'dt.task_id': task.id, 'dt.plan': task.plan })
    .orderBy('d.ident')
    .select<(DiskTaskRow & { ident: string })[]>('dt.*', 'd.ident');
  return {
    taskUuid: task.uuid,
    generation: task.generation,
    outcome: task.outcome,
    reason: task.reason,
    warnings: [...task.warnings, ...rows.flatMap(fallbackWarning)],
    startedAtMs: task.started_at.getTime(),
    finishedAtMs: task.finished_at?.getTime() ?? null,
    hostSnapshot: task.sync_info?.target?.hostSnapshot ?? null,
    disks: rows.map(toDiskSummary),
  };
}

/** What was to be compared had to be sent whole. */
const fallbackWarning = ({ ident, compared }: DiskTaskRow & { ident: string }): string[] =>
  compared?.kind === 'none' ? [`unexpected full of disk ${ident}: ${compared.text}`] : [];

const toDiskSummary = (row: DiskTaskRow & { ident: string }): DiskSummary => ({
  disk: row.ident,
  method: row.method,
  reason: row.compared === null ? row.reason : `${row.reason}; ${row.compared.text}`,
  bytesSent: row.bytes_sent,
  bytesTotal: row.bytes_total,
});
