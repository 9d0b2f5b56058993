/** How the files of replicas are at rest: what a scrub found, what a look has doubts about, and their folders. */
import type { LayerDamage, NodeFile, SealedFile } from '../domain/sealed-file.ts';
import { effect } from '../lib/fault-points.ts';
import type { Database } from './database.ts';

/** A sealed file that can be read and compared. */
export interface LayerToVerify extends NodeFile {
  readonly host: string;
  readonly disk: string;
  /** The host snapshot that the file was made for. */
  readonly hostSnapshot: string;
  readonly sealed: SealedFile;
  /** The file name of its base; null for a stand-alone image. */
  readonly baseName: string | null;
  readonly damage: LayerDamage | null;
  readonly verifiedAtMs: number | null;
}

/** The columns of snapshot_storages that tell of damage. */
export interface DamageColumns {
  readonly damage: string | null;
  readonly damage_kind: LayerDamage['kind'] | null;
  readonly damage_found_at: Date | null;
}

export function toDamage(row: DamageColumns): LayerDamage | null {
  const { damage: reason, damage_kind: kind, damage_found_at: foundAt } = row;
  return reason === null || kind === null || foundAt === null
    ? null
    : { kind, reason, foundAtMs: foundAt.getTime() };
}

interface LayerRow extends DamageColumns {
  readonly host: string;
  readonly disk: string;
  readonly host_snapshot: string;
  readonly node: string;
  readonly path: string;
  readonly sealed_file: SealedFile;
  readonly base_name: string | null;
  readonly verified_at: Date | null;
}

export function createHealthRows(db: Database) {
  return {
    /** The sealed files of a node, of one host or all, those first that were verified longest ago or never. */
    async layersToVerify(input: { node: string; host: string | null }): Promise<readonly LayerToVerify[]> {
      const { rows } = await db.raw<{ rows: LayerRow[] }>(
        `select h.ident as host, d.ident as disk, hs.uuid as host_snapshot, st.node, st.path, st.sealed_file,
                substring(base.path from '[^/]*$') as base_name, st.verified_at, st.damage, st.damage_kind,
                st.damage_found_at
         from snapshot_storages st
         join disk_snapshots ds on ds.id = st.disk_snapshot_id
         join disks d on d.id = ds.disk_id
         join hosts h on h.id = d.host_id
         join host_snapshots hs on hs.id = ds.host_snapshot_id
         left join snapshot_storages base on base.id = st.base_storage_id
         where st.sealed_file is not null and st.state in ('sealed', 'published') and st.node = ?
           and h.ident = coalesce(?::text, h.ident)
         order by st.verified_at nulls first, st.id`,
        [input.node, input.host],
      );
      return rows.map(toLayer);
    },

    /**
     * Notes what reading a file whole gave. What is intact is proven anew by what the file is now, and all doubts go.
     * Nothing happens when the row speaks of another file by now, or is being removed.
     * @returns whether it was noted
     */
    async recordVerified(input: {
      layer: Pick<LayerToVerify, 'node' | 'path' | 'sealed'>;
      damage: string | null;
      file: SealedFile | null;
    }): Promise<boolean> {
      const { layer, damage, file } = input;
      const { rowCount } = await effect('replica.commit.recordVerified', () =>
        db.raw<{ rowCount: number }>(
          `update snapshot_storages set
             verified_at = now(),
             damage = ?::text,
             damage_kind = case when ?::text is null then null else 'content' end,
             damage_found_at = case when ?::text is null then null else coalesce(damage_found_at, now()) end,
             sealed_file = case when ?::text is null then coalesce(?::jsonb, sealed_file) else sealed_file end
           where node = ? and path = ? and layout_digest is not null and state in ('sealed', 'published')
             and sealed_file = ?::jsonb`,
          [
            ...[damage, damage, damage, damage, file === null ? null : JSON.stringify(file)],
            ...[layer.node, layer.path, JSON.stringify(layer.sealed)],
          ],
        ),
      );
      return rowCount > 0;
    },

    /** Notes what speaks against files by their marks, and takes back what no longer does. Found damage stays. */
    async noteDoubts(found: readonly (NodeFile & { readonly doubt: string | null })[]): Promise<void> {
      for (const { node, path, doubt } of found) {
        await effect('replica.commit.noteDoubts', () =>
          db.raw(
            `update snapshot_storages set
               damage = ?::text,
               damage_kind = case when ?::text is null then null else 'doubt' end,
               damage_found_at = case when ?::text is null then null else coalesce(damage_found_at, now()) end
             where node = ? and path = ? and layout_digest is not null and state in ('sealed', 'published')
               and damage_kind is distinct from 'content'`,
            [doubt, doubt, doubt, node, path],
          ),
        );
      }
    },

    /** Notes that the bytes of a file are not those that were sealed, as whoever read them saw. */
    async noteDamage({ node, path, reason }: NodeFile & { reason: string }): Promise<void> {
      await effect('replica.commit.noteDamage', () =>
        db.raw(
          `update snapshot_storages set damage = ?, damage_kind = 'content',
             damage_found_at = coalesce(damage_found_at, now())
           where node = ? and path = ? and layout_digest is not null and state in ('sealed', 'published')`,
          [reason, node, path],
        ),
      );
    },

    /** The id of a node's folder of replicas, null before its first use. */
    async rootIdOf(root: NodeFile): Promise<string | null> {
      const row = await db('replica_roots')
        .where(keyOf(root))
        .first<{ root_id: string } | undefined>('root_id');
      return row?.root_id ?? null;
    },

    /** Notes the folder's id, once. @returns the one that is noted */
    async noteRoot(root: NodeFile, rootId: string): Promise<string> {
      await effect('replica.commit.noteRoot', () =>
        db('replica_roots')
          .insert({ ...keyOf(root), root_id: rootId })
          .onConflict(['node', 'path'])
          .ignore(),
      );
      const row = await db('replica_roots').where(keyOf(root)).first<{ root_id: string }>('root_id');
      return row.root_id;
    },

    /** Some sealed files below a folder, the newest first: one of them is there, if the folder is the right one. */
    async someFilesBelow({ node, path }: NodeFile): Promise<readonly string[]> {
      const rows = await db('snapshot_storages')
        .where({ node })
        .whereNotNull('sealed_file')
        .whereIn('state', ['sealed', 'published'])
        .whereRaw('starts_with(path, ?)', [`${path}/`])
        .orderBy('id', 'desc')
        .limit(100)
        .select<{ path: string }[]>('path');
      return rows.map(row => row.path);
    },
  };
}

const keyOf = ({ node, path }: NodeFile) => ({ node, path });

const toLayer = (row: LayerRow): LayerToVerify => ({
  host: row.host,
  disk: row.disk,
  hostSnapshot: row.host_snapshot,
  node: row.node,
  path: row.path,
  sealed: row.sealed_file,
  baseName: row.base_name,
  damage: toDamage(row),
  verifiedAtMs: row.verified_at?.getTime() ?? null,
});
