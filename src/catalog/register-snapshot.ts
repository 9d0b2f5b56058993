/** Registers a host snapshot that lies in files of this site, and finds its parents through the layers beneath. */
import type { LayerProof } from '../contract/sync.ts';
import { proofDoubt } from '../domain/decision.ts';
import type { Transaction } from './database.ts';
import { CatalogInputError, ImageReplacedError } from './errors.ts';
import {
  announceSnapshot,
  diskIdOrCreate,
  type HostRow,
  lockHostOrCreate,
  nextSequence,
} from './host-rows.ts';

/** A file, told apart from another one at the same path by device and inode (decimal text). */
export interface LayerFile {
  readonly path: string;
  readonly device: string;
  readonly inode: string;
  /** All that tells it apart under another device number. Without it another device is another file. */
  readonly proof?: LayerProof;
}

export interface RegisterDisk extends LayerFile {
  readonly disk: string;
  readonly node: string;
  readonly format: 'qcow2' | 'cdp';
  readonly virtualSizeBytes: number;
  /** The layers beneath, the nearest first. */
  readonly chain: readonly LayerFile[];
}

export interface RegisterSnapshot {
  readonly host: string;
  /** The new snapshot's id; unused when the same files are registered already. */
  readonly uuid: string;
  readonly originSite: string;
  readonly takenAtMs: number;
  /** At least one, no disk twice. */
  readonly disks: readonly RegisterDisk[];
}

interface StorageMatch {
  readonly disk_snapshot_id: number;
  readonly snapshot: string;
  readonly path: string;
  readonly device: string | null;
  readonly inode: string | null;
  readonly source_file: LayerProof | null;
}

/**
 * @returns the snapshot's uuid and whether it was made now; the same disks and files again give the same one
 * @throws {ImageReplacedError} when another file lies at a registered path
 */
export async function registerSnapshot(
  trx: Transaction,
  input: RegisterSnapshot,
): Promise<{ uuid: string; created: boolean }> {
  assertDisks(input);
  const host = await lockHostOrCreate(trx, input.host);
  const parents = new Map<string, number | null>();
  for (const disk of input.disks) parents.set(disk.disk, await findParent(trx, host, disk));
  const known = await findSame(trx, host, input.disks);
  if (known !== null) return { uuid: known, created: false };

  const sequence = await nextSequence(trx, host.id);
  const [snapshot] = await trx('host_snapshots')
    .insert({
      uuid: input.uuid,
      host_id: host.id,
      kind: input.disks.some(({ format }) => format === 'cdp') ? 'cdp' : 'qcow2',
      origin_site: input.originSite,
      origin_sequence: sequence,
      sequence,
      taken_at: new Date(input.takenAtMs),
      state: 'complete',
      published_at: trx.fn.now(),
    })
    .returning<{ id: number }[]>('id');
  for (const disk of input.disks) {
    await insertDisk(trx, host, (snapshot as { id: number }).id, disk, parents.get(disk.disk) ?? null);
  }
  await announceSnapshot(trx, host.ident);
  return { uuid: input.uuid, created: true };
}

function assertDisks({ host, disks }: RegisterSnapshot): void {
  if (disks.length === 0) throw new CatalogInputError(`a snapshot of ${host} needs at least one disk`);
  const names = new Set(disks.map(({ disk }) => disk));
  if (names.size < disks.length) throw new CatalogInputError(`a disk of ${host} is named twice`);
}

/**
 * The newest disk snapshot of the same disk behind the same file, or behind the nearest layer beneath it.
 * Every layer is looked at, since a replaced file anywhere in the chain changes what the snapshot holds.
 */
async function findParent(trx: Transaction, host: HostRow, disk: RegisterDisk): Promise<number | null> {
  let parentId: number | null = null;
  for (const layer of [disk, ...disk.chain]) {
    const match = await findStorage(trx, host, disk, layer);
    if (match === null) continue;
    if (!isSameFile(match, layer)) throw new ImageReplacedError(layer.path, match.snapshot);
    parentId ??= match.disk_snapshot_id;
  }
  return parentId;
}

