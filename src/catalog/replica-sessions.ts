/** Receiver sessions: which epoch of a disk task may still bring bytes. They outlive the receiver's process. */
import type { Epoch, Fence } from '../contract/fence.ts';
import { PlanBrokenError, ReopenNeededError, SupersededError } from '../domain/errors.ts';
import { compareEpochs } from '../domain/fences.ts';
import { type Database, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError, SchedulePausedError } from './errors.ts';
import { closeSessionsOf, findDiskTask, lockRunningTask } from './replica-rows.ts';
import { lockLiveSchedule } from './replica-schedules.ts';

export interface ReceiverSession {
  readonly diskTaskUuid: string;
  readonly epoch: Epoch;
  readonly senderFingerprint: string;
  readonly state: 'open' | 'received' | 'closed';
  /** Set with `received`. */
  readonly received: { readonly totalBytes: number; readonly contentDigest: string } | null;
}

interface SessionRow {
  readonly disk_task_uuid: string;
  readonly generation: number;
  readonly plan: number;
  readonly open_count: number;
  readonly sender_fingerprint: string;
  readonly state: 'open' | 'received' | 'closed';
  readonly total_bytes: number | null;
  readonly content_digest: string | null;
}

/** A pause has to cut what the newest tasks left open; older ones were cut when they ended. */
const CUT_GENERATIONS = 3;

export function createSessionRows(db: Database) {
  return {
    /**
     * Opens or raises the disk task's session. A higher epoch opens a closed session again; one whose bytes
     * were received stays received.
     * @returns the same disk's older disk tasks: what they still write goes into the same file, so their connections
     * are to be cut before the new one writes
     * @throws {SupersededError} below the highest epoch seen
     * @throws {ReopenNeededError} when this epoch was opened and closed again
     * @throws {SchedulePausedError}
     */
    openSession: (input: {
      fence: Fence;
      diskTaskUuid: string;
      epoch: Epoch;
      senderFingerprint: string;
    }): Promise<readonly string[]> =>
      inTransaction(db, 'replica.commit.openSession', async trx => {
        const { fence, diskTaskUuid, epoch } = input;
        const schedule = await lockLiveSchedule(trx, fence.scheduleUuid);
        const diskTask = await findDiskTask(trx, diskTaskUuid);
        await lockRunningTask(trx, fence, diskTask.task_uuid);
        if (schedule.paused) throw new SchedulePausedError(schedule.name);
        if (
          diskTask.plan !== fence.plan ||
          epoch.plan !== fence.plan ||
          epoch.generation !== fence.generation
        ) {
          throw new CatalogInputError(`the epoch of disk task ${diskTaskUuid} is not of its plan`);
        }
        const known = await lockSession(trx, diskTaskUuid);
        assertMayOpen(known, epoch);
        const opened = {
          generation: epoch.generation,
          plan: epoch.plan,
          open_count: epoch.openCount,
          sender_fingerprint: input.senderFingerprint,
        };
        // The schedule's row is locked, so nobody inserts between the look and the write.
        if (known === null) {
          await trx('receiver_sessions').insert({ disk_task_uuid: diskTaskUuid, state: 'open', ...opened });
        } else {
          const state = known.state === 'received' ? 'received' : 'open';
          await trx('receiver_sessions')
            .where({ disk_task_uuid: diskTaskUuid })
            .update({ ...opened, state, opened_at: trx.fn.now() });
        }
        const older = await newestSessions(trx, fence.scheduleUuid)
          .where('dt.disk_id', diskTask.disk_id)
          .whereNot('dt.uuid', diskTaskUuid);
        return older.map(row => row.disk_task_uuid);
      }),

    /** No hello of the schedule is admitted any more. @returns the disk tasks whose connections are to be cut */
    closeSessions: (scheduleUuid: string): Promise<readonly string[]> =>
      inTransaction(db, 'replica.commit.closeSessions', async trx => {
        await closeSessionsOf(trx, 't.schedule_uuid = ?', scheduleUuid);
        // The closed ones too: a caller that died between closing and cutting asks again.
        const rows = await newestSessions(trx, scheduleUuid);
        return rows.map(row => row.disk_task_uuid);
      }),

    async findSession(diskTaskUuid: string): Promise<ReceiverSession | null> {
      const row = await db<SessionRow>('receiver_sessions')
        .where({ disk_task_uuid: diskTaskUuid } as object)
        .first();
      return row === undefined ? null : toSession(row as SessionRow);
    },

    /**
     * Notes that both ends computed the same digest. A retry with the same values finds it done.
     * @param input.sentBytes what really travelled, without an adopted prefix; all by default
     * @throws {SupersededError} unless the session's epoch is that one and open
     * @throws {PlanBrokenError} when the file is to be removed
     */
    markReceived: (input: {
      diskTaskUuid: string;
      epoch: Epoch;
      totalBytes: number;
      contentDigest: string;
      sentBytes?: number;
    }): Promise<void> =>
      inTransaction(db, 'replica.commit.markReceived', async trx => {
        const { diskTaskUuid, epoch, totalBytes, contentDigest } = input;
        const session = await lockSession(trx, diskTaskUuid);
        const isDone = session?.received?.contentDigest === contentDigest;
        if (isDone && compareEpochs(session.epoch, epoch) === 0) return;
        assertOpen(session, epoch);
        await trx('receiver_sessions')
          .where({ disk_task_uuid: diskTaskUuid })
          .update({ state: 'received', total_bytes: totalBytes, content_digest: contentDigest });
        const [diskTask] = await trx('remote_backup_disk_tasks')
          .where({ uuid: diskTaskUuid })
          .whereNotNull('storage_id')
          .update({
            state: 'received',
            bytes_total: totalBytes,
            bytes_sent: input.sentBytes ?? totalBytes,
          })
          .returning<{ storage_id: number }[]>('storage_id');
        if (diskTask === undefined) throw new CatalogInputError(`disk task ${diskTaskUuid} has no layout`);
        const [storage] = await trx('snapshot_storages')
          .where({ id: diskTask.storage_id })
          .whereNot('state', 'published')
          .update({ content_digest: contentDigest, total_bytes: totalBytes })
          .returning<{ state: string; path: string }[]>(['state', 'path']);
        if (storage?.state === 'dropped') throw new PlanBrokenError(`${storage.path} is being removed`);
      }),
  };
}

