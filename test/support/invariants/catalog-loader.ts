/** Reads both catalogs, each in one snapshot of its database. */
import pg from 'pg';
import type { Cursor, SyncAnswer } from '../../../src/contract/sync.ts';
import type {
  Catalogs,
  DiskRow,
  FenceRow,
  LockPlace,
  ReplicaRows,
  ScheduleRow,
  SnapshotRow,
  SourceRows,
  StorageRow,
  TaskRow,
} from './site-rows.ts';

const MAX_TRIES = 10;
/** Outcomes that only an answer of A leads to; `none` is not recorded as such. */
const ANSWERED = new Set(['published', 'upToDate', 'waiting']);

/**
 * Reads B, then A, then B again, until no cursor moved between: then A's locks are those of B's cursors,
 * although two databases share no snapshot.
 */
export async function loadCatalogs(sourceUrl: string, replicaUrl: string): Promise<Catalogs> {
  for (let tries = 1; ; tries += 1) {
    const before = await loadReplica(replicaUrl);
    const source = await loadSource(sourceUrl);
    const replica = await loadReplica(replicaUrl);
    if (cursorsOf(before) === cursorsOf(replica)) return { source, replica };
    if (tries === MAX_TRIES) throw new Error('the cursors at B do not stand still');
  }
}

const cursorsOf = (rows: ReplicaRows): string =>
  JSON.stringify(rows.schedules.map(({ uuid, cursor, state }) => [uuid, cursor, state]));

export const loadReplica = (url: string): Promise<ReplicaRows> =>
  reading(url, async query => ({
    ...(await readSnapshots(query)),
    fences: await readFences(query),
    schedules: (await query(`select * from remote_backup_schedules order by created_at`)).map(toSchedule),
    tasks: (
      await query(`select t.*, hs.uuid as target from remote_backup_tasks t
        left join host_snapshots hs on hs.id = t.target_snapshot_id order by t.id`)
    ).map(toTask),
  }));

const loadSource = (url: string): Promise<SourceRows> =>
  reading(url, async query => ({
    snapshots: (await readSnapshots(query)).snapshots,
    fences: await readFences(query),
    locks: (
      await query(`select l.*, hs.uuid from host_snapshot_locks l
        join host_snapshots hs on hs.id = l.host_snapshot_id order by l.id`)
    ).map(row => ({
      hostSnapshot: String(row.uuid),
      lockType: String(row.lock_type),
      taskUuid: String(row.task_uuid),
      generation: Number(row.generation),
    })),
    answers: (
      await query(`select distinct on (task_uuid) * from sync_answers order by task_uuid, plan desc`)
    ).map(row => ({
      taskUuid: String(row.task_uuid),
      hostSnapshot: (row.answer as SyncAnswer).target?.hostSnapshot ?? null,
    })),
    guardReleases: (await query('select * from guard_releases')).map(row => ({
      hostSnapshot: String(row.host_snapshot),
      lockType: String(row.lock_type),
    })),
    senders: (await query(`select * from disk_senders where ended_at is null`)).map(row => ({
      diskTaskUuid: String(row.disk_task_uuid),
      scheduleUuid: String(row.schedule_uuid),
      generation: Number(row.generation),
    })),
  }));

type Row = Record<string, unknown>;
type Query = (sql: string) => Promise<Row[]>;

async function reading<T>(url: string, work: (query: Query) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('begin transaction isolation level repeatable read read only');
    return await work(async sql => (await client.query<Row>(sql)).rows);
  } finally {
    await client.end();
  }
}

async function readSnapshots(query: Query): Promise<{ snapshots: SnapshotRow[]; storages: StorageRow[] }> {
  const storages = (await query('select * from snapshot_storages order by id')).map(toStorage);
  const disks = await query(`select ds.*, d.ident from disk_snapshots ds
    join disks d on d.id = ds.disk_id order by ds.id`);
  const toDisk = (row: Row): DiskRow => ({
    disk: String(row.ident),
    virtualSizeBytes: Number(row.virtual_size_bytes),
    storage: storages.find(storage => storage.id === Number(row.storage_id)) ?? null,
  });
  const snapshots = await query(`select hs.*, h.ident, e.newest_checkpoint from host_snapshots hs
    join hosts h on h.id = hs.host_id left join cdp_epochs e on e.host_snapshot_id = hs.id order by hs.id`);
  return {
    storages,
    snapshots: snapshots.map(row => ({
      uuid: String(row.uuid),
      host: String(row.ident),
      state: row.state as SnapshotRow['state'],
      checkpoint: row.newest_checkpoint === null ? null : Number(row.newest_checkpoint),
      disks: disks.filter(disk => disk.host_snapshot_id === row.id).map(toDisk),
    })),
  };
}

const readFences = async (query: Query): Promise<FenceRow[]> =>
  (await query('select * from schedule_fences')).map(row => ({
    scheduleUuid: String(row.schedule_uuid),
    generation: Number(row.generation),
    plan: Number(row.plan),
    isTombstone: row.tombstoned_at !== null,
    replicaSite: row.replica_site as string | null,
  }));

const toStorage = (row: Row): StorageRow => ({
  id: Number(row.id),
  path: String(row.path),
  state: row.state as StorageRow['state'],
  baseId: row.base_storage_id === null ? null : Number(row.base_storage_id),
  format: row.format as StorageRow['format'],
});

const toSchedule = (row: Row): ScheduleRow => ({
  uuid: String(row.uuid),
  name: String(row.name),
  sourceSite: String(row.source_site),
  host: String(row.host),
  state: row.deleted_at !== null ? 'deleted' : row.deleting === true ? 'deleting' : 'live',
  isReleasePending: row.release_pending === true,
  lastGeneration: Number(row.last_generation),
  cursor: toPlace(row.cursor as Cursor | null),
});

const toTask = (row: Row): TaskRow => ({
  taskUuid: String(row.uuid),
  scheduleUuid: String(row.schedule_uuid),
  generation: Number(row.generation),
  plan: Number(row.plan),
  outcome: row.outcome as string | null,
  prev: toPlace(row.prev_info as Cursor | null),
  hasAnswer: row.sync_info !== null || ANSWERED.has(String(row.outcome)),
  hostSnapshot: row.target as string | null,
});

const toPlace = (cursor: Cursor | null): LockPlace | null =>
  cursor === null ? null : { hostSnapshot: cursor.hostSnapshot, taskUuid: cursor.taskUuid };
