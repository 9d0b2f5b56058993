/** Which files of replicas a node may have, and which it is to remove. */
import { effect } from '../lib/fault-points.ts';
import { ADVISORY, type Database, inReadTransaction, type Transaction } from './database.ts';
import type { StorageRow } from './replica-rows.ts';

/** A replica's file as the catalog has it. */
export interface StorageFile {
  readonly host: string;
  readonly node: string;
  /** The final path; its sidecars and its increment lie beside it. */
  readonly path: string;
  readonly state: StorageRow['state'];
}

export function createStorageFileRows(db: Database) {
  return {
    /** The files of all nodes, in order of their paths. */
    storageFiles: (): Promise<readonly StorageFile[]> => readFiles(db, null),

    /** The files that were left to this node to remove: their rows are gone already. Oldest first. */
    async filesToRemove(node: string): Promise<readonly string[]> {
      const rows = await db('replica_files_to_remove')
        .where({ node })
        .orderBy('id')
        .select<{ path: string }[]>('path');
      return rows.map(({ path }) => path);
    },

    /** After the file is gone. */
    async noteRemoved(input: { node: string; path: string }): Promise<void> {
      await effect('replica.commit.noteRemoved', () => db('replica_files_to_remove').where(input).delete());
    },

    /**
     * Runs `work` over what the catalog has under these names (of final files, without their folders), while no file
     * is added for that disk: one that is not among them has no row, whatever happens meanwhile.
     */
    withNames: <T>(
      { host, disk, names }: { host: string; disk: string; names: readonly string[] },
      work: (files: readonly StorageFile[]) => Promise<T>,
    ): Promise<T> =>
      inReadTransaction(db, async trx => {
        await trx.raw('select pg_advisory_xact_lock(?, hashtext(?))', [
          ADVISORY.replicaFolders,
          `${host}/${disk}`,
        ]);
        return work(await readFiles(trx, names));
      }),
  };
}

/** Taken by whoever adds a file's row, so that a sweeper waits for it and it for a sweeper. */
export async function lockDiskForAdding(trx: Transaction, host: string, disk: string): Promise<void> {
  await trx.raw('select pg_advisory_xact_lock_shared(?, hashtext(?))', [
    ADVISORY.replicaFolders,
    `${host}/${disk}`,
  ]);
}

/** Leaves files to the workers of their nodes, in the transaction that drops their rows. */
export async function leaveToNodes(
  trx: Transaction,
  files: readonly { readonly node: string; readonly path: string }[],
): Promise<void> {
  if (files.length === 0) return;
  await trx('replica_files_to_remove')
    .insert(files.map(({ node, path }) => ({ node, path })))
    .onConflict(['node', 'path'])
    .ignore();
}

/** @param names null for all */
async function readFiles(
  db: Database | Transaction,
  names: readonly string[] | null,
): Promise<readonly StorageFile[]> {
  const rows = db('snapshot_storages as st')
    .join('disk_snapshots as ds', 'ds.id', 'st.disk_snapshot_id')
    .join('disks as d', 'd.id', 'ds.disk_id')
    .join('hosts as h', 'h.id', 'd.host_id')
    .whereNotNull('st.layout_digest')
    .orderBy('st.path')
    .select<StorageFile[]>('h.ident as host', 'st.node', 'st.path', 'st.state');
  // A folder may be reached by several paths; a name is given once.
  return names === null ? rows : rows.whereRaw("substring(st.path from '[^/]*$') = any(?)", [[...names]]);
}
