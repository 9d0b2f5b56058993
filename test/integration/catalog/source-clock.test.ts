/** Times from the source, whatever its clock says. */
import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createLiveScheduleRows } from '../../../src/catalog/live-schedules.ts';
import { createMetricsReadings } from '../../../src/catalog/metrics-readings.ts';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createReplicaInventory } from '../../../src/catalog/replica-inventory.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import { useTestDatabase } from '../../support/database.ts';
import { answerOf, fenceOf, NOTHING, newSchedule, queryOf, transfer } from './fixtures.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
/** Statements take time on a busy machine. */
const SOON_MS = 5 * MINUTE_MS;
const database = useTestDatabase();
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
});

/** A task whose target was taken ten minutes ago, by a source whose clock is off. */
async function begin(sourceOffMs: number) {
  const taskUuid = randomUUID();
  const { generation } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });
  const fence = fenceOf(spec.uuid, generation);
  const answer = answerOf(randomUUID());
  const takenAtMs = Date.now() + sourceOffMs - 10 * MINUTE_MS;
  const target = answer.target === null ? null : { ...answer.target, takenAtMs };
  const [disk] = await catalog.recordSyncInfo({ fence, taskUuid, answer: { ...answer, target }, node: 'b1' });
  const diskTaskUuid = disk?.diskTaskUuid ?? '';
  const hello = (offMs = sourceOffMs) =>
    catalog.noteSourceClock({ diskTaskUuid, sentAtMs: Date.now() + offMs });
  return { fence, taskUuid, diskTaskUuid, takenAtMs, hello };
}

const isTenMinutes = (ageMs: number | null | undefined): void => {
  expect(ageMs).toBeGreaterThanOrEqual(10 * MINUTE_MS - 1_000);
  expect(ageMs).toBeLessThan(10 * MINUTE_MS + SOON_MS);
};

describe('a source whose clock is off', () => {
  it.each([
    ['an hour ahead', HOUR_MS],
    ['an hour behind', -HOUR_MS],
    ['right', 0],
  ])('by its hello, as %s, has its points as old as they are everywhere', async (_words, offMs) => {
    const task = await begin(offMs);
    await task.hello();
    await transfer(catalog, task.fence, task.diskTaskUuid);
    const summary = await catalog.finishTask(task);
    isTenMinutes(summary.targetAgeMs);
    const { db } = database();
    const listed = (await createReplicaInventory(db).listSchedules()).find(({ uuid }) => uuid === spec.uuid);
    isTenMinutes(listed?.newestPointAgeMs);
    const live = await createLiveScheduleRows(db).liveSchedule(spec.uuid);
    isTenMinutes(Date.now() - (live?.newestPointAtMs ?? 0));
    const reading = (await createMetricsReadings(db).schedules()).find(({ uuid }) => uuid === spec.uuid);
    isTenMinutes(Date.now() - (reading?.newestPointAtMs ?? 0));
    // People see the time that the source gave the snapshot.
    const [point] = await createReplicaInventory(db).listPoints({ host: spec.host });
    expect(point?.takenAtMs).toBe(task.takenAtMs);
    // A third site gets it by the clock of the site that it asks.
    const source = createSourceCatalog(db, { site: 'b', instance: 1 });
    await source.answerSync(queryOf(spec.host, fenceOf(randomUUID(), 1)), async ({ view }) => {
      isTenMinutes(Date.now() - (view?.snapshots[0]?.takenAtMs ?? 0));
      return NOTHING;
    });
  });

  it('is as far behind as it is while its target is not published', async () => {
    const task = await begin(HOUR_MS);
    await task.hello();
    const readings = await createMetricsReadings(database().db).schedules();
    isTenMinutes(Date.now() - (readings.find(({ uuid }) => uuid === spec.uuid)?.behindSinceMs ?? 0));
    isTenMinutes((await catalog.endTask({ ...task, outcome: 'stopped', reason: null })).targetAgeMs);
  });

  it('that steps between two connections keeps what was seen nearest to the snapshot', async () => {
    const task = await begin(0);
    await task.hello();
    await task.hello(HOUR_MS);
    isTenMinutes((await catalog.endTask({ ...task, outcome: 'stopped', reason: null })).targetAgeMs);
    // The next snapshot is taken by the clock as it is now, and no disk has come yet.
    const next = await begin(HOUR_MS);
    isTenMinutes((await catalog.endTask({ ...next, outcome: 'stopped', reason: null })).targetAgeMs);
  });

  it('that was never seen is taken at its word, and one that is years off is not believed', async () => {
    const task = await begin(0);
    await task.hello(-20 * 366 * 24 * HOUR_MS);
    await task.hello(2 ** 52);
    expect((await catalog.endTask({ ...task, outcome: 'stopped', reason: null })).targetAgeMs).toBeNull();
  });
});

describe('points of a source whose clock goes back', () => {
  it('keep their order: the cursor and the newest point go by sequence', async () => {
    const { db } = database();
    const taken: string[] = [];
    for (const offMs of [0, -5 * HOUR_MS, -9 * HOUR_MS]) {
      const task = await begin(offMs);
      await task.hello();
      await transfer(catalog, task.fence, task.diskTaskUuid);
      const { hostSnapshot } = await catalog.finishTask(task);
      taken.push(hostSnapshot ?? '');
    }
    const points = await createReplicaInventory(db).listPoints({ host: spec.host });
    expect(points.map(({ point }) => point)).toEqual(taken);
    expect((await createReplicaInventory(db).newestPoint(spec.host))?.point).toBe(taken.at(-1));
    const [schedule] = await db('remote_backup_schedules').where({ uuid: spec.uuid });
    expect(schedule.cursor.hostSnapshot).toBe(taken.at(-1));
  });
});
