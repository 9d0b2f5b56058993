/** B's catalog comes back from an older backup: A is ahead, and B catches up in one step, visibly. */
import { randomUUID } from 'node:crypto';
import { ApplicationFailure } from '@temporalio/activity';
import { expect, it } from 'vitest';
import { toFailure } from '../../../src/activities/failure.ts';
import { type Database, openDatabase } from '../../../src/catalog/database.ts';
import { createReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import type { Fence, SeenFence } from '../../../src/contract/fence.ts';
import { createTestDatabase, useTestDatabase } from '../../support/database.ts';
import { newSchedule } from './fixtures.ts';

const atSource = useTestDatabase();

/** Ends the task and begins the next, as the workflows do it; A sees each of them. */
async function runTasks(db: Database, scheduleUuid: string, count: number): Promise<number> {
  const replica = createReplicaCatalog(db, { site: 'b', replicaRoot: '/replicas' });
  const source = createSourceCatalog(atSource().db, { site: 'a', instance: 1 });
  let generation = 0;
  for (let run = 0; run < count; run += 1) {
    const taskUuid = randomUUID();
    const task = await replica.createEmptyTask({ scheduleUuid, taskUuid });
    generation = task.generation;
    const fence: Fence = { scheduleUuid, generation, plan: task.plan };
    await source.requestStop(fence);
    await replica.endTask({ fence, taskUuid, outcome: 'upToDate', reason: null });
  }
  return generation;
}

/** What a failed activity hands to the workflow. */
async function refusalOf(work: Promise<unknown>): Promise<ApplicationFailure> {
  const error = await work.then(
    () => null,
    (reason: unknown) => toFailure(reason),
  );
  if (!(error instanceof ApplicationFailure)) throw new Error('it was not refused');
  return error;
}

it('begins beyond what the source has seen, after one superseded task, and says why', async () => {
  const backup = await createTestDatabase();
  const scheduleUuid = (await newSchedule(createReplicaCatalog(backup.db, { site: 'b', replicaRoot: '/r' })))
    .uuid;
  await runTasks(backup.db, scheduleUuid, 2);
  // The backup: a copy of the whole database as it is now; the original goes on.
  await backup.db.destroy();
  const live = new URL(backup.url);
  live.pathname = `/live_${randomUUID().replaceAll('-', '')}`;
  await atSource().db.raw(
    `create database ${live.pathname.slice(1)} template ${new URL(backup.url).pathname.slice(1)}`,
  );
  const liveDb = openDatabase({ url: live.href });
  expect(await runTasks(liveDb, scheduleUuid, 7)).toBe(9);
  // The live one is lost, and the backup takes its place.
  await liveDb.destroy();
  await atSource().db.raw(`drop database ${live.pathname.slice(1)} with (force)`);
  const restored = openDatabase({ url: backup.url });
  const replica = createReplicaCatalog(restored, { site: 'b', replicaRoot: '/replicas' });
  const source = createSourceCatalog(atSource().db, { site: 'a', instance: 1 });

  const taskUuid = randomUUID();
  const late = await replica.createEmptyTask({ scheduleUuid, taskUuid });
  expect(late.generation).toBe(3);
  const fence: Fence = { scheduleUuid, generation: 3, plan: 1 };
  const refusal = await refusalOf(source.requestStop(fence));
  expect(refusal).toMatchObject({ type: 'Superseded', nonRetryable: true });
  const [{ seen }] = refusal.details as [{ seen: SeenFence }];
  expect(seen).toEqual({ generation: 9, plan: 1 });

  const end = { fence, taskUuid, outcome: 'superseded' as const, reason: refusal.message, seen };
  const summary = await replica.endTask(end);
  expect(summary).toMatchObject({
    outcome: 'superseded',
    warnings: [
      expect.stringMatching(/task 9 .* knows only 3: .*restored from an older backup; .* number 10/),
    ],
  });
  expect(await replica.endTask(end), 'its retry finds it done').toEqual(summary);
  expect(await runTasks(restored, scheduleUuid, 1)).toBe(10);
  await restored.destroy();
  await atSource().db.raw(`drop database ${new URL(backup.url).pathname.slice(1)} with (force)`);
});

it('is not moved by what cannot be, nor by its own newer task', async () => {
  const { db } = atSource();
  const replica = createReplicaCatalog(db, { site: 'b', replicaRoot: '/replicas' });
  const { uuid: scheduleUuid } = await newSchedule(replica);
  const nonsense = [Number.MAX_SAFE_INTEGER, 2 ** 60, Number.NaN, -1, 1.5, '99' as never, null as never];
  for (const [at, generation] of [1, ...nonsense].entries()) {
    const taskUuid = randomUUID();
    const task = await replica.createEmptyTask({ scheduleUuid, taskUuid });
    expect(task.generation).toBe(at + 1);
    const fence = { scheduleUuid, generation: task.generation, plan: 1 };
    await replica.endTask({
      fence,
      taskUuid,
      outcome: 'superseded',
      reason: null,
      seen: { generation, plan: 1 },
    });
  }
});
