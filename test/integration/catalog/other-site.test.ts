/** A hostile other site, on the real catalogs: refused with a reason, and nothing was done. */
import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { createReplicaActivities } from '../../../src/activities/replica-activities.ts';
import { createSourceActivities } from '../../../src/activities/source-activities.ts';
import { createReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import type { Fence } from '../../../src/contract/fence.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import { useTestDatabase } from '../../support/database.ts';
import { answerOf, fenceOf, fresh, newSchedule, planOf, queryOf, registerChain } from './fixtures.ts';

const database = useTestDatabase();
// What these steps do not touch.
const unused = {} as never;

/** How many rows of each kind there are. */
async function rowsOf(...tables: readonly string[]): Promise<Record<string, number>> {
  const counts = tables.map(async table => {
    const [row] = await database().db(table).count();
    return [table, Number(row?.count)] as const;
  });
  return Object.fromEntries(await Promise.all(counts));
}

describe('a replica whose source is hostile', () => {
  let spec: ScheduleSpec;
  let fence: Fence;
  const taskUuid = () => task;
  let task: string;
  let activities: ReturnType<typeof createReplicaActivities>;
  beforeEach(async () => {
    const catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
    spec = await newSchedule(catalog);
    task = randomUUID();
    const files = { doubts: async () => [] } as never;
    activities = createReplicaActivities({
      ...{ site: 'b', node: 'b1', catalog, receiver: unused, files, clock: () => Date.now() },
    });
    const { generation } = await activities.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid: task });
    fence = fenceOf(spec.uuid, generation);
  });

  it('records nothing of an answer that cannot be', async () => {
    const tables = ['host_snapshots', 'disk_snapshots', 'remote_backup_disk_tasks'];
    const before = await rowsOf(...tables);
    const answers = [
      answerOf(randomUUID(), [planOf({ disk: '../../etc' })]),
      answerOf(randomUUID(), [planOf(), planOf({ disk: 'vdb', sourceNode: 'a1.control' })]),
      answerOf(randomUUID(), [planOf({ senderFingerprint: "' or true --" })]),
      answerOf(randomUUID(), [planOf({ virtualSizeBytes: -1 })]),
      answerOf('no uuid'),
    ];
    for (const answer of answers) {
      const recorded = activities.recordSyncInfo({ fence, taskUuid: taskUuid(), answer });
      await expect(recorded).rejects.toMatchObject({ code: 'AnswerInvalid' });
    }
    expect(await rowsOf(...tables)).toEqual(before);
  });

  it('keeps reasons and warnings that can be read, however they came', async () => {
    const answer = answerOf(randomUUID(), [planOf({ reason: `\u0000\u001b[2J${'x'.repeat(5_000)}` })]);
    const { disks } = await activities.recordSyncInfo({
      fence,
      taskUuid: taskUuid(),
      answer: { ...answer, warnings: ['\u0000 \ud800 warned'] },
    });
    const row = await database()
      .db('remote_backup_disk_tasks')
      .where({ uuid: disks[0]?.diskTaskUuid })
      .first();
    expect(row.reason).toMatch(/^\\u0000\\u001b\[2Jx+ … \(cut\)$/);
    const { plan } = await activities.raisePlan({ fence, taskUuid: taskUuid(), reason: 'gone\u0000' });
    const ended = await activities.endTask({
      fence: { ...fence, plan },
      taskUuid: taskUuid(),
      outcome: 'superseded',
      reason: 'a newer\u0000 one',
      seen: { generation: 'many', plan: {} } as never,
    });
    expect(ended).toMatchObject({ reason: 'a newer\\u0000 one', warnings: ['\\u0000 \\ud800 warned'] });
  });
});

describe('a source whose replica is hostile', () => {
  it('locks and releases nothing for a request that cannot be', async () => {
    const host = fresh('host');
    await registerChain(database().db, host, 1);
    const activities = createSourceActivities({
      node: 'a1',
      catalog: createSourceCatalog(database().db, { site: 'a', instance: 1 }),
      images: { prove: async () => [] },
      access: { assertMayHave: () => {}, assertReceiver: async () => {} },
      sender: unused,
      running: unused,
      notices: { warning: () => null },
    });
    const own = queryOf(host, fenceOf(randomUUID(), 1));
    await database()
      .db('nodes')
      .insert({ name: 'a1', fingerprint: 'ab'.repeat(32) })
      .onConflict('name')
      .ignore();
    await activities.querySyncInfo(own);
    const tables = ['host_snapshot_locks', 'snapshot_subscriptions', 'schedule_fences', 'sync_answers'];
    const before = await rowsOf(...tables);
    expect(before.host_snapshot_locks).toBeGreaterThan(0);

    const other = fenceOf(randomUUID(), 1);
    const query = queryOf(host, other);
    const attempts: (() => Promise<unknown>)[] = [
      () => activities.querySyncInfo({ ...query, scheduleName: 'a/../b' }),
      () => activities.querySyncInfo({ ...query, fence: { ...other, generation: 0.5 } }),
      () => activities.querySyncInfo({ ...query, taskUuid: 'task' }),
      () => activities.querySyncInfo({ ...query, lockType: own.lockType }),
      () => activities.releaseOtherLocks({ fence: other, lockType: own.lockType, keepTaskUuids: [] }),
      () => activities.retireSchedule({ scheduleUuid: other.scheduleUuid, lockType: own.lockType }),
      () => activities.stopSender({ fence: other, diskTaskUuid: '%' }),
      () => activities.stopPreviousDiskTasks({} as never),
      () => activities.stopPreviousDiskTasks(null as never),
    ];
    for (const attempt of attempts) await expect(attempt()).rejects.toMatchObject({ code: 'RequestInvalid' });
    expect(await rowsOf(...tables)).toEqual(before);
  });
});
