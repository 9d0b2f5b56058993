/** Epochs of continuous data protection at their source: what a recorder registers, and how far it has come. */
import { type Database, guarded, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError } from './errors.ts';
import { announceSnapshot, lockHost } from './host-rows.ts';
import { type LayerFile, registerSnapshot } from './register-snapshot.ts';

export interface EpochDisk {
  readonly disk: string;
  readonly node: string;
  readonly virtualSizeBytes: number;
  /** The layer that was frozen at the take-over, and those beneath, the nearest first. */
  readonly base: LayerFile;
  readonly chain: readonly LayerFile[];
  /** The folder of the disk's journal. */
  readonly journal: LayerFile;
}

export interface RegisterEpoch {
  readonly host: string;
  /** The epoch's, which becomes that of the CDP host snapshot. */
  readonly uuid: string;
  /** That of the base's host snapshot; unused when the same files are registered already. */
  readonly baseUuid: string;
  readonly originSite: string;
  readonly takenAtMs: number;
  /** At least one, no disk twice. */
  readonly disks: readonly EpochDisk[];
}

export interface RegisteredEpoch {
  readonly uuid: string;
  /** The host snapshot of the frozen base. */
  readonly baseSnapshot: string;
  readonly epoch: number;
}

/** A checkpoint that is durable in the journals of all disks. */
export interface Checkpoint {
  readonly sequence: number;
  readonly atMs: number;
}

/** An epoch to which a recorder may still add, or which one left so. */
export interface OpenEpoch extends RegisteredEpoch {
  readonly newestCheckpoint: number;
  readonly journals: readonly { readonly disk: string; readonly directory: string }[];
}

/** Errors: DatabaseUnreachableError, CatalogInputError; of registering those of {@link registerSnapshot}. */
export function createEpochRows(db: Database) {
  return guarded({
    /** Registers base and CDP host snapshot in one transaction; the same uuid again gives what was registered. */
    registerEpoch: (input: RegisterEpoch): Promise<RegisteredEpoch> =>
      inTransaction(db, 'source.commit.registerEpoch', trx => registerEpochRows(trx, input)),

    /** As registering, of an epoch to which nothing is added any more: it is there with all it has, or not at all. */
    registerEndedEpoch: (
      input: RegisterEpoch & {
        checkpoint: Checkpoint;
        markers: readonly (Checkpoint & { readonly name: string })[];
        reason: string;
      },
    ): Promise<RegisteredEpoch> =>
      inTransaction(db, 'source.commit.registerEndedEpoch', async trx => {
        const made = await registerEpochRows(trx, input);
        const epoch = await lockEpoch(trx, made.uuid);
        if (epoch === null || epoch.ended_at !== null) return made;
        for (let at = 0; at < input.markers.length; at += MARKERS_A_STATEMENT) {
          await noteMarkers(trx, epoch.id, input.markers.slice(at, at + MARKERS_A_STATEMENT));
        }
        await raise(trx, epoch, input.checkpoint);
        await trx('cdp_epochs')
          .where({ host_snapshot_id: epoch.id })
          .update({ ended_at: trx.fn.now(), ended_reason: input.reason });
        return made;
      }),

    /**
     * Notes the newest checkpoint that all disks have, and markers up to it. An older one changes nothing.
     * @returns false when the epoch has ended, or was forgotten: nothing more is to be added to it
     */
    noteCheckpoint: (
      input: Checkpoint & { uuid: string; markers?: readonly (Checkpoint & { readonly name: string })[] },
    ): Promise<boolean> =>
      inTransaction(db, 'source.commit.noteCheckpoint', async trx => {
        const epoch = await lockEpoch(trx, input.uuid);
        if (epoch === null || epoch.ended_at !== null) return false;
        await noteMarkers(trx, epoch.id, input.markers ?? []);
        await raise(trx, epoch, input);
        return true;
      }),

    /**
     * Nothing is added to the epoch any more. An epoch that has ended, or was forgotten, stays as it is.
     * @param input.checkpoint the newest that all disks have; null for none that is newer than the noted one
     */
    endEpoch: (input: { uuid: string; reason: string; checkpoint: Checkpoint | null }): Promise<void> =>
      inTransaction(db, 'source.commit.endEpoch', async trx => {
        const epoch = await lockEpoch(trx, input.uuid);
        if (epoch === null || epoch.ended_at !== null) return;
        if (input.checkpoint !== null) await raise(trx, epoch, input.checkpoint);
        await trx('cdp_epochs')
          .where({ host_snapshot_id: epoch.id })
          .update({ ended_at: trx.fn.now(), ended_reason: input.reason });
        await announceSnapshot(trx, epoch.host);
      }),

    /** The epochs of a host that have not ended, oldest first: a recorder that died leaves one. */
    async openEpochs(host: string): Promise<readonly OpenEpoch[]> {
      const rows = await db('cdp_epochs as e')
        .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
        .join('host_snapshots as base', 'base.id', 'e.base_snapshot_id')
        .join('hosts as h', 'h.id', 'hs.host_id')
        .join('disk_snapshots as ds', 'ds.host_snapshot_id', 'hs.id')
        .join('disks as d', 'd.id', 'ds.disk_id')
        .join('snapshot_storages as st', 'st.id', 'ds.storage_id')
        .where('h.ident', host)
        .whereNull('e.ended_at')
        // A replica's epoch is written by its replication.
        .whereNull('st.layout_digest')
        .orderBy(['e.epoch', 'd.ident'])
        .select<(RegisteredEpoch & { newestCheckpoint: number; disk: string; directory: string })[]>(
          'hs.uuid',
          'base.uuid as baseSnapshot',
          'e.epoch',
          'e.newest_checkpoint as newestCheckpoint',
          'd.ident as disk',
          'st.path as directory',
        );
      return [...Map.groupBy(rows, ({ uuid }) => uuid).values()].map(disks => {
        const [{ disk: _, directory: __, ...epoch }] = disks as [(typeof disks)[number]];
        return { ...epoch, journals: disks.map(({ disk, directory }) => ({ disk, directory })) };
      });
    },
  });
}

