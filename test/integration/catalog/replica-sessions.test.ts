import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import type { Fence } from '../../../src/contract/fence.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import type { DiskPlan } from '../../../src/contract/sync.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  answerOf,
  digestOf,
  FINGERPRINT,
  fenceOf,
  freshMap,
  MIB,
  newSchedule,
  planOf,
  publishTask,
  recordPaused,
  SEALED,
  transfer,
} from './fixtures.ts';

const database = useTestDatabase();
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
beforeEach(async () => {
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
});

interface Running {
  readonly fence: Fence;
  readonly taskUuid: string;
  readonly diskTaskUuid: string;
}

/** A task of the schedule that is to receive one disk of `target`. */
async function startDisk(target: string = randomUUID(), plan: DiskPlan = planOf()): Promise<Running> {
  const taskUuid = randomUUID();
  const { generation } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });
  const fence = fenceOf(spec.uuid, generation);
  return { fence, taskUuid, diskTaskUuid: await recordDisk(fence, taskUuid, target, plan) };
}

async function recordDisk(fence: Fence, taskUuid: string, target: string, plan = planOf()): Promise<string> {
  const answer = answerOf(target, [plan]);
  const [disk] = await catalog.recordSyncInfo({ fence, taskUuid, answer, node: 'b1' });
  return disk?.diskTaskUuid ?? '';
}

const epochOf = ({ fence }: Running, openCount: number) => ({
  generation: fence.generation,
  plan: fence.plan,
  openCount,
});

const open = (running: Running, openCount: number, senderFingerprint = FINGERPRINT) =>
  catalog.openSession({ ...running, epoch: epochOf(running, openCount), senderFingerprint });

const adopt = (running: Running, mapDigest: string, openCount = 1, virtualSizeBytes = 64 * MIB) =>
  catalog.adoptLayout({
    diskTaskUuid: running.diskTaskUuid,
    epoch: epochOf(running, openCount),
    mapDigest,
    virtualSizeBytes,
    clusterSizeBytes: 65_536,
  });

const receive = (running: Running, openCount: number, contentDigest = digestOf(7)) =>
  catalog.markReceived({
    diskTaskUuid: running.diskTaskUuid,
    epoch: epochOf(running, openCount),
    totalBytes: 4096,
    contentDigest,
  });

const superseded = { code: 'Superseded' };

