/** The catalog of a source site, as its activities use it: answers, locks, senders. */
import type { Fence } from '../contract/fence.ts';
import type { Cursor, Position, SyncAnswer, SyncQuery } from '../contract/sync.ts';
import type { EpochView, HostView } from '../domain/host-view.ts';
import { atMost } from '../lib/at-most.ts';
import { type Database, guarded, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError, ImagesSilentError } from './errors.ts';
import { assertLockType, checkFence, isTombstoned } from './fence-rows.ts';
import { lockHost } from './host-rows.ts';
import { createGivenUpRows } from './source-given-up.ts';
import { tellReleases } from './source-guard.ts';
import { createSenderRows, SENDER_GRACE_MS } from './source-senders.ts';
import { readHostView } from './source-view.ts';

export interface SourceCatalogOptions {
  /** This site's name. */
  readonly site: string;
  /** The number that this worker process holds ({@link holdInstance}). */
  readonly instance: number;
  /** How long a worker's lock must be free before its senders count as gone. */
  readonly senderGraceMs?: number;
  /** How long a decision may look at files while it holds the host's row; 45 s by default. */
  readonly decideMs?: number;
}

/** Each holds a connection while it looks at files; the rest of the pool is for everything else. */
const ANSWERS_AT_ONCE = 4;
/** Below the time after which PostgreSQL takes the transaction's process for stopped. */
const DECIDE_MS = 45_000;

/** What the decision is told; it runs within the transaction, under the host's lock. */
export interface AnswerContext {
  readonly view: HostView | null;
  readonly nodeFingerprints: ReadonlyMap<string, string>;
  readonly prevLocked: boolean;
}

/**
 * The source's catalog over `db`. All methods are idempotent.
 * Errors: SupersededError and ScheduleDeletedError by the fence, DatabaseUnreachableError, CatalogInputError.
 */
export function createSourceCatalog(db: Database, options: SourceCatalogOptions) {
  const { decideMs = DECIDE_MS } = options;
  const answering = atMost(ANSWERS_AT_ONCE);
  const senders = createSenderRows(db, options.instance, options.senderGraceMs ?? SENDER_GRACE_MS);
  return guarded({
    ...senders,

    /**
     * Answers and locks in one transaction; the same (task uuid, plan) gets the same answer again.
     * An answer of an older plan loses its lock here.
     * @throws {ImagesSilentError} when the files are not looked at in time: the rows are not held any longer
     */
    answerSync: (
      query: SyncQuery,
      decide: (context: AnswerContext) => Promise<SyncAnswer>,
    ): Promise<SyncAnswer> =>
      answering(() =>
        inTransaction(db, 'source.commit.querySyncInfo', async trx => {
          assertLockType(query.fence.scheduleUuid, query.lockType);
          await checkFence(trx, query.fence);
          const stored = await storedAnswer(trx, query);
          if (stored !== null) return stored;
          const host = await lockHost(trx, query.host);
          const view = host === null ? null : await readHostView(trx, host);
          const prevLocked = query.prev !== null && (await isLocked(trx, query.lockType, query.prev));
          const nodeFingerprints = await readFingerprints(trx);
          const decided = await within(decideMs, decide({ view, nodeFingerprints, prevLocked }));
          const locked = prevLocked ? decided : await lockPrevAgain(trx, query, view, decided);
          const releases = await tellReleases(trx, query.fence.scheduleUuid);
          const answer = {
            ...locked,
            warnings: [...locked.warnings, ...releases],
            newestSequence: newestSequence(view),
          };
          await lockTarget(trx, query, view, answer);
          await subscribe(trx, query, view, answer);
          await storeAnswer(trx, query, answer);
          return answer;
        }),
      ),

    /** Releases locks of the type with a smaller generation, but those of the kept tasks. @returns how many */
    releaseOtherLocks: (input: {
      fence: Fence;
      lockType: string;
      keepTaskUuids: readonly string[];
    }): Promise<number> =>
      inTransaction(db, 'source.commit.releaseOtherLocks', async trx => {
        assertLockType(input.fence.scheduleUuid, input.lockType);
        await checkFence(trx, input.fence);
        return trx('host_snapshot_locks')
          .where({ lock_type: input.lockType })
          .where('generation', '<', input.fence.generation)
          .whereNotIn('task_uuid', [...input.keepTaskUuids])
          .delete();
      }),

    ...createGivenUpRows(db),

    /** After the tombstone: releases every lock of the type and the subscription. @returns how many locks */
    releaseAll: (input: { scheduleUuid: string; lockType: string }): Promise<number> =>
      inTransaction(db, 'source.commit.releaseAll', async trx => {
        assertLockType(input.scheduleUuid, input.lockType);
        if (!(await isTombstoned(trx, input.scheduleUuid))) {
          throw new CatalogInputError(`schedule ${input.scheduleUuid} has no tombstone; its locks stay`);
        }
        await trx('snapshot_subscriptions').where({ schedule_uuid: input.scheduleUuid }).delete();
        await trx('sync_answers').where({ schedule_uuid: input.scheduleUuid }).delete();
        await trx('task_rates').where({ schedule_uuid: input.scheduleUuid }).delete();
        await trx('guard_releases').where({ schedule_uuid: input.scheduleUuid }).delete();
        return trx('host_snapshot_locks').where({ lock_type: input.lockType }).delete();
      }),

    /** The files to send: the target's top, and the base's top for an increment; null when one is gone. */
    async findSource(input: { hostSnapshot: string; disk: string; baseSnapshot: string | null }): Promise<{
      topPath: string;
      basePath: string | null;
    } | null> {
      const topPath = await pathInUse(db, input.hostSnapshot, input.disk);
      if (topPath === null) return null;
      if (input.baseSnapshot === null) return { topPath, basePath: null };
      const basePath = await pathInUse(db, input.baseSnapshot, input.disk);
      return basePath === null ? null : { topPath, basePath };
    },

    /** The journal of a disk of a CDP host snapshot; null when it is gone. */
    async findJournal(input: { hostSnapshot: string; disk: string }): Promise<{
      /** The folder of its segments. */
      directory: string;
      /** The epoch's newest common checkpoint when it has ended; null while it is open. */
      endedAtCheckpoint: number | null;
    } | null> {
      const directory = await pathInUse(db, input.hostSnapshot, input.disk);
      const epoch = await db('cdp_epochs as e')
        .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
        .where('hs.uuid', input.hostSnapshot)
        .first<{ ended_at: Date | null; newest_checkpoint: number } | undefined>(
          'e.ended_at',
          'e.newest_checkpoint',
        );
      if (directory === null || epoch === undefined) return null;
      return { directory, endedAtCheckpoint: epoch.ended_at === null ? null : epoch.newest_checkpoint };
    },
  });
}

