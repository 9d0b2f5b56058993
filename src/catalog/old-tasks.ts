/** What ended long ago and told nothing goes, so that a schedule that looks each few seconds does not fill the disk. */
import type { Transaction } from './database.ts';

/** Of its newest tasks a schedule keeps all; of the older ones those that began or published something. */
export const KEPT_TASKS = 1_000;
/** A session is of use to its own task, and to a pause that cuts what the tasks before it left open. */
const KEPT_SESSIONS = 10;
/** Each task takes the next one along; the rest of the span makes good what was left by tasks that never began. */
const SPAN = 100;

/** Called for each new task, under the schedule's lock. @param generation the new task's */
export async function dropOldTasks(
  trx: Transaction,
  scheduleUuid: string,
  generation: number,
): Promise<void> {
  await trx.raw(
    `delete from receiver_sessions rs
     using remote_backup_disk_tasks dt join remote_backup_tasks t on t.id = dt.task_id
     where dt.uuid = rs.disk_task_uuid and t.schedule_uuid = ? and t.finished_at is not null
       and t.generation between ? and ?`,
    [scheduleUuid, generation - KEPT_SESSIONS - SPAN, generation - KEPT_SESSIONS],
  );
  await trx.raw(
    `delete from remote_backup_tasks t
     where t.schedule_uuid = ? and t.outcome <> 'published' and t.target_snapshot_id is null
       and t.generation between ? and ?
       and not exists (select 1 from remote_backup_disk_tasks dt where dt.task_id = t.id)`,
    [scheduleUuid, generation - KEPT_TASKS - SPAN, generation - KEPT_TASKS],
  );
}
