import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createMetricsReadings } from '../../../src/catalog/metrics-readings.ts';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createReplicaInventory } from '../../../src/catalog/replica-inventory.ts';
import type { ReplicaJournal } from '../../../src/catalog/replica-journals.ts';
import type { Epoch, Fence } from '../../../src/contract/fence.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import type { SyncAnswer } from '../../../src/contract/sync.ts';
import { useTestDatabase } from '../../support/database.ts';
import { answerOf, digestOf, FINGERPRINT, fenceOf, newSchedule, planOf, publishTask } from './fixtures.ts';

const database = useTestDatabase();
const inventory = () => createReplicaInventory(database().db);
const DISKS = ['vda', 'vdb'];

let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
let base: string;
let epochUuid: string;

beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
  [base, epochUuid] = [randomUUID(), randomUUID()];
  await publishTask(
    catalog,
    spec.uuid,
    answerOf(
      base,
      DISKS.map(disk => planOf({ disk })),
    ),
  );
});

/** What A answers for the epoch whose newest checkpoint is this one. */
function appendAnswer(checkpoint: number, target = epochUuid): SyncAnswer {
  const disks = DISKS.map(disk => planOf({ disk, method: 'append', baseSnapshot: base }));
  const answer = answerOf(target, disks);
  if (answer.target === null) throw new Error('an answer without a target');
  return { ...answer, target: { ...answer.target, position: { epoch: 1, checkpoint }, base } };
}

interface AppendTask {
  readonly fence: Fence;
  readonly taskUuid: string;
  readonly epoch: Epoch;
  readonly disks: Record<string, string>;
}

/** A task up to its open receivers. */
async function beginTask(checkpoint: number): Promise<AppendTask> {
  const taskUuid = randomUUID();
  const { generation } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });
  const fence = fenceOf(spec.uuid, generation);
  const recorded = await catalog.recordSyncInfo({
    ...{ fence, taskUuid, node: 'b1' },
    answer: appendAnswer(checkpoint),
  });
  const epoch = { generation, plan: 1, openCount: 1 };
  for (const { diskTaskUuid } of recorded) {
    await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint: FINGERPRINT });
  }
  const disks = Object.fromEntries(recorded.map(({ disk, diskTaskUuid }) => [disk, diskTaskUuid]));
  return { fence, taskUuid, epoch, disks };
}

const open = ({ disks, epoch }: AppendTask, disk: string): Promise<ReplicaJournal> =>
  catalog.openJournal({ diskTaskUuid: disks[disk] ?? '', epoch });

/** @param checkpoint of the newest checkpoint among the records; null for none */
const append = (
  { disks, epoch }: AppendTask,
  disk: string,
  nextIndex: number,
  checkpoint: number | null,
  markers: { sequence: number; atMs: number; name: string }[] = [],
) =>
  catalog.appendDurable({
    ...{ diskTaskUuid: disks[disk] ?? '', epoch, nextIndex, recordBytes: nextIndex * 100, markers },
    checkpoint: checkpoint === null ? null : { sequence: checkpoint, atMs: 1_700_000_000_000 + checkpoint },
  });

async function endTask(task: AppendTask) {
  const { fence, taskUuid, epoch, disks } = task;
  for (const diskTaskUuid of Object.values(disks)) {
    await catalog.markReceived({ diskTaskUuid, epoch, totalBytes: 1, contentDigest: digestOf(9) });
    await catalog.markAppended({ fence, diskTaskUuid });
  }
  return catalog.finishTask({ fence, taskUuid });
}

const cursor = async () => (await inventory().showSchedule(spec.name))?.cursor ?? null;
const points = async () => (await inventory().listPoints({ host: spec.host })).map(({ point }) => point);