/** Work that hangs is left to itself. */
async function within<T>(limitMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ImagesSilentError(limitMs)), limitMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function storedAnswer(trx: Transaction, { taskUuid, fence }: SyncQuery): Promise<SyncAnswer | null> {
  const row = await trx<{ answer: SyncAnswer }>('sync_answers')
    .where({ task_uuid: taskUuid, plan: fence.plan } as object)
    .first('answer');
  return row?.answer ?? null;
}

async function storeAnswer(trx: Transaction, query: SyncQuery, answer: SyncAnswer): Promise<void> {
  const { scheduleUuid, generation, plan } = query.fence;
  // The fence refuses every older task, so nobody can ask for its answer; B keeps the record of the decision.
  await trx('sync_answers')
    .where({ schedule_uuid: scheduleUuid })
    .where('generation', '<', generation)
    .delete();
  await trx('sync_answers').insert({
    task_uuid: query.taskUuid,
    plan,
    schedule_uuid: scheduleUuid,
    generation,
    answer: JSON.stringify(answer),
  });
  await trx('schedule_fences')
    .where({ schedule_uuid: scheduleUuid })
    .update({ replica_site: query.replicaSite });
}

async function readFingerprints(trx: Transaction): Promise<ReadonlyMap<string, string>> {
  const rows = await trx<{ name: string; fingerprint: string }>('nodes').select('name', 'fingerprint');
  return new Map(rows.map(({ name, fingerprint }) => [name, fingerprint]));
}

async function isLocked(trx: Transaction, lockType: string, cursor: Cursor): Promise<boolean> {
  const row = await trx('host_snapshot_locks as l')
    .join('host_snapshots as hs', 'hs.id', 'l.host_snapshot_id')
    .where({ 'hs.uuid': cursor.hostSnapshot, 'l.lock_type': lockType, 'l.task_uuid': cursor.taskUuid })
    .first('l.id');
  return row !== undefined;
}

