/** Which schedules wait for a newer snapshot of a host, and are to be told that there is one. */
import type { Position } from '../contract/sync.ts';
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
  /** True when it has been told of that snapshot: what is new are checkpoints of the newest epoch. */
  readonly isCheckpoint: boolean;
  /** The newest epoch's position at the answer, as it was read; for {@link noteTold}. */
  readonly answeredPosition: Position | null;
}

/** Beyond every checkpoint: told once, a schedule is told again after its next answer. */
const EVERY_CHECKPOINT = Number.MAX_SAFE_INTEGER;

/** The newest epoch's newest checkpoint lies beyond that of the answer. */
const HAS_NEW_CHECKPOINT = `max(array[e.epoch, e.newest_checkpoint]) filter (where e.newest_checkpoint > 0)
  > array[coalesce((s.answered_position->>'epoch')::bigint, 0),
          coalesce((s.answered_position->>'checkpoint')::bigint, 0)]`;

export function createSubscriptionRows(db: Database) {
  return guarded({
    /** The schedules whose host has something newer than what they were last answered or told. */
    async dueSubscriptions(): Promise<readonly WaitingSchedule[]> {
      return db('snapshot_subscriptions as s')
        .join('hosts as h', 'h.ident', 's.host')
        .join('host_snapshots as hs', 'hs.host_id', 'h.id')
        .leftJoin('cdp_epochs as e', 'e.host_snapshot_id', 'hs.id')
        .where('hs.state', 'complete')
        .groupBy('s.schedule_uuid')
        .havingRaw(`max(hs.sequence) > s.answered_sequence or ${HAS_NEW_CHECKPOINT}`)
        .orderBy('s.schedule_uuid')
        .select<WaitingSchedule[]>(
          's.schedule_uuid as scheduleUuid',
          's.replica_site as replicaSite',
          's.schedule_name as scheduleName',
          's.host',
          's.answered_position as answeredPosition',
          db.raw('max(hs.sequence) as sequence'),
          db.raw('max(hs.sequence) <= s.answered_sequence as "isCheckpoint"'),
        );
    },

    /**
     * After the schedule was told of `sequence`: it is not told of that one again, but of any later one. Of
     * checkpoints it is told again after it has asked once more.
     */
    async noteTold(told: WaitingSchedule): Promise<void> {
      const { scheduleUuid, sequence, answeredPosition } = told;
      const subscription = db('snapshot_subscriptions').where({ schedule_uuid: scheduleUuid });
      await effect('source.commit.noteTold', async () => {
        if (!told.isCheckpoint) {
          await subscription
            .where('answered_sequence', '<', sequence)
            .update({ answered_sequence: sequence });
          return;
        }
        const position = answeredPosition === null ? null : JSON.stringify(answeredPosition);
        await subscription.whereRaw('answered_position is not distinct from ?::jsonb', [position]).update({
          answered_position: db.raw(
            `jsonb_build_object('epoch', (
                 select max(e.epoch) from cdp_epochs e join host_snapshots hs on hs.id = e.host_snapshot_id
                 join hosts h on h.id = hs.host_id where h.ident = host), 'checkpoint', ?::bigint)`,
            [EVERY_CHECKPOINT],
          ),
        });
      });
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