describe('a journal at the replica', () => {
  it('is published with the first checkpoint that all disks have, and grows by the least', async () => {
    const task = await beginTask(20);
    for (const disk of DISKS) expect(await open(task, disk)).toMatchObject({ nextIndex: 0, epochUuid });
    expect(await append(task, 'vda', 10, 20)).toEqual({ publishedCheckpoint: 0 });
    expect(await append(task, 'vdb', 3, null)).toEqual({ publishedCheckpoint: 0 });
    expect(await points()).toEqual([base]);
    expect(await append(task, 'vdb', 5, 15)).toEqual({ publishedCheckpoint: 15 });
    expect(await points()).toEqual([base, epochUuid]);
    expect(await cursor()).toMatchObject({
      ...{ hostSnapshot: epochUuid, taskUuid: task.taskUuid, position: { epoch: 1, checkpoint: 15 } },
    });
    expect(await append(task, 'vdb', 9, 30)).toEqual({ publishedCheckpoint: 20 });
    const [point] = (await inventory().listPoints({ host: spec.host })).slice(1);
    expect(point?.takenAtMs).toBe(1_700_000_000_020);
    expect(await endTask(task)).toMatchObject({ outcome: 'published', hostSnapshot: epochUuid });
  });

  it('goes on in a later task where the earlier one ended, in the same folder', async () => {
    const first = await beginTask(20);
    const { directory } = await open(first, 'vda');
    await open(first, 'vdb');
    for (const disk of DISKS) await append(first, disk, 10, 20);
    await endTask(first);
    const second = await beginTask(40);
    expect(await open(second, 'vda')).toMatchObject({ directory, nextIndex: 10, recordBytes: 1000 });
    await open(second, 'vdb');
    expect(await append(second, 'vda', 12, 40)).toEqual({ publishedCheckpoint: 20 });
    expect(await cursor()).toMatchObject({ taskUuid: second.taskUuid, position: { checkpoint: 20 } });
    expect(await append(second, 'vdb', 14, 40)).toEqual({ publishedCheckpoint: 40 });
    await endTask(second);
    expect(await cursor()).toMatchObject({ taskUuid: second.taskUuid, position: { checkpoint: 40 } });
  });

  it('never goes back, whatever comes late or twice', async () => {
    const task = await beginTask(20);
    for (const disk of DISKS) await open(task, disk);
    for (const disk of DISKS) await append(task, disk, 10, 20);
    expect(await append(task, 'vda', 10, 20)).toEqual({ publishedCheckpoint: 20 });
    await expect(append(task, 'vda', 9, 19)).rejects.toMatchObject({ code: 'Superseded' });
    expect(await open(task, 'vda')).toMatchObject({ nextIndex: 10 });
    expect(await cursor()).toMatchObject({ position: { checkpoint: 20 } });
  });

  it('takes nothing from a lower epoch, a closed session or an ended task', async () => {
    const task = await beginTask(20);
    for (const disk of DISKS) await open(task, disk);
    const diskTaskUuid = task.disks.vda ?? '';
    const later = { ...task.epoch, openCount: 2 };
    await catalog.openSession({
      ...{ fence: task.fence, diskTaskUuid, epoch: later, senderFingerprint: FINGERPRINT },
    });
    await expect(append(task, 'vda', 1, 5)).rejects.toMatchObject({ code: 'Superseded' });
    await expect(open(task, 'vda')).rejects.toMatchObject({ code: 'Superseded' });
    expect(await append({ ...task, epoch: later }, 'vda', 1, 5)).toEqual({ publishedCheckpoint: 0 });
    await catalog.closeSessions(spec.uuid);
    await expect(append({ ...task, epoch: later }, 'vda', 2, 6)).rejects.toMatchObject({
      code: expect.stringMatching(/ReopenNeeded|Superseded/),
    });
  });

  it('counts as behind until the named checkpoint is published, though its task runs on', async () => {
    const readings = createMetricsReadings(database().db);
    const behind = async () =>
      (await readings.schedules()).find(({ name }) => name === spec.name)?.behindSinceMs ?? null;
    const task = await beginTask(20);
    for (const disk of DISKS) await open(task, disk);
    for (const disk of DISKS) await append(task, disk, 5, 15);
    expect(await behind()).not.toBeNull();
    for (const disk of DISKS) await append(task, disk, 10, 20);
    expect(await behind()).toBeNull();
  });

  it('keeps markers, each once', async () => {
    const task = await beginTask(20);
    for (const disk of DISKS) await open(task, disk);
    const markers = [{ sequence: 20, atMs: 1_700_000_000_020, name: 'before the upgrade' }];
    for (const disk of DISKS) await append(task, disk, 10, 20, markers);
    const kept = await database()
      .db('cdp_markers as m')
      .join('host_snapshots as hs', 'hs.id', 'm.host_snapshot_id')
      .where('hs.uuid', epochUuid)
      .select('m.sequence', 'm.name');
    expect(kept).toEqual([{ sequence: 20, name: 'before the upgrade' }]);
  });

  it('is not begun on a base that is not published here', async () => {
    const taskUuid = randomUUID();
    const { generation } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });
    const answer = appendAnswer(20);
    if (answer.target === null) throw new Error('an answer without a target');
    const unknown = { ...answer, target: { ...answer.target, base: randomUUID() } };
    const fence = fenceOf(spec.uuid, generation);
    await expect(
      catalog.recordSyncInfo({ fence, taskUuid, answer: unknown, node: 'b1' }),
    ).rejects.toMatchObject({ code: 'PlanBroken' });
  });

  it('does not end before the checkpoint that the source named', async () => {
    const task = await beginTask(30);
    for (const disk of DISKS) await open(task, disk);
    for (const disk of DISKS) await append(task, disk, 10, 20);
    await expect(endTask(task)).rejects.toMatchObject({
      message: expect.stringContaining('was to bring checkpoint 30, published is 20'),
    });
  });

  it('proves its base where it is the cursor, and is no layer itself', async () => {
    const task = await beginTask(20);
    for (const disk of DISKS) await open(task, disk);
    for (const disk of DISKS) await append(task, disk, 10, 20);
    await endTask(task);
    const chains = await catalog.cursorChains(spec.uuid);
    expect(chains.map(({ disk, layers }) => [disk, layers.map(({ path }) => path)])).toEqual(
      DISKS.map(disk => [disk, [expect.stringMatching(new RegExp(`/${disk}/${base}.*\\.qcow2$`))]]),
    );
  });

  it.each([{ isEnded: true }, { isEnded: false }])(
    'goes with its schedule when that is purged (task ended: $isEnded)',
    async ({ isEnded }) => {
      const task = await beginTask(20);
      const { directory } = await open(task, 'vda');
      await open(task, 'vdb');
      for (const disk of DISKS) await append(task, disk, 10, 20);
      if (isEnded) await endTask(task);
      const input = { scheduleUuid: spec.uuid, request: { purge: true } };
      await catalog.beginDelete(input);
      const files = await catalog.filesToDrop(input);
      expect(files.map(({ path }) => path)).toContain(directory);
      expect(files).toHaveLength(4);
      expect(await points()).toEqual([]);
      await catalog.finishDelete({ ...input, released: true });
      const { rows } = await database().db.raw(
        `select hs.uuid, e.epoch from host_snapshots hs
         left join cdp_epochs e on e.host_snapshot_id = hs.id where hs.uuid in (?, ?)
         union all select null, next_index from cdp_journals j
         join snapshot_storages st on st.id = j.storage_id where st.path = ?`,
        [base, epochUuid, directory],
      );
      expect(rows).toEqual([]);
    },
  );
});