/** The sessions of the schedule's newest tasks. */
function newestSessions(trx: Transaction, scheduleUuid: string) {
  return trx('receiver_sessions as rs')
    .join('remote_backup_disk_tasks as dt', 'dt.uuid', 'rs.disk_task_uuid')
    .join('remote_backup_tasks as t', 't.id', 'dt.task_id')
    .join('remote_backup_schedules as s', 's.uuid', 't.schedule_uuid')
    .where('s.uuid', scheduleUuid)
    .whereRaw('t.generation > s.last_generation - ?', [CUT_GENERATIONS])
    .orderBy('rs.disk_task_uuid')
    .select<{ disk_task_uuid: string }[]>('rs.disk_task_uuid');
}

/** The disk task's session, locked until the transaction ends. */
export async function lockSession(trx: Transaction, diskTaskUuid: string): Promise<ReceiverSession | null> {
  const row = await trx<SessionRow>('receiver_sessions')
    .where({ disk_task_uuid: diskTaskUuid } as object)
    .forUpdate()
    .first();
  return row === undefined ? null : toSession(row as SessionRow);
}

/** @throws {SupersededError} unless the session is open under exactly this epoch */
export function assertOpen(session: ReceiverSession | null, epoch: Epoch): void {
  if (session === null) throw new SupersededError('no such receiver session');
  if (compareEpochs(session.epoch, epoch) !== 0) {
    throw new SupersededError(`the receiver ${words(epoch)} gave way to ${words(session.epoch)}`);
  }
  if (session.state !== 'open') throw new SupersededError(`the receiver session is ${session.state}`);
}

function assertMayOpen(session: ReceiverSession | null, epoch: Epoch): void {
  if (session === null) return;
  const order = compareEpochs(epoch, session.epoch);
  if (order < 0) throw new SupersededError(`a newer receiver ${words(session.epoch)} was opened`);
  if (order === 0 && session.state === 'closed') {
    throw new ReopenNeededError(`the receiver ${words(epoch)} was closed`);
  }
}

const words = ({ generation, plan, openCount }: Epoch): string => `(${generation}, ${plan}, ${openCount})`;

const toSession = (row: SessionRow): ReceiverSession => ({
  diskTaskUuid: row.disk_task_uuid,
  epoch: { generation: row.generation, plan: row.plan, openCount: row.open_count },
  senderFingerprint: row.sender_fingerprint,
  state: row.state,
  received:
    row.total_bytes === null || row.content_digest === null
      ? null
      : { totalBytes: row.total_bytes, contentDigest: row.content_digest },
});
