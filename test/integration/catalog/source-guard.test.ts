/** The source's guard over a real catalog and a file system that really runs low. */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { holdInstance } from '../../../src/catalog/instance.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import { createSourceGuardRows } from '../../../src/catalog/source-guard.ts';
import { createSourceInventory } from '../../../src/catalog/source-inventory.ts';
import { lockTypeOf } from '../../../src/contract/names.ts';
import type { Log } from '../../../src/lib/log.ts';
import { type GuardLimits, startSourceGuard } from '../../../src/sites/source-guard.ts';
import { useTestDatabase } from '../../support/database.ts';
import { answerOf, cursorOf, fenceOf, fresh, NOTHING, queryOf, registerChain } from './fixtures.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const HOUR_MS = 60 * 60_000;
const database = useTestDatabase();
let instance: Awaited<ReturnType<typeof holdInstance>>;
let catalog: ReturnType<typeof createSourceCatalog>;
const guardRows = () => createSourceGuardRows(database().db);
const low = { folder: '/images', freeBytes: 5 * MIB };

beforeAll(async () => {
  instance = await holdInstance(database().url);
  catalog = createSourceCatalog(database().db, { site: 'a', instance: instance.instance });
});
afterAll(() => instance?.release());
beforeEach(() => database().db('host_snapshot_locks').delete());

/** A schedule that locks the first of two snapshots, and asked so long ago. */
async function lockingSchedule(silentMs: number) {
  const host = fresh('host');
  const [first = '', second = ''] = await registerChain(database().db, host, 2);
  const scheduleUuid = randomUUID();
  const query = queryOf(host, fenceOf(scheduleUuid, 1));
  await catalog.answerSync(query, async () => answerOf(first));
  const ago = database().db.raw(`now() - ? * interval '1 millisecond'`, [silentMs]);
  await database().db('sync_answers').where({ schedule_uuid: scheduleUuid }).update({ answered_at: ago });
  await database()
    .db('host_snapshot_locks')
    .where({ lock_type: lockTypeOf(scheduleUuid) })
    .update({ locked_at: ago });
  return { host, first, second, scheduleUuid, query };
}

const locksOf = async (scheduleUuid: string): Promise<number> =>
  (
    await database()
      .db('host_snapshot_locks')
      .where({ lock_type: lockTypeOf(scheduleUuid) })
  ).length;

describe('releasing because space is low', () => {
  it('takes the schedule that was silent longest, and no other', async () => {
    const recent = await lockingSchedule(HOUR_MS);
    const silent = await lockingSchedule(30 * HOUR_MS);
    const longer = await lockingSchedule(50 * HOUR_MS);
    expect((await guardRows().lockingSchedules()).map(row => row.scheduleUuid)).toEqual([
      longer.scheduleUuid,
      silent.scheduleUuid,
      recent.scheduleUuid,
    ]);
    expect(await guardRows().releaseIdlest({ idleMs: 24 * HOUR_MS, low })).toEqual({
      scheduleUuid: longer.scheduleUuid,
      replicaSite: 'b',
      snapshots: [longer.first],
    });
    expect(await guardRows().releaseIdlest({ idleMs: 24 * HOUR_MS, low })).toMatchObject({
      scheduleUuid: silent.scheduleUuid,
    });
    expect(await guardRows().releaseIdlest({ idleMs: 24 * HOUR_MS, low })).toBeNull();
    expect(await locksOf(recent.scheduleUuid)).toBe(1);
    // What was released can be taken out of the catalog now.
    await createSourceInventory(database().db).forget(longer.first);
  });

  it('never takes one for which a living worker sends', async () => {
    const { scheduleUuid, query } = await lockingSchedule(50 * HOUR_MS);
    const diskTaskUuid = randomUUID();
    const begun = await catalog.beginSender({ fence: query.fence, diskTaskUuid, node: 'a1' });
    expect(await guardRows().releaseIdlest({ idleMs: HOUR_MS, low })).toBeNull();
    expect(await locksOf(scheduleUuid)).toBe(1);
    await catalog.endSender(diskTaskUuid, begun);
    expect(await guardRows().releaseIdlest({ idleMs: HOUR_MS, low })).toMatchObject({ scheduleUuid });
  });

  it('waits for a schedule that is just asking, and leaves it alone then', async () => {
    const { host, second, scheduleUuid } = await lockingSchedule(50 * HOUR_MS);
    const asked = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const asking = catalog.answerSync(queryOf(host, fenceOf(scheduleUuid, 2)), async () => {
      asked.resolve();
      await goOn.promise;
      return answerOf(second);
    });
    await asked.promise;
    const releasing = guardRows().releaseIdlest({ idleMs: HOUR_MS, low });
    goOn.resolve();
    await asking;
    expect(await releasing).toBeNull();
    expect(await locksOf(scheduleUuid)).toBeGreaterThan(0);
  });

  it('is told to the schedule when it asks again, once; a base that is still there is locked again', async () => {
    const { host, first, second, scheduleUuid, query } = await lockingSchedule(50 * HOUR_MS);
    await guardRows().releaseIdlest({ idleMs: HOUR_MS, low });
    const prev = cursorOf(first, query.taskUuid);
    const again = queryOf(host, fenceOf(scheduleUuid, 2), { prev });
    const answer = await catalog.answerSync(again, async () => answerOf(second));
    expect(answer.warnings).toContainEqual(
      expect.stringMatching(
        new RegExp(`^the source's guard released ${first} at .*: /images had only 5.0 MiB free$`),
      ),
    );
    expect(await locksOf(scheduleUuid)).toBe(2);
    // The same question has the same answer; the next task is not told again.
    expect(await catalog.answerSync(again, async () => NOTHING)).toEqual(answer);
    const next = queryOf(host, fenceOf(scheduleUuid, 3), { prev });
    expect((await catalog.answerSync(next, async () => answerOf(second))).warnings).toEqual([]);
  });

  it('forgets the answer that the lock belonged to, so that its question locks anew', async () => {
    const { first, scheduleUuid, query } = await lockingSchedule(50 * HOUR_MS);
    await guardRows().releaseIdlest({ idleMs: HOUR_MS, low });
    await catalog.answerSync(query, async () => answerOf(first));
    expect(await locksOf(scheduleUuid)).toBe(1);
  });
});

