/** Rule 3: A keeps what the next increment needs, and nothing else. */
import { lockTypeOf } from '../../../src/contract/names.ts';
import {
  type Catalogs,
  isPoint,
  type LockPlace,
  type ScheduleRow,
  type SourceRows,
  type TaskRow,
  tasksOf,
} from './site-rows.ts';
import type { Violation } from './violation.ts';

/**
 * @param quiescent no task runs: then the locks are exactly prev and current
 * @param replicaSite undefined when no other site replicates from this source
 */
export function* checkLocks(
  catalogs: Catalogs,
  quiescent: boolean,
  replicaSite?: string,
): Generator<Violation, undefined> {
  const { source, replica } = catalogs;
  for (const schedule of replica.schedules) {
    if (schedule.state === 'live') yield* checkLiveSchedule(schedule, catalogs, quiescent);
    // What a source still has to be told is the business of the workflow that tells it.
    if (schedule.state === 'deleted' && !schedule.isReleasePending) {
      yield* checkDeletedSchedule(schedule, catalogs);
    }
  }
  const known = new Set(replica.schedules.map(row => lockTypeOf(row.uuid)));
  const others = new Set(
    source.fences
      .filter(fence => replicaSite !== undefined && fence.replicaSite !== replicaSite)
      .map(fence => lockTypeOf(fence.scheduleUuid)),
  );
  for (const lock of source.locks) {
    if (!known.has(lock.lockType) && !others.has(lock.lockType)) {
      const text = `${lock.lockType} locks ${lock.hostSnapshot}, but B has no such schedule`;
      yield { rule: 3, code: 'lockWithoutSchedule', text };
    }
  }
}

function* checkLiveSchedule(
  schedule: ScheduleRow,
  { source, replica }: Catalogs,
  quiescent: boolean,
): Generator<Violation, undefined> {
  const held = source.locks.filter(lock => lock.lockType === lockTypeOf(schedule.uuid));
  const released = source.guardReleases
    .filter(({ lockType }) => lockType === lockTypeOf(schedule.uuid))
    .map(({ hostSnapshot }) => hostSnapshot);
  const { cursor, name } = schedule;
  const { required, mayHoldOlder, newestTaskUuid } = expectedLocks(tasksOf(replica, schedule.uuid), source);
  // While a task runs its locks come and go, but what the next increment needs is there at every instant.
  const needed = quiescent ? [...required] : [];
  if (cursor !== null && !needed.some(place => isSame(place, cursor))) needed.push(cursor);
  for (const place of needed) {
    if (held.some(lock => isSame(lock, place))) continue;
    // The operator of A let its guard do so; the schedule is told when it asks again.
    if (released.includes(place.hostSnapshot)) continue;
    yield { rule: 3, code: 'lockLost', text: `${describe(place)} of schedule ${name} is not locked at A` };
  }
  for (const lock of quiescent ? held : []) {
    if (needed.some(place => isSame(lock, place))) continue;
    if (mayHoldOlder && lock.taskUuid !== newestTaskUuid) continue;
    const text = `${describe(lock)} is locked at A for schedule ${name}, but neither prev nor current`;
    yield { rule: 3, code: 'lockLeaked', text };
  }
}

function* checkDeletedSchedule(schedule: ScheduleRow, { source }: Catalogs): Generator<Violation, undefined> {
  for (const lock of source.locks) {
    if (lock.lockType !== lockTypeOf(schedule.uuid)) continue;
    const text = `${describe(lock)} is still locked at A for schedule ${schedule.name}, which is deleted`;
    yield { rule: 3, code: 'lockOfDeleted', text };
  }
  const fence = source.fences.find(row => row.scheduleUuid === schedule.uuid);
  if (fence?.isTombstone !== true) {
    const text = `A has no tombstone of schedule ${schedule.name}, which is deleted`;
    yield { rule: 4, code: 'tombstoneMissing', text };
  }
}

/**
 * What the newest task that A answered holds: its prev, where A still has it, and its target. A has released
 * the older locks once B has recorded the answer; before, they may still be there.
 */
function expectedLocks(
  tasks: readonly TaskRow[],
  source: SourceRows,
): { required: readonly LockPlace[]; mayHoldOlder: boolean; newestTaskUuid: string | null } {
  const answerOf = (task: TaskRow) => source.answers.find(row => row.taskUuid === task.taskUuid);
  const newest = tasks.findLast(task => task.hasAnswer || answerOf(task) !== undefined);
  if (newest === undefined) return { required: [], mayHoldOlder: false, newestTaskUuid: null };
  const { taskUuid, prev } = newest;
  // The newest plan's answer counts, also when it is `none`.
  const answer = answerOf(newest) ?? newest;
  const { hostSnapshot } = answer;
  const required = hostSnapshot === null ? [] : [{ hostSnapshot, taskUuid }];
  const isAtSource = source.snapshots.some(row => row.uuid === prev?.hostSnapshot && isPoint(row));
  if (prev !== null && isAtSource) required.push(prev);
  return { required, mayHoldOlder: !newest.hasAnswer, newestTaskUuid: taskUuid };
}

const isSame = (left: LockPlace, right: LockPlace): boolean =>
  left.hostSnapshot === right.hostSnapshot && left.taskUuid === right.taskUuid;

const describe = ({ hostSnapshot, taskUuid }: LockPlace): string => `${hostSnapshot} of task ${taskUuid}`;