/** A device's number changes with a restart: it alone is no doubt where everything else is the same. */
function isSameFile(match: StorageMatch, { device, inode, proof }: LayerFile): boolean {
  if (match.device === null) return true;
  if (match.inode !== inode) return false;
  if (match.device === device) return true;
  return (
    match.source_file !== null && proof !== undefined && proofDoubt([match.source_file], [proof]) === null
  );
}

/** The newest complete snapshot of the disk that has a file at the layer's path. */
async function findStorage(
  trx: Transaction,
  host: HostRow,
  { disk, node }: RegisterDisk,
  { path }: LayerFile,
): Promise<StorageMatch | null> {
  const row = await trx('snapshot_storages as st')
    .join('disk_snapshots as ds', 'ds.storage_id', 'st.id')
    .join('host_snapshots as hs', 'hs.id', 'ds.host_snapshot_id')
    .join('disks as d', 'd.id', 'ds.disk_id')
    .where({
      'st.node': node,
      'st.path': path,
      'd.host_id': host.id,
      'd.ident': disk,
      'hs.state': 'complete',
    })
    .orderBy('hs.sequence', 'desc')
    .first<StorageMatch | undefined>(
      'st.disk_snapshot_id',
      'hs.uuid as snapshot',
      'st.path',
      'st.device',
      'st.inode',
      'st.source_file',
    );
  return row ?? null;
}

/** A complete snapshot with exactly these disks in exactly these files. */
async function findSame(
  trx: Transaction,
  host: HostRow,
  disks: readonly RegisterDisk[],
): Promise<string | null> {
  const wanted = disks.map(({ disk, node, path, device, inode, proof }) => ({
    ...{ disk, node, path, device, inode },
    proof: proof ?? null,
  }));
  const { rows } = await trx.raw<{ rows: { uuid: string }[] }>(
    `with wanted as (
       select * from jsonb_to_recordset(?::jsonb) as w(disk text, node text, path text, device text, inode text, proof jsonb)
     )
     select hs.uuid from host_snapshots hs
     where hs.host_id = ? and hs.state = 'complete'
       and (select count(*) from disk_snapshots ds where ds.host_snapshot_id = hs.id)
         = (select count(*) from wanted)
       and not exists (
         select 1 from wanted w where not exists (
           select 1 from disk_snapshots ds join disks d on d.id = ds.disk_id
           join snapshot_storages st on st.id = ds.storage_id
           where ds.host_snapshot_id = hs.id and d.ident = w.disk and st.node = w.node and st.path = w.path
             and (st.device is null or (st.inode = w.inode and
               (st.device = w.device or st.source_file - 'device' = w.proof - 'device')))))
     order by hs.sequence desc limit 1`,
    [JSON.stringify(wanted), host.id],
  );
  return rows[0]?.uuid ?? null;
}

async function insertDisk(
  trx: Transaction,
  host: HostRow,
  hostSnapshotId: number,
  disk: RegisterDisk,
  parentId: number | null,
): Promise<void> {
  const [row] = await trx('disk_snapshots')
    .insert({
      host_snapshot_id: hostSnapshotId,
      disk_id: await diskIdOrCreate(trx, host.id, disk.disk),
      parent_id: parentId,
      virtual_size_bytes: disk.virtualSizeBytes,
    })
    .returning<{ id: number }[]>('id');
  const diskSnapshotId = (row as { id: number }).id;
  const [storage] = await trx('snapshot_storages')
    .insert({
      disk_snapshot_id: diskSnapshotId,
      node: disk.node,
      path: disk.path,
      format: disk.format,
      state: 'published',
      device: disk.device,
      inode: disk.inode,
      source_file: disk.proof === undefined ? null : JSON.stringify(disk.proof),
      published_at: trx.fn.now(),
    })
    .returning<{ id: number }[]>('id');
  await trx('disk_snapshots')
    .where({ id: diskSnapshotId })
    .update({ storage_id: (storage as { id: number }).id });
}
