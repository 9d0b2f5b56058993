import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import { createSourceInventory } from '../../../src/catalog/source-inventory.ts';
import { lockTypeOf } from '../../../src/contract/names.ts';
import type { SyncAnswer } from '../../../src/contract/sync.ts';
import { useTestDatabase } from '../../support/database.ts';
import { answerOf, cursorOf, fenceOf, fresh, NOTHING, queryOf, registerChain } from './fixtures.ts';

const database = useTestDatabase();
const openCatalog = () => createSourceCatalog(database().db, { site: 'a', instance: 1 });
const say = (answer: SyncAnswer) => async () => answer;

/** Which snapshots a schedule holds under which tasks. */
async function locksOf(scheduleUuid: string): Promise<Record<string, string>> {
  const locks = await createSourceInventory(database().db).listLocks();
  const own = locks.filter(lock => lock.lockType === lockTypeOf(scheduleUuid));
  return Object.fromEntries(own.map(lock => [lock.taskUuid, lock.snapshot]));
}

const subscriptionOf = (scheduleUuid: string) =>
  database().db('snapshot_subscriptions').where({ schedule_uuid: scheduleUuid }).first();

describe('answerSync', () => {
  it('tells the decision the complete snapshots of the host in order, with parents and files', async () => {
    const host = fresh('host');
    const [first, second] = await registerChain(database().db, host, 2);
    let seen: unknown;
    await openCatalog().answerSync(queryOf(host, fenceOf(randomUUID(), 1)), async ({ view, prevLocked }) => {
      seen = view;
      expect(prevLocked).toBe(false);
      return NOTHING;
    });
    expect(seen).toMatchObject({
      host,
      snapshots: [
        { uuid: first, sequence: 1, kind: 'qcow2', disks: [{ disk: 'vda', parentId: null, node: 'a1' }] },
        { uuid: second, sequence: 2, disks: [{ parentId: expect.any(Number), path: expect.any(String) }] },
      ],
    });
  });

  it('whose files hang is given up in time, holds no rows any more, and leaves connections to the rest', async () => {
    const catalog = createSourceCatalog(database().db, { site: 'a', instance: 1, decideMs: 700 });
    const host = fresh('host');
    const [first = ''] = await registerChain(database().db, host, 1);
    const hanging = Array.from({ length: 12 }, () => queryOf(fresh('host'), fenceOf(randomUUID(), 1)));
    let begun = 0;
    const hang = () => {
      begun += 1;
      return new Promise<never>(() => {});
    };
    const answers = Promise.allSettled([
      catalog.answerSync(queryOf(host, fenceOf(randomUUID(), 1)), hang),
      ...hanging.map(query => catalog.answerSync(query, hang)),
    ]);
    while (begun === 0) await sleep(10);
    await catalog.requestStop(fenceOf(randomUUID(), 1));
    expect(begun).toBeLessThan(hanging.length);
    for (const answer of await answers) {
      expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'ImagesSilent' } });
    }
    const again = queryOf(host, fenceOf(randomUUID(), 1));
    expect(await catalog.answerSync(again, say(answerOf(first)))).toMatchObject(answerOf(first));
  });

  it('gives the same answer again, decided once, also to two callers at once', async () => {
    const host = fresh('host');
    const [first = '', second = ''] = await registerChain(database().db, host, 2);
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    const query = queryOf(host, fenceOf(scheduleUuid, 1));
    let decisions = 0;
    const decide = async () => {
      decisions += 1;
      return answerOf(first);
    };
    const answers = await Promise.all([catalog.answerSync(query, decide), catalog.answerSync(query, decide)]);
    answers.push(await catalog.answerSync(query, say(answerOf(second))));
    expect(decisions).toBe(1);
    for (const answer of answers) expect(answer).toMatchObject(answerOf(first));
    expect(await locksOf(scheduleUuid)).toEqual({ [query.taskUuid]: first });
  });

  it('takes no lock when the decision fails, and can be asked again', async () => {
    const host = fresh('host');
    const [first = ''] = await registerChain(database().db, host, 1);
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    const query = queryOf(host, fenceOf(scheduleUuid, 1));
    const failing = catalog.answerSync(query, async () => {
      throw new RangeError('the image is gone');
    });
    await expect(failing).rejects.toThrow('the image is gone');
    expect(await locksOf(scheduleUuid)).toEqual({});
    expect(await catalog.answerSync(query, say(answerOf(first)))).toMatchObject(answerOf(first));
  });

  it('replaces the lock of an older plan, and frees it when the new answer is none', async () => {
    const host = fresh('host');
    const [first = '', second = ''] = await registerChain(database().db, host, 2);
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    const taskUuid = randomUUID();
    const ask = (plan: number, answer: SyncAnswer) =>
      catalog.answerSync(queryOf(host, fenceOf(scheduleUuid, 1, plan), { taskUuid }), say(answer));
    await ask(1, answerOf(first));
    await ask(2, answerOf(second));
    expect(await locksOf(scheduleUuid)).toEqual({ [taskUuid]: second });
    await expect(ask(1, answerOf(first))).rejects.toMatchObject({ code: 'Superseded' });
    await ask(3, NOTHING);
    expect(await locksOf(scheduleUuid)).toEqual({});
  });

  it('locks exactly prev and current over three tasks', async () => {
    const host = fresh('host');
    const uuids = await registerChain(database().db, host, 3);
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    const lockType = lockTypeOf(scheduleUuid);
    let prev = null;
    let expected: Record<string, string> = {};
    for (const [index, uuid] of uuids.entries()) {
      const fence = fenceOf(scheduleUuid, index + 1);
      const query = queryOf(host, fence, { prev });
      await catalog.answerSync(query, say(answerOf(uuid)));
      const keepTaskUuids = prev === null ? [query.taskUuid] : [prev.taskUuid, query.taskUuid];
      await catalog.releaseOtherLocks({ fence, lockType, keepTaskUuids });
      expected = { ...(prev && { [prev.taskUuid]: prev.hostSnapshot }), [query.taskUuid]: uuid };
      expect(await locksOf(scheduleUuid)).toEqual(expected);
      prev = cursorOf(uuid, query.taskUuid);
    }
    // Up to date: cheap, takes no lock, keeps prev's.
    const fence = fenceOf(scheduleUuid, 4);
    const query = queryOf(host, fence, { prev });
    await catalog.answerSync(query, say(NOTHING));
    await catalog.releaseOtherLocks({
      fence,
      lockType,
      keepTaskUuids: [prev?.taskUuid ?? '', query.taskUuid],
    });
    expect(await locksOf(scheduleUuid)).toEqual({ [prev?.taskUuid ?? '']: prev?.hostSnapshot });
  });

  it('never releases locks of its own or a later generation, nor those of other schedules', async () => {
    const host = fresh('host');
    const [first = ''] = await registerChain(database().db, host, 1);
    const catalog = openCatalog();
    const [mine, other] = [randomUUID(), randomUUID()];
    await catalog.answerSync(queryOf(host, fenceOf(mine, 5)), say(answerOf(first)));
    await catalog.answerSync(queryOf(host, fenceOf(other, 1)), say(answerOf(first)));
    const release = { fence: fenceOf(mine, 5), keepTaskUuids: [] };
    expect(await catalog.releaseOtherLocks({ ...release, lockType: lockTypeOf(mine) })).toBe(0);
    await expect(
      catalog.releaseOtherLocks({ ...release, lockType: lockTypeOf(other) }),
    ).rejects.toMatchObject({ code: 'InvalidInput' });
    expect(Object.keys(await locksOf(mine))).toHaveLength(1);
    expect(Object.keys(await locksOf(other))).toHaveLength(1);
  });

  it('locks prev again when its lock is missing, and says so once', async () => {
    const host = fresh('host');
    const [first = '', second = ''] = await registerChain(database().db, host, 2);
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    const prev = cursorOf(first, randomUUID());
    const query = queryOf(host, fenceOf(scheduleUuid, 2), { prev });
    const answer = await catalog.answerSync(query, say(answerOf(second)));
    expect(answer.warnings).toEqual([`the lock of ${first} was missing; it is locked again`]);
    expect(await locksOf(scheduleUuid)).toEqual({ [prev.taskUuid]: first, [query.taskUuid]: second });

    const told = { ...answerOf(second), warnings: [`the lock of ${first} was missing`] };
    const elsewhere = queryOf(host, fenceOf(randomUUID(), 2), { prev });
    expect((await catalog.answerSync(elsewhere, say(told))).warnings).toHaveLength(1);
    const unknown = queryOf(host, fenceOf(randomUUID(), 2), { prev: cursorOf(randomUUID(), randomUUID()) });
    expect((await catalog.answerSync(unknown, say(answerOf(second)))).warnings).toEqual([]);
  });

  it('subscribes to what is newer than its answer, also for a host that is unknown', async () => {
    const host = fresh('host');
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    let context: unknown;
    await catalog.answerSync(queryOf(host, fenceOf(scheduleUuid, 1)), async given => {
      context = given.view;
      return NOTHING;
    });
    expect(context).toBeNull();
    expect(await subscriptionOf(scheduleUuid)).toMatchObject({
      host,
      answered_sequence: 0,
      replica_site: 'b',
    });
    const [first = '', second = ''] = await registerChain(database().db, host, 2);
    const prev = cursorOf(second, randomUUID());
    const upToDate = await catalog.answerSync(
      queryOf(host, fenceOf(scheduleUuid, 2), { prev }),
      say(NOTHING),
    );
    expect(upToDate.newestSequence).toBe(2);
    expect(await subscriptionOf(scheduleUuid)).toMatchObject({ answered_sequence: 2 });
    // Its target is older than the newest: that one is still to be told of.
    await catalog.answerSync(queryOf(host, fenceOf(scheduleUuid, 3)), say(answerOf(first)));
    expect(await subscriptionOf(scheduleUuid)).toMatchObject({ answered_sequence: 1 });
  });

  it('refuses a target that is not a complete snapshot of the host', async () => {
    const host = fresh('host');
    await registerChain(database().db, host, 1);
    const query = queryOf(host, fenceOf(randomUUID(), 1));
    await expect(openCatalog().answerSync(query, say(answerOf(randomUUID())))).rejects.toMatchObject({
      code: 'InvalidInput',
    });
  });
});

