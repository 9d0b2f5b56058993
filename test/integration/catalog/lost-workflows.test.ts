import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createLiveScheduleRows } from '../../../src/catalog/live-schedules.ts';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import { useTestDatabase } from '../../support/database.ts';
import { answerOf, fenceOf, newSchedule, publishTask, recordPaused } from './fixtures.ts';

const database = useTestDatabase();
const rows = () => createLiveScheduleRows(database().db);
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
});

/** A task that has begun a target. */
async function beginTask(): Promise<{ taskUuid: string; generation: number }> {
  const taskUuid = randomUUID();
  const { generation } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });
  const fence = fenceOf(spec.uuid, generation);
  await catalog.recordSyncInfo({ fence, taskUuid, answer: answerOf(randomUUID()), node: 'b1' });
  return { taskUuid, generation };
}

const end = (lastGeneration: number) => rows().endLostTask({ scheduleUuid: spec.uuid, lastGeneration });

describe('endLostTask', () => {
  it('tells of no task where there was none', async () => {
    expect(await end(0)).toBeNull();
  });

  it('ends the task that nobody runs, and says that its target is not published', async () => {
    const { taskUuid } = await beginTask();
    const last = await end(1);
    expect(last?.summary).toMatchObject({ taskUuid, outcome: 'superseded', reason: 'its workflow was lost' });
    expect(last?.unpublishedTakenAtMs).toEqual(expect.any(Number));
    expect(await end(1)).toEqual(last);
    const { unfinished } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid: randomUUID() });
    expect(unfinished).not.toBeNull();
  });

  it('leaves a task alone that began after the look: another worker has made the workflow anew', async () => {
    const { taskUuid } = await beginTask();
    expect((await end(0))?.summary).toMatchObject({ taskUuid, outcome: null });
  });

  it('ends it as paused where the operator wanted a pause, also one after the task', async () => {
    await beginTask();
    await catalog.recordPaused({
      scheduleUuid: spec.uuid,
      revision: 1,
      paused: false,
      draining: true,
      releasing: false,
    });
    expect((await end(1))?.summary.outcome).toBe('paused');
  });

  it('leaves what has published as it is', async () => {
    await publishTask(catalog, spec.uuid, answerOf(randomUUID()));
    const last = await end(1);
    expect(last).toMatchObject({ summary: { outcome: 'published' }, unpublishedTakenAtMs: null });
  });
});

describe('a deleted schedule', () => {
  async function deleteSchedule(released?: boolean, force = true): Promise<void> {
    const input = { scheduleUuid: spec.uuid, request: { purge: false, force } };
    await catalog.beginDelete(input);
    await catalog.filesToDrop(input);
    await catalog.finishDelete({ ...input, released });
  }

  const owed = async () => (await rows().pendingReleases()).filter(({ uuid }) => uuid === spec.uuid);

  it('is remembered until its source has confirmed that it holds nothing', async () => {
    await deleteSchedule(false);
    expect(await rows().liveSchedule(spec.uuid)).toBeNull();
    expect(await owed()).toEqual([spec]);
    await rows().noteReleased(spec.uuid);
    expect(await owed()).toEqual([]);
  });

  it('owes nothing when the source has confirmed before, also by force', async () => {
    await deleteSchedule(true);
    expect(await owed()).toEqual([]);
  });

  it('owes a release when a workflow of an older version deleted it by force', async () => {
    await deleteSchedule(undefined);
    expect(await owed()).toEqual([spec]);
  });

  it('owes none when an older version waited for the source', async () => {
    await deleteSchedule(undefined, false);
    expect(await owed()).toEqual([]);
  });

  it('comes back as deleted by force when it was being so', async () => {
    await catalog.beginDelete({ scheduleUuid: spec.uuid, request: { purge: true } });
    await catalog.beginDelete({ scheduleUuid: spec.uuid, request: { purge: false, force: true } });
    expect(await rows().liveSchedule(spec.uuid)).toMatchObject({ deleting: { purge: true, force: true } });
  });
});

describe('liveSchedule', () => {
  it('says how it stands', async () => {
    const { generation } = await beginTask();
    await recordPaused(catalog, spec.uuid, true);
    expect(await rows().liveSchedule(spec.uuid)).toMatchObject({
      spec,
      paused: true,
      deleting: null,
      lastGeneration: generation,
    });
  });
});
