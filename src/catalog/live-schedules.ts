/** The schedules that are not deleted, as their workflows can be made anew from. */

import { CONTRACT_VERSION } from '../contract/names.ts';
import type { DeleteRequest, ScheduleSettings, ScheduleSpec } from '../contract/schedule.ts';
import { type Database, guarded } from './database.ts';
import type { ScheduleRow } from './replica-rows.ts';
import { TAKEN_AT_HERE } from './source-clock.ts';

export interface LiveSchedule {
  readonly spec: ScheduleSpec;
  readonly settings: ScheduleSettings;
  readonly paused: boolean;
  /** Null unless it is being deleted. */
  readonly deleting: DeleteRequest | null;
  /** When the cursor's host snapshot was taken, at its origin; null before the first. */
  readonly newestPointAtMs: number | null;
}

export function createLiveScheduleRows(db: Database) {
  const rows = () =>
    db('remote_backup_schedules as s')
      .leftJoin('host_snapshots as hs', 'hs.id', 's.cursor_snapshot_id')
      .whereNull('s.deleted_at')
      .orderBy('s.name')
      .select<LiveRow[]>('s.*', db.raw(`${TAKEN_AT_HERE} as taken_at`));
  return guarded({
    liveSchedules: async (): Promise<readonly LiveSchedule[]> => (await rows()).map(toLive),

    /** The schedule as it is now, null once it is deleted. */
    async liveSchedule(uuid: string): Promise<LiveSchedule | null> {
      const [row] = await rows().where('s.uuid', uuid);
      return row === undefined ? null : toLive(row);
    },
  });
}

type LiveRow = ScheduleRow & { readonly purge: boolean; readonly taken_at: Date | null };

const toLive = (row: LiveRow): LiveSchedule => ({
  spec: {
    contractVersion: CONTRACT_VERSION,
    uuid: row.uuid,
    name: row.name,
    replicaSite: row.replica_site,
    sourceSite: row.source_site,
    host: row.host,
  },
  settings: row.settings,
  paused: row.paused,
  deleting: row.deleting ? { purge: row.purge } : null,
  newestPointAtMs: row.taken_at?.getTime() ?? null,
});
