/** Hosts, their disks and the order of their snapshots. */
import type { Transaction } from './database.ts';

export interface HostRow {
  readonly id: number;
  readonly ident: string;
  readonly last_sequence: number;
}

/** The host's row, locked until the transaction ends; null when this catalog does not know the host. */
export async function lockHost(trx: Transaction, ident: string): Promise<HostRow | null> {
  return (
    (await trx<HostRow>('hosts').where({ ident }).forUpdate().first('id', 'ident', 'last_sequence')) ?? null
  );
}

/** As {@link lockHost}, making the host if need be. Two callers at once get the same row. */
export async function lockHostOrCreate(trx: Transaction, ident: string): Promise<HostRow> {
  await trx('hosts').insert({ ident }).onConflict('ident').ignore();
  const host = await lockHost(trx, ident);
  if (host === null) throw new Error(`host ${ident} vanished within its transaction`);
  return host;
}

/** Called under the host's lock. @returns the id of the host's disk, made if need be */
export async function diskIdOrCreate(trx: Transaction, hostId: number, ident: string): Promise<number> {
  await trx('disks').insert({ host_id: hostId, ident }).onConflict(['host_id', 'ident']).ignore();
  const row = await trx<{ id: number }>('disks')
    .where({ host_id: hostId, ident } as object)
    .first('id');
  if (row === undefined) throw new Error(`disk ${ident} vanished within its transaction`);
  return row.id;
}

/** Called under the host's lock. @returns the next place in the order of the host's snapshots */
export async function nextSequence(trx: Transaction, hostId: number): Promise<number> {
  const [row] = await trx<HostRow>('hosts')
    .where({ id: hostId })
    .increment('last_sequence', 1)
    .returning('last_sequence');
  return (row as HostRow).last_sequence;
}

/** Channels of LISTEN and NOTIFY. */
export const CHANNELS = {
  stopRequested: 'offsite_stop_requested',
  snapshotAdded: 'offsite_snapshot_added',
} as const;

/** Tells those who wait for the host; delivered when the transaction commits. */
export async function announceSnapshot(trx: Transaction, host: string): Promise<void> {
  await trx.raw('select pg_notify(?, ?)', [CHANNELS.snapshotAdded, host]);
}