describe('the fence', () => {
  it('refuses a smaller generation or plan, and takes the same again', async () => {
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    await catalog.requestStop(fenceOf(scheduleUuid, 2, 3));
    await catalog.requestStop(fenceOf(scheduleUuid, 2, 3));
    for (const fence of [fenceOf(scheduleUuid, 1, 9), fenceOf(scheduleUuid, 2, 2)]) {
      await expect(catalog.requestStop(fence)).rejects.toMatchObject({ code: 'Superseded' });
      await expect(
        catalog.beginSender({ fence, diskTaskUuid: randomUUID(), node: 'a1' }),
      ).rejects.toMatchObject({ code: 'Superseded' });
    }
    await catalog.requestStop(fenceOf(scheduleUuid, 3, 1));
  });

  it('keeps the highest of many at once', async () => {
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    const results = await Promise.allSettled(
      [3, 1, 4, 1, 5, 2].map(generation => catalog.requestStop(fenceOf(scheduleUuid, generation))),
    );
    expect(results[4]?.status).toBe('fulfilled');
    await expect(catalog.requestStop(fenceOf(scheduleUuid, 4))).rejects.toMatchObject({ code: 'Superseded' });
  });
});

describe('a retired schedule', () => {
  it('keeps nothing, and everything of it is refused from then on', async () => {
    const host = fresh('host');
    const [first = ''] = await registerChain(database().db, host, 1);
    const catalog = openCatalog();
    const scheduleUuid = randomUUID();
    const lockType = lockTypeOf(scheduleUuid);
    const query = queryOf(host, fenceOf(scheduleUuid, 1));
    await catalog.answerSync(query, say(answerOf(first)));
    await expect(catalog.releaseAll({ scheduleUuid, lockType })).rejects.toMatchObject({
      code: 'InvalidInput',
    });
    await catalog.entomb({ scheduleUuid, lockType });
    await catalog.entomb({ scheduleUuid, lockType });
    expect(await catalog.releaseAll({ scheduleUuid, lockType })).toBe(1);
    expect(await catalog.releaseAll({ scheduleUuid, lockType })).toBe(0);
    expect(await locksOf(scheduleUuid)).toEqual({});

    const fence = fenceOf(scheduleUuid, 9);
    const deleted = { code: 'ScheduleDeleted' };
    await expect(catalog.answerSync(query, say(answerOf(first)))).rejects.toMatchObject(deleted);
    await expect(catalog.releaseOtherLocks({ fence, lockType, keepTaskUuids: [] })).rejects.toMatchObject(
      deleted,
    );
    await expect(
      catalog.beginSender({ fence, diskTaskUuid: randomUUID(), node: 'a1' }),
    ).rejects.toMatchObject(deleted);
  });

  it('may be one that never asked anything', async () => {
    const scheduleUuid = randomUUID();
    const lockType = lockTypeOf(scheduleUuid);
    const catalog = openCatalog();
    await catalog.entomb({ scheduleUuid, lockType });
    expect(await catalog.releaseAll({ scheduleUuid, lockType })).toBe(0);
    await expect(catalog.requestStop(fenceOf(scheduleUuid, 1))).rejects.toMatchObject({
      code: 'ScheduleDeleted',
    });
  });
});

describe('findSource', () => {
  it('names the files of target and base, and null when one is gone', async () => {
    const host = fresh('host');
    const [first = '', second = ''] = await registerChain(database().db, host, 2);
    const catalog = openCatalog();
    const ask = { hostSnapshot: second, disk: 'vda', baseSnapshot: first };
    expect(await catalog.findSource(ask)).toEqual({
      topPath: `/images/${host}/vda.1.qcow2`,
      basePath: `/images/${host}/vda.0.qcow2`,
    });
    expect(await catalog.findSource({ ...ask, baseSnapshot: null })).toMatchObject({ basePath: null });
    expect(await catalog.findSource({ ...ask, disk: 'vdb' })).toBeNull();
    await createSourceInventory(database().db).forget(first);
    expect(await catalog.findSource(ask)).toBeNull();
  });
});
