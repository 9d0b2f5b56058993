/** A source's snapshots and locks, for its operator. */
import { UUID } from '../contract/names.ts';
import { type Database, guarded, inTransaction, type Transaction } from './database.ts';
import { NotForgettableError, NotInCatalogError, SnapshotLockedError } from './errors.ts';
import { type RegisterSnapshot, registerSnapshot } from './register-snapshot.ts';

export interface SnapshotDisk {
  readonly disk: string;
  readonly node: string;
  readonly path: string;
  readonly format: 'qcow2' | 'cdp';
  readonly virtualSizeBytes: number;
}

export interface SourceSnapshot {
  readonly host: string;
  /** The host snapshot's UUID. */
  readonly snapshot: string;
  readonly sequence: number;
  readonly originSite: string;
  readonly takenAtMs: number;
  readonly kind: 'qcow2' | 'cdp';
  readonly disks: readonly SnapshotDisk[];
}

export interface SnapshotLock {
  readonly host: string;
  readonly snapshot: string;
  readonly lockType: string;
  readonly taskUuid: string;
  readonly generation: number;
  readonly lockedAtMs: number;
  /** By the database's clock. */
  readonly ageMs: number;
  readonly holder: { readonly scheduleUuid: string; readonly replicaSite: string | null };
}

export interface ForgottenSnapshot {
  readonly host: string;
  readonly snapshot: string;
  /** How many disk snapshots were tied to the layer beneath. */
  readonly reparented: number;
}

export function createSourceInventory(db: Database) {
  return guarded({
    /** Registers a host snapshot; the same disks and files again change nothing. See {@link registerSnapshot}. */
    registerHostSnapshot: (input: RegisterSnapshot): Promise<SourceSnapshot & { created: boolean }> =>
      inTransaction(db, 'source.commit.registerHostSnapshot', async trx => {
        const { uuid, created } = await registerSnapshot(trx, input);
        const [snapshot] = await readSnapshots(trx, { uuid });
        return { ...(snapshot as SourceSnapshot), created };
      }),

    /** Complete snapshots in order of host and sequence; of all hosts by default. An unknown host has none. */
    listSnapshots: (filter: { host: string | null } = { host: null }): Promise<readonly SourceSnapshot[]> =>
      readSnapshots(db, filter.host === null ? {} : { host: filter.host }),

    /** All locks, the oldest first. */
    async listLocks(): Promise<readonly SnapshotLock[]> {
      const rows = await db('host_snapshot_locks as l')
        .join('host_snapshots as hs', 'hs.id', 'l.host_snapshot_id')
        .join('hosts as h', 'h.id', 'hs.host_id')
        .leftJoin('schedule_fences as f', 'f.lock_type', 'l.lock_type')
        .orderBy(['l.locked_at', 'l.id'])
        .select<LockRow[]>(
          'h.ident as host',
          'hs.uuid as snapshot',
          'l.lock_type',
          'l.task_uuid',
          'l.generation',
          'l.locked_at',
          'f.replica_site',
          db.raw('extract(epoch from clock_timestamp() - l.locked_at)::float8 * 1000 as age_ms'),
        );
      return rows.map(toLock);
    },

    /**
     * Removes a snapshot's rows, never a file; what stands on it is tied to the layer beneath.
     * @throws {SnapshotLockedError} while it or one that stands on it is locked, naming the holder and the age
     * @throws {NotInCatalogError}
     */
    forget: (snapshot: string): Promise<ForgottenSnapshot> =>
      inTransaction(db, 'source.commit.forgetSnapshot', async trx => forgetSnapshot(trx, snapshot)),
  });
}

interface SnapshotRow extends SnapshotDisk {
  readonly host: string;
  readonly snapshot: string;
  readonly sequence: number;
  readonly originSite: string;
  readonly taken_at: Date;
  readonly kind: 'qcow2' | 'cdp';
}

async function readSnapshots(
  db: Database | Transaction,
  filter: { host?: string; uuid?: string },
): Promise<readonly SourceSnapshot[]> {
  const query = db('host_snapshots as hs')
    .join('hosts as h', 'h.id', 'hs.host_id')
    .join('disk_snapshots as ds', 'ds.host_snapshot_id', 'hs.id')
    .join('disks as d', 'd.id', 'ds.disk_id')
    .join('snapshot_storages as st', 'st.id', 'ds.storage_id')
    .where('hs.state', 'complete')
    .orderBy(['h.ident', 'hs.sequence', 'd.ident'])
    .select<SnapshotRow[]>(
      'h.ident as host',
      'hs.uuid as snapshot',
      'hs.sequence',
      'hs.origin_site as originSite',
      'hs.taken_at',
      'hs.kind',
      'd.ident as disk',
      'st.node',
      'st.path',
      'st.format',
      'ds.virtual_size_bytes as virtualSizeBytes',
    );
  if (filter.host !== undefined) query.where('h.ident', filter.host);
  if (filter.uuid !== undefined) query.where('hs.uuid', filter.uuid);
  const bySnapshot = Map.groupBy(await query, row => row.snapshot);
  return [...bySnapshot.values()].map(toSnapshot);
}

