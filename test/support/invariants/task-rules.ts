/** Tasks, generations, cursors and fences: rules that rows alone decide. */

import { KEPT_TASKS } from '../../../src/catalog/old-tasks.ts';
import { lockTypeOf } from '../../../src/contract/names.ts';
import {
  type Catalogs,
  type FenceRow,
  isPoint,
  type ReplicaRows,
  type ScheduleRow,
  type TaskRow,
  tasksOf,
} from './site-rows.ts';
import type { Violation } from './violation.ts';

export function* checkTasks({ source, replica }: Catalogs): Generator<Violation, undefined> {
  for (const schedule of replica.schedules) {
    const tasks = tasksOf(replica, schedule.uuid);
    yield* checkGenerations(schedule, tasks);
    if (schedule.state === 'live') yield* checkCursor(schedule, tasks, replica);
    yield* checkFences(schedule, tasks, { source, replica });
  }
  yield* checkPublishedTasks(replica);
  yield* checkLiveSchedules(replica);
}

function* checkGenerations(
  schedule: ScheduleRow,
  tasks: readonly TaskRow[],
): Generator<Violation, undefined> {
  const newest = tasks.at(-1)?.generation ?? 0;
  if (schedule.lastGeneration !== newest) {
    const text = `schedule ${schedule.name} gave out generation ${schedule.lastGeneration}, its newest task has ${newest}`;
    yield { rule: 2, code: 'taskLost', text };
  }
  const unfinished = tasks.filter(task => task.outcome === null);
  if (unfinished.length > 1) {
    const text = `schedule ${schedule.name} has ${unfinished.length} unfinished tasks: ${list(unfinished)}`;
    yield { rule: 2, code: 'secondUnfinishedTask', text };
  }
  for (const [index, task] of tasks.entries()) {
    const before = tasks[index - 1];
    if (before?.generation === task.generation) {
      const text = `tasks ${list([before, task])} of schedule ${schedule.name} share generation ${task.generation}`;
      yield { rule: 2, code: 'secondTaskOfGeneration', text };
    } else if (newest - task.generation < KEPT_TASKS && task.generation !== (before?.generation ?? 0) + 1) {
      const text = `schedule ${schedule.name} jumps from generation ${before?.generation ?? 0} to ${task.generation}`;
      yield { rule: 2, code: 'generationGap', text };
    }
  }
}

/** The cursor is what the newest publishing task published: neither ahead of it nor behind. */
function* checkCursor(
  schedule: ScheduleRow,
  tasks: readonly TaskRow[],
  replica: ReplicaRows,
): Generator<Violation, undefined> {
  const { cursor, name } = schedule;
  // A journal is published while its task runs, whatever becomes of the task.
  const isOfJournal = ({ taskUuid, hostSnapshot }: TaskRow) =>
    taskUuid === cursor?.taskUuid &&
    replica.snapshots.some(row => row.uuid === hostSnapshot && (row.checkpoint ?? 0) > 0);
  const newest = tasks.findLast(task => task.outcome === 'published' || isOfJournal(task));
  if (cursor === null) {
    if (newest !== undefined) {
      const text = `schedule ${name} has no cursor, but task ${newest.taskUuid} published`;
      yield { rule: 2, code: 'cursorLost', text };
    }
    return;
  }
  const point = replica.snapshots.find(row => row.uuid === cursor.hostSnapshot && isPoint(row));
  if (point === undefined) {
    const text = `the cursor of schedule ${name} stands at ${cursor.hostSnapshot}, which is not published`;
    yield { rule: 1, code: 'cursorAheadOfPoint', text };
  } else if (newest?.taskUuid !== cursor.taskUuid || newest.hostSnapshot !== cursor.hostSnapshot) {
    const text = `the cursor of schedule ${name} stands at ${cursor.hostSnapshot} of task ${cursor.taskUuid}, its newest published point is ${newest?.hostSnapshot} of task ${newest?.taskUuid}`;
    yield { rule: 2, code: 'cursorNotNewestPoint', text };
  }
}

/** A task that published has its point, as long as its schedule was not deleted (with --purge). */
function* checkPublishedTasks(replica: ReplicaRows): Generator<Violation, undefined> {
  const deleted = new Set(replica.schedules.filter(row => row.state !== 'live').map(row => row.uuid));
  for (const task of replica.tasks) {
    if (task.outcome !== 'published' || deleted.has(task.scheduleUuid)) continue;
    const points = replica.snapshots.filter(row => row.uuid === task.hostSnapshot && isPoint(row));
    if (points.length === 0) {
      const text = `task ${task.taskUuid} published ${task.hostSnapshot}, which is gone`;
      yield { rule: 2, code: 'pointLost', text };
    }
  }
}

function* checkLiveSchedules(replica: ReplicaRows): Generator<Violation, undefined> {
  const names = new Set<string>();
  for (const schedule of replica.schedules) {
    if (schedule.state === 'deleted') continue;
    if (names.has(schedule.name)) {
      yield { rule: 2, code: 'secondSchedule', text: `two live schedules are named ${schedule.name}` };
    }
    names.add(schedule.name);
  }
}

/** A fence is never below what the rows beside it hold, and A's never above what B gave out. */
function* checkFences(
  { uuid, name }: ScheduleRow,
  tasks: readonly TaskRow[],
  { source, replica }: Catalogs,
): Generator<Violation, undefined> {
  const last = tasks.at(-1);
  const atReplica = fenceOf(replica.fences, uuid);
  const atSource = fenceOf(source.fences, uuid);
  if (last !== undefined && isBelow(atReplica, last)) {
    const text = `B's fence of schedule ${name} is below task ${last.taskUuid} (${last.generation}, ${last.plan})`;
    yield { rule: 4, code: 'fenceBelowTask', text };
  }
  // Giving up what was begun raises B's fence above the tasks, and A's to the same.
  const givenOut = last === undefined || isBelow(last, atReplica) ? atReplica : last;
  if (isBelow(givenOut, atSource)) {
    const text = `A's fence of schedule ${name} is (${atSource.generation}, ${atSource.plan}), above all that B gave out`;
    yield { rule: 4, code: 'fenceAboveTasks', text };
  }
  const held = [
    ...source.locks.filter(lock => lock.lockType === lockTypeOf(uuid)),
    ...source.senders.filter(sender => sender.scheduleUuid === uuid),
  ];
  const highest = Math.max(0, ...held.map(row => row.generation));
  if (highest > atSource.generation) {
    const text = `A's fence of schedule ${name} is below a lock or sender of generation ${highest}`;
    yield { rule: 4, code: 'fenceBelowLock', text };
  }
}

type Pair = Pick<FenceRow, 'generation' | 'plan'>;
const NOTHING_SEEN: Pair = { generation: 0, plan: 0 };

const fenceOf = (fences: readonly FenceRow[], scheduleUuid: string): Pair =>
  fences.find(row => row.scheduleUuid === scheduleUuid) ?? NOTHING_SEEN;

const isBelow = (left: Pair, right: Pair): boolean =>
  left.generation < right.generation || (left.generation === right.generation && left.plan < right.plan);

const list = (tasks: readonly TaskRow[]): string => tasks.map(task => task.taskUuid).join(', ');