/** Each takes four of the 65 535 values that a statement may have. */
const MARKERS_A_STATEMENT = 10_000;

async function registerEpochRows(trx: Transaction, input: RegisterEpoch): Promise<RegisteredEpoch> {
  const known = await findEpoch(trx, input.uuid);
  if (known !== null) return known;
  const { host, originSite, takenAtMs } = input;
  const common = { host, originSite, takenAtMs };
  const base = await registerSnapshot(trx, {
    ...{ ...common, uuid: input.baseUuid },
    disks: input.disks.map(({ base: file, journal: _, ...disk }) => ({
      ...{ ...disk, ...file, format: 'qcow2' as const },
    })),
  });
  await registerSnapshot(trx, {
    ...{ ...common, uuid: input.uuid },
    disks: input.disks.map(({ base: file, journal, chain, ...disk }) => ({
      ...{ ...disk, ...journal, format: 'cdp' as const, chain: [file, ...chain] },
    })),
  });
  await trx.raw(
    `insert into cdp_epochs (host_snapshot_id, base_snapshot_id, epoch)
     select hs.id, base.id, 1 + coalesce((
       select max(e.epoch) from cdp_epochs e join host_snapshots o on o.id = e.host_snapshot_id
       where o.host_id = hs.host_id), 0)
     from host_snapshots hs, host_snapshots base where hs.uuid = ? and base.uuid = ?`,
    [input.uuid, base.uuid],
  );
  const made = await findEpoch(trx, input.uuid);
  if (made === null) throw new CatalogInputError(`the journals of epoch ${input.uuid} are those of another`);
  return made;
}

interface EpochRow {
  readonly id: number;
  readonly host: string;
  readonly newest_checkpoint: number;
  readonly ended_at: Date | null;
}

async function findEpoch(trx: Transaction, uuid: string): Promise<RegisteredEpoch | null> {
  const row = await trx('cdp_epochs as e')
    .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
    .join('host_snapshots as base', 'base.id', 'e.base_snapshot_id')
    .where('hs.uuid', uuid)
    .first<RegisteredEpoch | undefined>('hs.uuid', 'base.uuid as baseSnapshot', 'e.epoch');
  return row ?? null;
}

/** The host's row first, as everywhere. */
async function lockEpoch(trx: Transaction, uuid: string): Promise<EpochRow | null> {
  const of = await trx('host_snapshots as hs')
    .join('hosts as h', 'h.id', 'hs.host_id')
    .where('hs.uuid', uuid)
    .first<{ ident: string } | undefined>('h.ident');
  if (of === undefined || (await lockHost(trx, of.ident)) === null) return null;
  const row = await trx('cdp_epochs as e')
    .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
    .where('hs.uuid', uuid)
    .forUpdate('e')
    .first<Omit<EpochRow, 'host'> | undefined>('hs.id', 'e.newest_checkpoint', 'e.ended_at');
  return row === undefined ? null : { ...row, host: of.ident };
}

async function raise(trx: Transaction, epoch: EpochRow, { sequence, atMs }: Checkpoint): Promise<void> {
  if (sequence <= epoch.newest_checkpoint) return;
  await trx('cdp_epochs')
    .where({ host_snapshot_id: epoch.id })
    .update({ newest_checkpoint: sequence, newest_checkpoint_at: new Date(atMs) });
  await announceSnapshot(trx, epoch.host);
}

async function noteMarkers(
  trx: Transaction,
  epochId: number,
  markers: readonly (Checkpoint & { readonly name: string })[],
): Promise<void> {
  if (markers.length === 0) return;
  const rows = markers.map(({ sequence, atMs, name }) => ({
    host_snapshot_id: epochId,
    ...{ sequence, name, marked_at: new Date(atMs) },
  }));
  await trx('cdp_markers').insert(rows).onConflict(['host_snapshot_id', 'sequence']).ignore();
}
