/** Images of a host's disks that an operator brought to the replica, to be compared with. */
import { type Database, guarded, inTransaction, type Transaction } from './database.ts';
import { NotInCatalogError, SeedWaitingError } from './errors.ts';

export interface SeedInput {
  readonly disk: string;
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly virtualSizeBytes: number;
}

export interface Seed extends SeedInput {
  readonly uuid: string;
  readonly host: string;
  readonly node: string;
  readonly registeredAtMs: number;
  /** Set once a recovery point was published that was compared with it: it is of no use any more. */
  readonly usedAtMs: number | null;
  readonly usedBySnapshot: string | null;
}

export function createSeedRows(db: Database) {
  return guarded({
    /**
     * Registers images of disks of a host, all or none. The same ones again change nothing.
     * @throws {SeedWaitingError} when another image of a disk waits already
     */
    registerSeeds: (input: {
      host: string;
      node: string;
      seeds: readonly SeedInput[];
    }): Promise<readonly Seed[]> =>
      inTransaction(db, 'replica.commit.registerSeeds', async trx => {
        for (const seed of input.seeds) {
          await trx.raw(
            `insert into replica_seeds (uuid, host, disk, node, path, format, virtual_size_bytes)
             values (gen_random_uuid(), ?, ?, ?, ?, ?, ?) on conflict (host, disk) where used_at is null do nothing`,
            [input.host, seed.disk, input.node, seed.path, seed.format, seed.virtualSizeBytes],
          );
          const row = await trx<SeedRow>('replica_seeds')
            .where({ host: input.host, disk: seed.disk })
            .whereNull('used_at')
            .first();
          const isSame = row?.node === input.node && row.path === seed.path && row.format === seed.format;
          if (row !== undefined && !isSame) throw new SeedWaitingError(input.host, seed.disk, row.path);
        }
        const disks = input.seeds.map(({ disk }) => disk);
        const rows = await trx<SeedRow>('replica_seeds')
          .where({ host: input.host })
          .whereIn('disk', disks)
          .whereNull('used_at')
          .orderBy('disk');
        return (rows as SeedRow[]).map(toSeed);
      }),

    /** Of a host, or of all; those that were used, too. In order of host, disk and age. */
    async listSeeds(filter: { host: string | null }): Promise<readonly Seed[]> {
      const query = db<SeedRow>('replica_seeds').orderBy(['host', 'disk', 'id']);
      if (filter.host !== null) void query.where({ host: filter.host });
      return ((await query) as SeedRow[]).map(toSeed);
    },

    /**
     * Takes the image of a disk that waits out of the catalog; never the file.
     * @throws {NotInCatalogError}
     */
    forgetSeed: (input: { host: string; disk: string }): Promise<Seed> =>
      inTransaction(db, 'replica.commit.forgetSeed', async trx => {
        const [row] = await trx<SeedRow>('replica_seeds')
          .where(input)
          .whereNull('used_at')
          .delete()
          .returning('*');
        if (row !== undefined) return toSeed(row as SeedRow);
        throw new NotInCatalogError(
          `an image of ${input.host} ${input.disk} that waits to be compared with`,
          '`offsite replica seeds` lists all.',
        );
      }),
  });
}

/** In the transaction that publishes: the images that the task's disks were compared with have served. */
export async function noteUsedSeeds(trx: Transaction, taskId: number, snapshot: string): Promise<void> {
  await trx.raw(
    `update replica_seeds rs set used_at = now(), used_by_snapshot = ?
     from remote_backup_disk_tasks dt join remote_backup_tasks t on t.id = dt.task_id
     where t.id = ? and dt.plan = t.plan and rs.uuid = (dt.compared ->> 'seedUuid')::uuid and rs.used_at is null`,
    [snapshot, taskId],
  );
}

interface SeedRow {
  readonly uuid: string;
  readonly host: string;
  readonly disk: string;
  readonly node: string;
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly virtual_size_bytes: number;
  readonly registered_at: Date;
  readonly used_at: Date | null;
  readonly used_by_snapshot: string | null;
}

const toSeed = (row: SeedRow): Seed => ({
  uuid: row.uuid,
  host: row.host,
  disk: row.disk,
  node: row.node,
  path: row.path,
  format: row.format,
  virtualSizeBytes: row.virtual_size_bytes,
  registeredAtMs: row.registered_at.getTime(),
  usedAtMs: row.used_at?.getTime() ?? null,
  usedBySnapshot: row.used_by_snapshot,
});
