import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createReplicaInventory } from '../../../src/catalog/replica-inventory.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import type { HostView } from '../../../src/domain/host-view.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  answerOf,
  fenceOf,
  NOTHING,
  newSchedule,
  planOf,
  publishTask,
  queryOf,
  transfer,
} from './fixtures.ts';

const database = useTestDatabase();
const inventory = () => createReplicaInventory(database().db);
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
});

const cursorOfSchedule = async () => (await inventory().showSchedule(spec.name))?.cursor ?? null;

const increment = (target: string, baseSnapshot: string) =>
  answerOf(target, [planOf({ method: 'incremental', baseSnapshot })]);

async function startTask(target: string, disks = [planOf(), planOf({ disk: 'vdb' })]) {
  const taskUuid = randomUUID();
  const { generation } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });
  const fence = fenceOf(spec.uuid, generation);
  const answer = answerOf(target, disks);
  return { fence, taskUuid, disks: await catalog.recordSyncInfo({ fence, taskUuid, answer, node: 'b1' }) };
}

describe('finishTask', () => {
  it('publishes nothing until every disk is sealed', async () => {
    const target = randomUUID();
    const { fence, taskUuid, disks } = await startTask(target);
    await transfer(catalog, fence, disks[0]?.diskTaskUuid ?? '');
    await expect(catalog.finishTask({ fence, taskUuid })).rejects.toMatchObject({
      code: 'DisksNotSealed',
      message: 'not sealed yet: vdb',
    });
    expect(await inventory().listPoints({ host: spec.host })).toEqual([]);
    expect(await cursorOfSchedule()).toBeNull();
    await transfer(catalog, fence, disks[1]?.diskTaskUuid ?? '');
    expect(await catalog.finishTask({ fence, taskUuid })).toMatchObject({
      outcome: 'published',
      hostSnapshot: target,
      disks: [{ disk: 'vda' }, { disk: 'vdb' }],
    });
    expect(await cursorOfSchedule()).toEqual({
      hostSnapshot: target,
      taskUuid,
      position: null,
      proofs: [
        { disk: 'vda', layers: [] },
        { disk: 'vdb', layers: [] },
      ],
    });
  });

  it('publishes once: retries, also at once and after the next task began, give the same summary', async () => {
    const { fence, taskUuid, disks } = await startTask(randomUUID(), [planOf()]);
    await transfer(catalog, fence, disks[0]?.diskTaskUuid ?? '');
    const input = { fence, taskUuid };
    const [summary, again] = await Promise.all([catalog.finishTask(input), catalog.finishTask(input)]);
    expect(again).toEqual(summary);
    await startTask(randomUUID());
    expect(await catalog.finishTask(input)).toEqual(summary);
    expect(await catalog.endTask({ ...input, outcome: 'stopped', reason: null })).toEqual(summary);
    expect(await inventory().listPoints({ host: spec.host })).toHaveLength(1);
  });

  it('moves the cursor from the own prev of the task only', async () => {
    const { fence, taskUuid, disks } = await startTask(randomUUID(), [planOf()]);
    await transfer(catalog, fence, disks[0]?.diskTaskUuid ?? '');
    // No path of the catalog does this; a restored backup of the database may.
    const { db } = database();
    const other = randomUUID();
    const elsewhere = await newSchedule(catalog);
    await publishTask(catalog, elsewhere.uuid, answerOf(other));
    await db('remote_backup_schedules')
      .where({ uuid: spec.uuid })
      .update({
        cursor: JSON.stringify({ hostSnapshot: other, taskUuid: randomUUID(), position: null, proofs: [] }),
        cursor_snapshot_id: db('host_snapshots').where({ uuid: other }).select('id'),
        cursor_generation: 1,
      });
    await expect(catalog.finishTask({ fence, taskUuid })).rejects.toMatchObject({ code: 'Superseded' });
    expect(await cursorOfSchedule()).toMatchObject({ hostSnapshot: other });
    expect(await inventory().listPoints({ host: spec.host })).toEqual([]);
  });

  it('is refused to a task that was superseded, and to one with nothing to publish', async () => {
    const { fence, taskUuid, disks } = await startTask(randomUUID(), [planOf()]);
    await transfer(catalog, fence, disks[0]?.diskTaskUuid ?? '');
    const next = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid: randomUUID() });
    await expect(catalog.finishTask({ fence, taskUuid })).rejects.toMatchObject({ code: 'Superseded' });
    const upToDate = { fence: fenceOf(spec.uuid, next.generation), taskUuid: next.taskUuid };
    await catalog.recordSyncInfo({ ...upToDate, answer: NOTHING, node: 'b1' });
    await expect(catalog.finishTask(upToDate)).rejects.toMatchObject({ code: 'InvalidInput' });
  });
});

describe('recovery points', () => {
  it('form a chain in the order of publication, each on its base', async () => {
    const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()];
    await publishTask(catalog, spec.uuid, answerOf(first));
    await publishTask(catalog, spec.uuid, increment(second, first));
    await publishTask(catalog, spec.uuid, increment(third, second));
    const points = await inventory().listPoints({ host: spec.host });
    expect(points.map(point => [point.point, point.sequence, point.disks[0]?.chainDepth])).toEqual([
      [first, 1, 1],
      [second, 2, 2],
      [third, 3, 3],
    ]);
    const newest = await inventory().newestPoint(spec.host);
    expect(newest).toEqual(points[2]);
    expect(newest).toEqual(await inventory().findPoint(third));
    const [disk] = newest?.disks ?? [];
    expect(disk?.layers.map(({ path }) => path)).toEqual(
      points.toReversed().map(point => point.disks[0]?.path),
    );
    expect(await inventory().findPoint('nonsense')).toBeNull();
    expect(await inventory().newestPoint('nobody')).toBeNull();
  });

  it('are what a cascade sees, never the partial ones', async () => {
    const [first, second] = [randomUUID(), randomUUID()];
    await publishTask(catalog, spec.uuid, answerOf(first));
    await publishTask(catalog, spec.uuid, increment(second, first));
    await startTask(randomUUID());
    const source = createSourceCatalog(database().db, { site: 'b', instance: 1 });
    let seen: HostView | null = null;
    await source.answerSync(queryOf(spec.host, fenceOf(randomUUID(), 1)), async ({ view }) => {
      seen = view;
      return NOTHING;
    });
    const { snapshots } = seen as unknown as HostView;
    expect(snapshots.map(({ uuid }) => uuid)).toEqual([first, second]);
    expect(snapshots[1]?.disks[0]?.parentId).toBe(snapshots[0]?.disks[0]?.diskSnapshotId);
  });

  it('that are sent again get a second file beside the old one, which stays under its children', async () => {
    const [first, second] = [randomUUID(), randomUUID()];
    await publishTask(catalog, spec.uuid, answerOf(first));
    await publishTask(catalog, spec.uuid, increment(second, first));
    const before = await inventory().listPoints({ host: spec.host });
    await publishTask(catalog, spec.uuid, answerOf(first));
    const after = await inventory().listPoints({ host: spec.host });
    expect(after.map(({ point, sequence }) => [point, sequence])).toEqual([
      [first, 1],
      [second, 2],
    ]);
    expect(after[0]?.disks[0]?.path).not.toBe(before[0]?.disks[0]?.path);
    expect(after[1]).toEqual(before[1]);
    const files = (await catalog.activeStoragePaths()).filter(({ path }) => path.includes(`/${spec.host}/`));
    expect(files.map(({ state }) => state)).toEqual(['published', 'published', 'published']);
    expect(await cursorOfSchedule()).toMatchObject({ hostSnapshot: first });
  });
});