describe('a receiver session', () => {
  it('is raised by a higher epoch, and refused to a lower one', async () => {
    const running = await startDisk();
    await open(running, 1);
    await open(running, 1);
    await open(running, 3, 'cd'.repeat(32));
    expect(await catalog.findSession(running.diskTaskUuid)).toEqual({
      diskTaskUuid: running.diskTaskUuid,
      epoch: { generation: 1, plan: 1, openCount: 3 },
      senderFingerprint: 'cd'.repeat(32),
      state: 'open',
      received: null,
    });
    await expect(open(running, 2)).rejects.toMatchObject(superseded);
    expect(await catalog.findSession(randomUUID())).toBeNull();
  });

  it('keeps the highest of many epochs at once', async () => {
    const running = await startDisk();
    await Promise.allSettled([2, 5, 1, 4, 3].map(openCount => open(running, openCount)));
    expect(await catalog.findSession(running.diskTaskUuid)).toMatchObject({ epoch: { openCount: 5 } });
  });

  it('does not open for an older task, another plan, or while paused', async () => {
    const older = await startDisk();
    const running = await startDisk();
    await expect(open(older, 1)).rejects.toMatchObject(superseded);
    const otherPlan = { ...running, fence: fenceOf(spec.uuid, 2, 2) };
    await expect(open(otherPlan, 1)).rejects.toMatchObject({ code: 'InvalidInput' });
    await recordPaused(catalog, spec.uuid, true);
    await expect(open(running, 1)).rejects.toMatchObject({ code: 'SchedulePaused' });
    await recordPaused(catalog, spec.uuid, false);
    await open(running, 1);
  });

  it('that was closed opens again under a higher epoch only', async () => {
    const running = await startDisk();
    await open(running, 1);
    expect(await catalog.closeSessions(spec.uuid)).toEqual([running.diskTaskUuid]);
    expect(await catalog.closeSessions(spec.uuid)).toEqual([running.diskTaskUuid]);
    expect(await catalog.findSession(running.diskTaskUuid)).toMatchObject({ state: 'closed' });
    await expect(adopt(running, freshMap())).rejects.toMatchObject(superseded);
    await expect(open(running, 1)).rejects.toMatchObject({ code: 'ReopenNeeded' });
    await open(running, 2);
    expect(await catalog.findSession(running.diskTaskUuid)).toMatchObject({ state: 'open' });
  });

  it('that has received everything stays so, whatever epoch comes and however it is closed', async () => {
    const running = await startDisk();
    await open(running, 1);
    await adopt(running, freshMap());
    await receive(running, 1);
    await receive(running, 1);
    await open(running, 2);
    await catalog.closeSessions(spec.uuid);
    const received = { totalBytes: 4096, contentDigest: digestOf(7) };
    expect(await catalog.findSession(running.diskTaskUuid)).toMatchObject({ state: 'received', received });
    await expect(receive(running, 2, digestOf(8))).rejects.toMatchObject(superseded);
  });

  it('names the disk tasks before it that may still write into the same file, of its own disk only', async () => {
    const target = randomUUID();
    const older = await startDisk(target);
    expect(await open(older, 1)).toEqual([]);
    const otherDisk = await startDisk(target, planOf({ disk: 'vdb' }));
    await open(otherDisk, 1);
    const running = await startDisk(target);
    expect(await open(running, 1)).toEqual([older.diskTaskUuid]);
    const plan = await catalog.raisePlan({ ...running, reason: 'the ground changed' });
    const fence = fenceOf(spec.uuid, running.fence.generation, plan);
    const diskTaskUuid = await recordDisk(fence, running.taskUuid, target);
    const cut = await open({ ...running, fence, diskTaskUuid }, 1);
    expect([...cut].sort()).toEqual([older.diskTaskUuid, running.diskTaskUuid].sort());
  });

  it('is closed when its task ends', async () => {
    const running = await startDisk();
    await open(running, 1);
    await startDisk();
    expect(await catalog.findSession(running.diskTaskUuid)).toMatchObject({ state: 'closed' });
  });
});

describe('markReceived', () => {
  it('is refused to an epoch that gave way, and before there is a layout', async () => {
    const running = await startDisk();
    await open(running, 1);
    await expect(receive(running, 1)).rejects.toMatchObject({ code: 'InvalidInput' });
    await adopt(running, freshMap());
    await open(running, 2);
    await expect(receive(running, 1)).rejects.toMatchObject(superseded);
    await expect(receive(running, 3)).rejects.toMatchObject(superseded);
    await receive(running, 2);
  });
});