async function takeLock(
  trx: Transaction,
  lock: { snapshot: string; lockType: string; taskUuid: string; generation: number },
): Promise<void> {
  await trx('host_snapshot_locks')
    .insert({
      host_snapshot_id: trx('host_snapshots').where({ uuid: lock.snapshot }).select('id'),
      lock_type: lock.lockType,
      task_uuid: lock.taskUuid,
      generation: lock.generation,
    })
    .onConflict(['host_snapshot_id', 'lock_type', 'task_uuid'])
    .merge(['generation']);
}

/** The base of the next increment must not go while a replica stands on it, whatever took its lock away. */
async function lockPrevAgain(
  trx: Transaction,
  { prev, lockType, fence }: SyncQuery,
  view: HostView | null,
  answer: SyncAnswer,
): Promise<SyncAnswer> {
  if (prev === null || !isComplete(view, prev.hostSnapshot)) return answer;
  await takeLock(trx, {
    snapshot: prev.hostSnapshot,
    lockType,
    taskUuid: prev.taskUuid,
    // Prev's own generation is not told; any smaller one lets a later task release it.
    generation: fence.generation - 1,
  });
  const told = answer.warnings.some(text => text.includes('lock') && text.includes(prev.hostSnapshot));
  if (told) return answer;
  const warning = `the lock of ${prev.hostSnapshot} was missing; it is locked again`;
  return { ...answer, warnings: [...answer.warnings, warning] };
}

/** Locks the target for this task, and lets go of what an older plan of the same task had locked. */
async function lockTarget(
  trx: Transaction,
  { lockType, taskUuid, fence, prev }: SyncQuery,
  view: HostView | null,
  { target }: SyncAnswer,
): Promise<void> {
  if (target !== null && !isComplete(view, target.hostSnapshot)) {
    throw new CatalogInputError(`the target ${target.hostSnapshot} is not a complete snapshot of the host`);
  }
  if (taskUuid === prev?.taskUuid) throw new CatalogInputError('a task cannot follow itself');
  await trx('host_snapshot_locks').where({ lock_type: lockType, task_uuid: taskUuid }).delete();
  if (target === null) return;
  await takeLock(trx, {
    snapshot: target.hostSnapshot,
    lockType,
    taskUuid,
    generation: fence.generation,
  });
}

const isComplete = (view: HostView | null, snapshot: string): boolean =>
  view?.snapshots.some(({ uuid }) => uuid === snapshot) ?? false;

/**
 * A schedule waits for what is newer than its answer: a continuous one to take it, any other to know how far it is
 * behind. It waits for a host that is unknown yet, too.
 */
async function subscribe(
  trx: Transaction,
  { fence, replicaSite, scheduleName, host }: SyncQuery,
  view: HostView | null,
  { target }: SyncAnswer,
): Promise<void> {
  const position = target?.position ?? newestPosition(view);
  await trx('snapshot_subscriptions')
    .insert({
      schedule_uuid: fence.scheduleUuid,
      replica_site: replicaSite,
      schedule_name: scheduleName,
      host,
      answered_sequence: target?.sourceSequence ?? newestSequence(view),
      answered_position: position === null ? null : JSON.stringify(position),
    })
    .onConflict('schedule_uuid')
    .merge();
}

const newestSequence = (view: HostView | null): number => view?.snapshots.at(-1)?.sequence ?? 0;

/** Of the newest epoch that has a checkpoint. */
function newestPosition(view: HostView | null): Position | null {
  const epochs = (view?.snapshots ?? []).flatMap(({ epoch }) => epoch ?? []);
  const newest = epochs
    .filter(({ newestCheckpoint }) => newestCheckpoint > 0)
    .reduce<EpochView | null>((most, epoch) => (epoch.epoch > (most?.epoch ?? 0) ? epoch : most), null);
  return newest === null ? null : { epoch: newest.epoch, checkpoint: newest.newestCheckpoint };
}

async function pathInUse(db: Database, hostSnapshot: string, disk: string): Promise<string | null> {
  const row = await db('host_snapshots as hs')
    .join('disk_snapshots as ds', 'ds.host_snapshot_id', 'hs.id')
    .join('disks as d', 'd.id', 'ds.disk_id')
    .join('snapshot_storages as st', 'st.id', 'ds.storage_id')
    .where({ 'hs.uuid': hostSnapshot, 'hs.state': 'complete', 'd.ident': disk })
    .first<{ path: string } | undefined>('st.path');
  return row?.path ?? null;
}
