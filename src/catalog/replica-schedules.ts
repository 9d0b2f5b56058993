/** A replica's schedules: registered, paused, due. */

import type { ScheduleRecord } from '../contract/replica-activities.ts';
import type { RecordedPause, ScheduleSettings, ScheduleSpec } from '../contract/schedule.ts';
import { ScheduleDeletedError } from '../domain/errors.ts';
import type { FaultPoint } from '../lib/fault-points.ts';
import { type Database, inTransaction, type Transaction } from './database.ts';
import { CatalogInputError, ScheduleConflictError } from './errors.ts';
import { isTombstoned } from './fence-rows.ts';
import { lockSchedule, type ScheduleRow } from './replica-rows.ts';

/** @param site the name of this site, which every schedule registered here must name as its replica site */
export function createScheduleRows(db: Database, site: string) {
  return {
    /**
     * Returns the schedule of this uuid, or makes it. Two callers at once get the same row: the primary key
     * decides. @throws {ScheduleConflictError} when a live schedule has the name, or the host from this source
     */
    registerSchedule: (input: {
      spec: ScheduleSpec;
      settings: ScheduleSettings;
      paused: boolean;
    }): Promise<ScheduleRecord> =>
      inTransaction(db, 'replica.commit.registerSchedule', async trx => {
        const { spec, settings, paused } = input;
        if (spec.replicaSite !== site) {
          throw new CatalogInputError(`schedule ${spec.name} is for site ${spec.replicaSite}, not ${site}`);
        }
        if (await isTombstoned(trx, spec.uuid)) {
          throw new ScheduleDeletedError(`schedule ${spec.name} (${spec.uuid}) was deleted`);
        }
        await trx('remote_backup_schedules')
          .insert({
            uuid: spec.uuid,
            name: spec.name,
            replica_site: spec.replicaSite,
            source_site: spec.sourceSite,
            host: spec.host,
            settings: JSON.stringify(settings),
            paused,
          })
          .onConflict()
          .ignore();
        const row = await trx<ScheduleRow>('remote_backup_schedules').where({ uuid: spec.uuid }).first();
        if (row === undefined) throw await conflictOf(trx, spec);
        return toRecord(row);
      }),

    /**
     * Stores the run that follows the one due at `afterMs`. Asked again for the same run, or for an older
     * one, it gives what is stored. Asked late, for settings that have given way, it stores nothing.
     */
    storeNextRun: (input: {
      scheduleUuid: string;
      afterMs: number | null;
      nextRunAtMs: number;
      /** That of the settings; undefined from versions before. */
      revision?: number | undefined;
    }): Promise<{ nextRunAtMs: number }> =>
      inTransaction(db, 'replica.commit.storeNextRun', async trx => {
        const row = await lockLiveSchedule(trx, input.scheduleUuid);
        if (row.revision > (input.revision ?? row.revision)) return { nextRunAtMs: input.nextRunAtMs };
        const storedMs = row.next_run_at?.getTime() ?? null;
        const storedAfterMs = row.next_run_after?.getTime() ?? Number.NEGATIVE_INFINITY;
        const isNewer = (input.afterMs ?? Number.NEGATIVE_INFINITY) > storedAfterMs;
        // After the clock was set back, the run that is stored may be due before the one that it follows.
        if (storedMs !== null && !isNewer && input.afterMs !== storedMs) return { nextRunAtMs: storedMs };
        await trx('remote_backup_schedules')
          .where({ uuid: row.uuid })
          .update({
            next_run_at: new Date(input.nextRunAtMs),
            next_run_after: input.afterMs === null ? null : new Date(input.afterMs),
          });
        return { nextRunAtMs: input.nextRunAtMs };
      }),

    /**
     * Writes paused or resumed. While paused no session opens; {@link closeSessions} ends those that are open.
     * @returns false when a newer write was there already: nothing was changed
     */
    recordPaused: (input: { scheduleUuid: string; revision: number } & RecordedPause): Promise<boolean> => {
      const { paused, draining, releasing } = input;
      return write(db, 'replica.commit.recordPaused', input, { paused, draining, releasing });
    },

    /** Writes the settings, as {@link recordPaused}. With `replan` the next run is forgotten. */
    async recordSettings(input: {
      scheduleUuid: string;
      revision: number;
      settings: ScheduleSettings;
      replan: boolean;
    }): Promise<void> {
      const settings = JSON.stringify(input.settings);
      await write(db, 'replica.commit.recordSettings', input, {
        settings,
        ...(input.replan ? { next_run_at: null, next_run_after: null } : {}),
      });
    },
  };
}

/** A late retry of an older write must not undo a newer one. */
function write(
  db: Database,
  point: FaultPoint,
  { scheduleUuid, revision }: { scheduleUuid: string; revision: number },
  change: object,
): Promise<boolean> {
  return inTransaction(db, point, async trx => {
    const row = await lockLiveSchedule(trx, scheduleUuid);
    if (row.revision > revision) return false;
    await trx('remote_backup_schedules')
      .where({ uuid: scheduleUuid })
      .update({ ...change, revision });
    return true;
  });
}

/** @throws {ScheduleDeletedError} when it is deleted or being deleted @throws {CatalogInputError} when unknown */
export async function lockLiveSchedule(trx: Transaction, uuid: string): Promise<ScheduleRow> {
  const row = await lockSchedule(trx, uuid);
  if (row === null) throw new CatalogInputError(`schedule ${uuid} is not registered`);
  if (row.deleting) throw new ScheduleDeletedError(`schedule ${row.name} is being deleted or was deleted`);
  return row;
}

const toRecord = (row: ScheduleRow): ScheduleRecord => ({
  uuid: row.uuid,
  settings: row.settings,
  paused: row.paused,
  draining: row.draining,
  releasing: row.releasing,
  revision: row.revision,
  nextRunAtMs: row.next_run_at?.getTime() ?? null,
});

async function conflictOf(trx: Transaction, spec: ScheduleSpec): Promise<ScheduleConflictError> {
  const live = await trx<ScheduleRow>('remote_backup_schedules').whereNull('deleted_at');
  if (live.some(row => row.name === spec.name)) {
    return new ScheduleConflictError(
      `another schedule is named ${spec.name}`,
      'Choose another name, or delete that schedule first.',
    );
  }
  const other = live.find(row => row.host === spec.host && row.source_site === spec.sourceSite);
  return new ScheduleConflictError(
    `schedule ${other?.name} replicates host ${spec.host} from site ${spec.sourceSite} already`,
    'One schedule a host and source is enough: change or delete that one.',
  );
}