function toSnapshot(rows: readonly SnapshotRow[]): SourceSnapshot {
  const { host, snapshot, sequence, originSite, taken_at: takenAt, kind } = rows[0] as SnapshotRow;
  const disks = rows.map(({ disk, node, path, format, virtualSizeBytes }) => ({
    disk,
    node,
    path,
    format,
    virtualSizeBytes,
  }));
  return { host, snapshot, sequence, originSite, takenAtMs: takenAt.getTime(), kind, disks };
}

interface LockRow {
  readonly host: string;
  readonly snapshot: string;
  readonly lock_type: string;
  readonly task_uuid: string;
  readonly generation: number;
  readonly locked_at: Date;
  readonly replica_site: string | null;
  readonly age_ms: number;
}

const toLock = (row: LockRow): SnapshotLock => ({
  host: row.host,
  snapshot: row.snapshot,
  lockType: row.lock_type,
  taskUuid: row.task_uuid,
  generation: row.generation,
  lockedAtMs: row.locked_at.getTime(),
  ageMs: Math.max(0, Math.round(row.age_ms)),
  holder: {
    scheduleUuid: row.lock_type.slice('remote_schedule_'.length),
    replicaSite: row.replica_site,
  },
});

async function forgetSnapshot(trx: Transaction, uuid: string): Promise<ForgottenSnapshot> {
  const missing = () =>
    new NotInCatalogError(`snapshot ${uuid}`, '`offsite source list` shows what is registered.');
  if (!UUID.test(uuid)) throw missing();
  const found = await trx('host_snapshots as hs')
    .join('hosts as h', 'h.id', 'hs.host_id')
    .where({ 'hs.uuid': uuid, 'hs.state': 'complete' })
    .first<{ host_id: number; host: string } | undefined>('hs.host_id', 'h.ident as host');
  if (found === undefined) throw missing();
  await trx('hosts').where({ id: found.host_id }).forUpdate().first('id');
  const snapshot = await trx('host_snapshots').where({ uuid }).first<{ id: number } | undefined>('id');
  if (snapshot === undefined) throw missing();
  const disks = await trx('disk_snapshots')
    .where({ host_snapshot_id: snapshot.id })
    .select<{ id: number; parent_id: number | null }[]>('id', 'parent_id');
  await assertForgettable(trx, uuid, snapshot.id);

  let reparented = 0;
  for (const disk of disks) {
    reparented += await trx('disk_snapshots')
      .where({ parent_id: disk.id })
      .update({ parent_id: disk.parent_id });
  }
  const ids = disks.map(({ id }) => id);
  await trx('disk_snapshots').whereIn('id', ids).update({ storage_id: null });
  await trx('snapshot_storages').whereIn('disk_snapshot_id', ids).delete();
  await trx('disk_snapshots').whereIn('id', ids).delete();
  await trx('host_snapshots').where({ id: snapshot.id }).delete();
  return { host: found.host, snapshot: uuid, reparented };
}

async function assertForgettable(trx: Transaction, uuid: string, id: number): Promise<void> {
  const { rows } = await trx.raw<{ rows: HoldingRow[] }>(
    `with recursive above (id, host_snapshot_id) as (
       select id, host_snapshot_id from disk_snapshots where host_snapshot_id = ?
       union
       select c.id, c.host_snapshot_id from disk_snapshots c join above on c.parent_id = above.id
     )
     select hs.uuid, l.lock_type, extract(epoch from clock_timestamp() - l.locked_at)::float8 as age_seconds
     from host_snapshot_locks l join host_snapshots hs on hs.id = l.host_snapshot_id
     where l.host_snapshot_id in (select host_snapshot_id from above union select ?)
     order by l.locked_at limit 1`,
    [id, id],
  );
  const [lock] = rows;
  if (lock !== undefined) throw new SnapshotLockedError(heldBy(uuid, lock));
  const epoch = await trx('cdp_epochs as e')
    .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
    .where('e.base_snapshot_id', id)
    .first<{ uuid: string } | undefined>('hs.uuid');
  if (epoch !== undefined) {
    throw new NotForgettableError(
      `snapshot ${uuid} is the base of the CDP host snapshot ${epoch.uuid}`,
      `Forget that one first: \`offsite source forget ${epoch.uuid}\`.`,
    );
  }
  const replica = await trx('snapshot_storages as st')
    .join('disk_snapshots as ds', 'ds.id', 'st.disk_snapshot_id')
    .where('ds.host_snapshot_id', id)
    .whereNotNull('st.layout_digest')
    .first('st.id');
  if (replica !== undefined) {
    throw new NotForgettableError(
      `snapshot ${uuid} is a replica of another site`,
      'It goes with its schedule: `offsite schedule delete --purge`.',
    );
  }
}

interface HoldingRow {
  readonly uuid: string;
  readonly lock_type: string;
  readonly age_seconds: number;
}

function heldBy(wanted: string, { uuid, lock_type: lockType, age_seconds: ageSeconds }: HoldingRow): string {
  const which = uuid === wanted ? `snapshot ${wanted}` : `snapshot ${uuid}, which stands on ${wanted},`;
  return `${which} is locked by ${lockType} for ${Math.round(ageSeconds)} s`;
}