describe('the guard of a source', () => {
  let mount: string;
  beforeAll(async () => {
    mount = await mkdtemp(join(tmpdir(), 'offsite-small-'));
    await run('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', mount]);
  });
  afterAll(async () => {
    await run('umount', [mount]);
    await rm(mount, { recursive: true });
  });

  async function guarding(
    limits: GuardLimits | null,
    work: (events: string[], guard: Awaited<ReturnType<typeof startSourceGuard>>) => Promise<void>,
  ) {
    const events: string[] = [];
    const note = (fields: object) => void events.push((fields as { event: string }).event);
    const log: Log = { debug: note, info: note, warn: note, error: note };
    const guard = await startSourceGuard({
      ...{ site: 'a', imageRoots: [mount], limits, log, lookMs: 20, releaseEveryMs: 0 },
      releaseIdlest: input => guardRows().releaseIdlest(input),
    });
    try {
      await work(events, guard);
    } finally {
      await guard.close();
      await rm(join(mount, 'ballast'), { force: true });
    }
  }

  const until = async (isSo: () => boolean | Promise<boolean>): Promise<void> => {
    while (!(await isSo())) await new Promise(resolve => setTimeout(resolve, 20));
  };

  it('warns while space is low and releases nothing unless it was told to', async () => {
    const { scheduleUuid } = await lockingSchedule(1_000 * HOUR_MS);
    await guarding({ freeBelow: { percent: 50 }, releaseIdleAfterMs: null }, async (events, guard) => {
      expect(guard.warning()).toBeNull();
      await writeFile(join(mount, 'ballast'), Buffer.alloc(12 * MIB));
      await until(() => guard.warning() !== null);
      const told = `site a is low on space (${mount} has 4.0 MiB of 16.0 MiB free, below 8.0 MiB), and what schedules lock cannot be deleted there`;
      await until(() => guard.warning() === told);
      expect(guard.folders()).toMatchObject([{ folder: mount, isLow: true, freeBelowBytes: 8 * MIB }]);
      await rm(join(mount, 'ballast'));
      await until(() => guard.warning() === null);
      expect(events).toEqual(['space-low', 'space-enough']);
    });
    expect(await locksOf(scheduleUuid)).toBe(1);
  });

  it('lets go of silent schedules where it was told to, and only while space is low', async () => {
    const silent = await lockingSchedule(50 * HOUR_MS);
    const recent = await lockingSchedule(0);
    const limits = { freeBelow: { bytes: 8 * MIB }, releaseIdleAfterMs: 24 * HOUR_MS };
    await guarding(limits, async (events, guard) => {
      await new Promise(resolve => setTimeout(resolve, 200));
      expect(await locksOf(silent.scheduleUuid)).toBe(1);
      await writeFile(join(mount, 'ballast'), Buffer.alloc(12 * MIB));
      await until(async () => (await locksOf(silent.scheduleUuid)) === 0);
      await until(() => events.includes('guard-released'));
      await rm(join(mount, 'ballast'));
      await until(() => guard.warning() === null);
    });
    expect(await locksOf(recent.scheduleUuid)).toBe(1);
  });
});