describe('a layout', () => {
  it('is one storage, however often it is adopted, also by two at once', async () => {
    const target = randomUUID();
    const running = await startDisk(target);
    await open(running, 1);
    const map = freshMap();
    const [first, second] = await Promise.all([adopt(running, map), adopt(running, map)]);
    expect(first).toEqual({
      storageId: expect.any(Number),
      compared: null,
      layoutDigest: expect.stringMatching(/^[0-9a-f]{32}$/),
      mapDigest: map,
      directory: `/replicas/${spec.host}/vda`,
      finalName: expect.stringMatching(`^${target}\\.${first?.layoutDigest.slice(0, 8)}[0-9a-f]{8}\\.qcow2$`),
      backing: null,
      standsAlone: false,
      virtualSizeBytes: 64 * MIB,
      clusterSizeBytes: 65_536,
      state: 'partial',
    });
    expect(second).toEqual(first);
    expect(await catalog.findLayout(running.diskTaskUuid)).toEqual(first);
    expect(await catalog.findLayout(randomUUID())).toBeNull();
    expect(await catalog.activeStoragePaths()).toContainEqual({
      node: 'b1',
      path: `${first?.directory}/${first?.finalName}`,
      state: 'partial',
      layoutDigest: first?.layoutDigest,
    });
  });

  it('of another map breaks the plan; a new plan may have it', async () => {
    const target = randomUUID();
    const running = await startDisk(target);
    await open(running, 1);
    const [map, other] = [freshMap(), freshMap()];
    const first = await adopt(running, map);
    await expect(adopt(running, other)).rejects.toMatchObject({ code: 'PlanBroken' });
    const plan = await catalog.raisePlan({ ...running, reason: 'another map' });
    const fence = fenceOf(spec.uuid, 1, plan);
    const diskTaskUuid = await recordDisk(fence, running.taskUuid, target);
    const next = { ...running, fence, diskTaskUuid };
    await open(next, 1);
    expect((await adopt(next, other)).storageId).not.toBe(first.storageId);
  });

  it('that a later task has again adopts what the earlier one began', async () => {
    const target = randomUUID();
    const map = freshMap();
    const earlier = await startDisk(target);
    await open(earlier, 1);
    const begun = await adopt(earlier, map);
    const later = await startDisk(target);
    await open(later, 1);
    expect(await adopt(later, map)).toEqual(begun);
    await expect(adopt(earlier, map)).rejects.toMatchObject(superseded);
  });

  it('of a disk of another size than decided breaks the plan', async () => {
    const running = await startDisk();
    await open(running, 1);
    await expect(adopt(running, freshMap(), 1, MIB)).rejects.toMatchObject({ code: 'PlanBroken' });
  });

  it('of an increment stands on the published base, named relative to the same directory', async () => {
    const base = randomUUID();
    await publishTask(catalog, spec.uuid, answerOf(base));
    const running = await startDisk(randomUUID(), planOf({ method: 'incremental', baseSnapshot: base }));
    await open(running, 1);
    const layout = await adopt(running, freshMap());
    expect(layout.directory).toBe(`/replicas/${spec.host}/vda`);
    expect(layout.backing).toEqual({
      name: expect.stringMatching(new RegExp(`^${base}\\.[0-9a-f]{16}\\.qcow2$`)),
      format: 'qcow2',
    });
  });

  it('that is published already is never opened again: the same map gets a second file', async () => {
    const target = randomUUID();
    const map = freshMap();
    const first = await startDisk(target);
    const published = await transfer(catalog, first.fence, first.diskTaskUuid, map);
    await catalog.finishTask(first);
    const second = await startDisk(target);
    await open(second, 1);
    const copy = await adopt(second, map);
    expect(copy.finalName).not.toBe(published.finalName);
    // An interrupted second copy is adopted like any other.
    const third = await startDisk(target);
    await open(third, 1);
    expect(await adopt(third, map)).toEqual(copy);
  });
});

describe('markSealed', () => {
  it('seals what was received, once, at the path of the layout', async () => {
    const running = await startDisk();
    await open(running, 1);
    const layout = await adopt(running, freshMap());
    const seal = { ...running, path: `${layout.directory}/${layout.finalName}`, file: SEALED };
    const invalid = { code: 'InvalidInput' };
    await expect(catalog.markSealed(seal)).rejects.toMatchObject(invalid);
    await receive(running, 1);
    await expect(catalog.markSealed({ ...seal, path: '/replicas/x' })).rejects.toMatchObject(invalid);
    await catalog.markSealed(seal);
    await catalog.markSealed(seal);
    expect(await catalog.findLayout(running.diskTaskUuid)).toMatchObject({ state: 'sealed' });
    await startDisk();
    await expect(catalog.markSealed(seal)).rejects.toMatchObject(superseded);
  });
});
