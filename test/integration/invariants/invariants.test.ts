import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { checkInvariants } from '../../support/invariants/check-invariants.ts';
import { qemuIo } from '../../support/qemu.ts';
import {
  createStateMaker,
  DELETED_SCHEDULE,
  lockRow,
  type State,
  type StateMaker,
  TASKS,
} from './clean-state.ts';
import {
  addSecondSchedule,
  addUnfinishedTasks,
  cursorTo,
  dropStorage,
  fence,
  leakCluster,
  lockFor,
  loseCursor,
  loseDisk,
  losePoint,
  loseTombstone,
  moveBase,
  nameOtherBase,
  publishTwice,
  repeatGeneration,
  replicaOf,
  schedule,
  skipGeneration,
  unlock,
  unpublishStorage,
} from './planted-faults.ts';

let maker: StateMaker;
beforeAll(async () => {
  maker = await createStateMaker(inject('postgresUrl'));
});
afterAll(() => maker.close());

/** @returns the codes of all that is found, each once */
async function codesIn(state: State, quiescent = true): Promise<string[]> {
  const { sourceDb, replicaDb, replicaRoot } = state;
  const found = await checkInvariants({
    sourceDb,
    replicaDb,
    replicaRoots: [replicaRoot],
    temporal: null,
    quiescent,
  });
  return [...new Set(found.map(violation => violation.code))].toSorted();
}

test('finds nothing in a sound state, at rest and while a task runs', async () => {
  const state = await maker.make();
  expect(await codesIn(state)).toEqual([]);
  await state
    .replica('remote_backup_tasks')
    .where({ uuid: TASKS[2] })
    .update({ outcome: null, finished_at: null });
  expect(await codesIn(state, false)).toEqual([]);
});

test('lets a delete that is under way remove its files', async () => {
  const state = await maker.make();
  await dropStorage(state);
  await state
    .replica('remote_backup_schedules')
    .where({ uuid: DELETED_SCHEDULE.uuid })
    .update({ deleted_at: null, host: 'other' });
  expect(await codesIn(state, false)).toEqual([]);
});

/** Each plants one fault into a sound state; the codes are all that must be found, and nothing else. */
const PLANTED: readonly [name: string, codes: string[], plant: (state: State) => Promise<unknown>][] = [
  // Points, rules 1 and 5.
  ['a wrong byte', ['contentDiffers'], state => qemuIo(replicaOf(state, 2), ['write -P 99 200k 512'])],
  ['an image with a leak', ['imageFaulty'], state => leakCluster(replicaOf(state, 1))],
  [
    'an image that is none',
    ['baseWrong', 'imageUnreadable'],
    state => writeFile(replicaOf(state, 2), Buffer.alloc(4096)),
  ],
  ['a point without one of its disks', ['pointIncomplete'], loseDisk],
  ['a point with a disk that is not published', ['baseNotPublished', 'pointIncomplete'], unpublishStorage],
  ['a base in another directory', ['baseElsewhere'], moveBase],
  ['a file that names another base than its row', ['baseWrong'], nameOtherBase],
  ['a lost point', ['pointLost'], losePoint],
  ['a point published twice', ['secondPoint'], publishTwice],

  // Files, rule 2.
  ['a stray file', ['strayFile'], ({ replicaRoot }) => writeFile(join(replicaRoot, 'web', 'left-over'), 'x')],
  ['a file of a layer that was dropped', ['strayFile'], dropStorage],
  ['a lost digest file', ['fileLost'], state => rm(`${replicaOf(state, 1)}.digests`)],
  ['a lost image', ['fileLost', 'imageUnreadable'], state => rm(replicaOf(state, 2))],

  // Locks, rule 3.
  ['a leaked lock', ['lockLeaked'], ({ source }) => source('host_snapshot_locks').insert(lockRow(1))],
  ['a lost lock of the cursor', ['lockLost'], ({ source }) => unlock(source, 2)],
  ['a lost lock of the unfinished target', ['lockLost'], ({ source }) => unlock(source, 3)],
  ['a lock of nobody', ['lockWithoutSchedule'], state => lockFor(state, randomUUID())],
  ['a lock of a deleted schedule', ['lockOfDeleted'], state => lockFor(state, DELETED_SCHEDULE.uuid)],
  ['a lost tombstone', ['tombstoneMissing'], loseTombstone],

  // Tasks, cursors and fences, rules 2 and 4.
  ['a second unfinished task', ['secondUnfinishedTask'], addUnfinishedTasks],
  ['a second task of a generation', ['secondTaskOfGeneration'], repeatGeneration],
  ['a generation that was passed over', ['generationGap'], skipGeneration],
  ['a lost task', ['taskLost'], state => schedule(state).update({ last_generation: 4 })],
  ['a second schedule of one name', ['secondSchedule'], addSecondSchedule],
  ['a cursor ahead of its point', ['cursorAheadOfPoint'], state => schedule(state).update(cursorTo(3))],
  [
    'a cursor that fell back',
    ['cursorNotNewestPoint', 'lockLost'],
    state => schedule(state).update(cursorTo(1)),
  ],
  ['a lost cursor', ['cursorLost'], loseCursor],
  [
    "a fence at B below a task's",
    ['fenceBelowTask'],
    ({ replica }) => fence(replica).update({ generation: 2 }),
  ],
  ['a fence at A below a lock', ['fenceBelowLock'], ({ source }) => fence(source).update({ generation: 2 })],
  [
    'a fence at A that B never gave out',
    ['fenceAboveTasks'],
    ({ source }) => fence(source).update({ plan: 2 }),
  ],
];

test.each(PLANTED)('finds %s', async (_name, codes, plant) => {
  const state = await maker.make();
  await plant(state);
  expect(await codesIn(state)).toEqual(codes);
});

test('finds a lost lock of the cursor also while a task runs', async () => {
  const state = await maker.make();
  await unlock(state.source, 2);
  expect(await codesIn(state, false)).toEqual(['lockLost']);
});
