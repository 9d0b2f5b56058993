/** Which schedules wait for a newer snapshot of a host, and are to be told that there is one. */
import { effect } from '../lib/fault-points.ts';
import { type Database, guarded } from './database.ts';
import { CHANNELS } from './host-rows.ts';
import { watchChannel } from './watched-channel.ts';

export interface WaitingSchedule {
  readonly scheduleUuid: string;
  readonly replicaSite: string;
  readonly scheduleName: string;
  readonly host: string;
  /** The newest complete snapshot's place in this catalog's order. */
  readonly sequence: number;
}

export function createSubscriptionRows(db: Database) {
  return guarded({
    /** The schedules whose host has something newer than what they were last answered or told. */
    async dueSubscriptions(): Promise<readonly WaitingSchedule[]> {
      return db('snapshot_subscriptions as s')
        .join('hosts as h', 'h.ident', 's.host')
        .join('host_snapshots as hs', 'hs.host_id', 'h.id')
        .where('hs.state', 'complete')
        .groupBy('s.schedule_uuid')
        .havingRaw('max(hs.sequence) > s.answered_sequence')
        .orderBy('s.schedule_uuid')
        .select<WaitingSchedule[]>(
          's.schedule_uuid as scheduleUuid',
          's.replica_site as replicaSite',
          's.schedule_name as scheduleName',
          's.host',
          db.raw('max(hs.sequence) as sequence'),
        );
    },

    /** After the schedule was told of `sequence`: it is not told of that one again, but of any later one. */
    async noteTold({
      scheduleUuid,
      sequence,
    }: Pick<WaitingSchedule, 'scheduleUuid' | 'sequence'>): Promise<void> {
      await effect('source.commit.noteTold', () =>
        db('snapshot_subscriptions')
          .where({ schedule_uuid: scheduleUuid })
          .where('answered_sequence', '<', sequence)
          .update({ answered_sequence: sequence }),
      );
    },

    /** The schedule is gone: nobody waits any more. */
    async dropSubscription(scheduleUuid: string): Promise<void> {
      await effect('source.commit.dropSubscription', () =>
        db('snapshot_subscriptions').where({ schedule_uuid: scheduleUuid }).delete(),
      );
    },
  });
}

/** Calls `onChange` when a snapshot was registered, and at each look. @throws {DatabaseUnreachableError} */
export function watchSnapshots(
  url: string,
  lookMs: number,
  onChange: () => void,
): Promise<{ close(): Promise<void> }> {
  return watchChannel({
    url,
    channel: CHANNELS.snapshotAdded,
    lookMs,
    onNotify: onChange,
    look: async () => onChange(),
  });
}
