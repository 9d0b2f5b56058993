import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { holdInstance } from '../../../src/catalog/instance.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import { watchStopRequests } from '../../../src/catalog/stop-requests.ts';
import { lockTypeOf } from '../../../src/contract/names.ts';
import { useTestDatabase } from '../../support/database.ts';
import { fenceOf } from './fixtures.ts';

const database = useTestDatabase();
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function startWorker(senderGraceMs = 2_000) {
  const held = await holdInstance(database().url);
  closers.push(() => held.release());
  const catalog = createSourceCatalog(database().db, { site: 'a', instance: held.instance, senderGraceMs });
  return { held, catalog };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20);
}

/** The connection that holds the instance's lock, null when none does. */
async function holderOf(instance: number): Promise<number | null> {
  const { rows } = await database().db.raw(
    `select pid from pg_locks where locktype = 'advisory' and objid = ? and granted`,
    [instance],
  );
  return rows[0]?.pid ?? null;
}

/** Ends the connection that holds the instance's lock, as a restart of PostgreSQL does. @returns which it was */
async function killHolder(instance: number): Promise<number> {
  const pid = await holderOf(instance);
  if (pid === null) throw new Error(`nobody holds instance ${instance}`);
  const { rows } = await database().db.raw('select pg_terminate_backend(?) as killed', [pid]);
  expect(rows).toEqual([{ killed: true }]);
  return pid;
}

describe('senders', () => {
  it('of older tasks and plans are asked to stop, and are there until they have ended', async () => {
    const { catalog } = await startWorker();
    const scheduleUuid = randomUUID();
    const [older, current] = [randomUUID(), randomUUID()];
    const oldest = { fence: fenceOf(scheduleUuid, 1, 1), diskTaskUuid: older, node: 'a1' };
    const begun = await catalog.beginSender(oldest);
    await catalog.beginSender({ fence: fenceOf(scheduleUuid, 1, 2), diskTaskUuid: current, node: 'a1' });
    await catalog.requestStop(fenceOf(scheduleUuid, 1, 2));
    expect(await catalog.stoppingSenders(scheduleUuid)).toEqual([{ diskTaskUuid: older, node: 'a1' }]);
    await catalog.endSender(older, begun);
    await catalog.endSender(older, begun);
    expect(await catalog.stoppingSenders(scheduleUuid)).toEqual([]);
    await catalog.requestStopOf(fenceOf(scheduleUuid, 1, 2), current);
    expect(await catalog.stoppingSenders(scheduleUuid)).toEqual([{ diskTaskUuid: current, node: 'a1' }]);
  });

  it('start again after they were asked to stop, when a retry has a fence that is still good', async () => {
    const { catalog } = await startWorker();
    const scheduleUuid = randomUUID();
    const sender = { fence: fenceOf(scheduleUuid, 1), diskTaskUuid: randomUUID(), node: 'a1' };
    await catalog.beginSender(sender);
    await catalog.requestStopOf(sender.fence, sender.diskTaskUuid);
    await catalog.beginSender(sender);
    expect(await catalog.stoppingSenders(scheduleUuid)).toEqual([]);
  });

  it('of two processes are told apart: the end of one does not hide the other', async () => {
    const [first, second] = [await startWorker(), await startWorker()];
    expect(first.held.instance).not.toBe(second.held.instance);
    const scheduleUuid = randomUUID();
    const sender = { fence: fenceOf(scheduleUuid, 1), diskTaskUuid: randomUUID(), node: 'a1' };
    const begun = await first.catalog.beginSender(sender);
    await second.catalog.beginSender(sender);
    await first.catalog.endSender(sender.diskTaskUuid, begun);
    await second.catalog.entomb({ scheduleUuid, lockType: lockTypeOf(scheduleUuid) });
    expect(await first.catalog.stoppingSenders(scheduleUuid)).toHaveLength(1);
  });

  it('of two attempts in one process are told apart: the end of the first does not hide the second', async () => {
    const { catalog } = await startWorker();
    const scheduleUuid = randomUUID();
    const sender = { fence: fenceOf(scheduleUuid, 1), diskTaskUuid: randomUUID(), node: 'a1' };
    const first = await catalog.beginSender(sender);
    const second = await catalog.beginSender(sender);
    await catalog.endSender(sender.diskTaskUuid, first);
    await catalog.requestStop(fenceOf(scheduleUuid, 2));
    expect(await catalog.stoppingSenders(scheduleUuid)).toHaveLength(1);
    await catalog.endSender(sender.diskTaskUuid, second);
    expect(await catalog.stoppingSenders(scheduleUuid)).toEqual([]);
  });

  it('whose end could not be noted are not waited for once their process says that it has none', async () => {
    const [one, other] = [await startWorker(), await startWorker()];
    const scheduleUuid = randomUUID();
    const sender = { fence: fenceOf(scheduleUuid, 1), diskTaskUuid: randomUUID(), node: 'a1' };
    await one.catalog.beginSender(sender);
    await one.catalog.endGoneSender(sender.diskTaskUuid);
    await one.catalog.requestStop(fenceOf(scheduleUuid, 2));
    await other.catalog.endGoneSender(sender.diskTaskUuid);
    expect(await one.catalog.stoppingSenders(scheduleUuid)).toHaveLength(1);
    await one.catalog.endGoneSender(sender.diskTaskUuid);
    expect(await one.catalog.stoppingSenders(scheduleUuid)).toEqual([]);
  });

  it('of a process that is gone count as ended', async () => {
    const [dying, living] = [await startWorker(), await startWorker(100)];
    const scheduleUuid = randomUUID();
    const sender = { fence: fenceOf(scheduleUuid, 1), diskTaskUuid: randomUUID(), node: 'a1' };
    await dying.catalog.beginSender(sender);
    await living.catalog.requestStop(fenceOf(scheduleUuid, 2));
    expect(await living.catalog.stoppingSenders(scheduleUuid)).toHaveLength(1);
    await dying.held.release();
    await until(async () => (await living.catalog.stoppingSenders(scheduleUuid)).length === 0);
    const row = await database().db('disk_senders').where({ schedule_uuid: scheduleUuid }).first();
    expect(row.ended_at).toBeInstanceOf(Date);
  });

  it('of a process that lost its connection for a moment do not', async () => {
    const { held, catalog } = await startWorker();
    const scheduleUuid = randomUUID();
    const sender = { fence: fenceOf(scheduleUuid, 1), diskTaskUuid: randomUUID(), node: 'a1' };
    await catalog.beginSender(sender);
    await catalog.requestStop(fenceOf(scheduleUuid, 2));
    const killed = await killHolder(held.instance);
    expect(await catalog.stoppingSenders(scheduleUuid)).toHaveLength(1);
    await until(async () => ![killed, null].includes(await holderOf(held.instance)));
    expect(await catalog.stoppingSenders(scheduleUuid)).toHaveLength(1);
    const row = await database().db('disk_senders').where({ schedule_uuid: scheduleUuid }).first();
    expect(row.lost_since).toBeNull();
  });
});

describe('an instance', () => {
  it('is held again under the same number after its connection was killed', async () => {
    const { held } = await startWorker();
    for (let kill = 1; kill <= 3; kill += 1) {
      const killed = await killHolder(held.instance);
      await until(async () => ![killed, null].includes(await holderOf(held.instance)) && held.alive());
    }
    await killHolder(held.instance);
    await held.release();
    expect(held.alive()).toBe(false);
    await until(async () => (await holderOf(held.instance)) === null);
  });
});

describe('watchStopRequests', () => {
  async function watch() {
    const stopped: string[] = [];
    const watcher = await watchStopRequests(database().url, uuid => stopped.push(uuid));
    closers.push(() => watcher.close());
    return stopped;
  }

  it('tells of a request when it is made', async () => {
    const { catalog } = await startWorker();
    const stopped = await watch();
    const scheduleUuid = randomUUID();
    const sender = { fence: fenceOf(scheduleUuid, 1), diskTaskUuid: randomUUID(), node: 'a1' };
    await catalog.beginSender(sender);
    await catalog.requestStop(fenceOf(scheduleUuid, 2));
    await until(() => stopped.includes(sender.diskTaskUuid));
  });

  it('finds requests that were made while it was not connected', async () => {
    const { catalog } = await startWorker();
    const scheduleUuid = randomUUID();
    const sender = { fence: fenceOf(scheduleUuid, 1), diskTaskUuid: randomUUID(), node: 'a1' };
    await catalog.beginSender(sender);
    await catalog.requestStop(fenceOf(scheduleUuid, 2));
    const stopped = await watch();
    await database().db.raw(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and query like 'listen %'`,
    );
    await until(() => stopped.includes(sender.diskTaskUuid));
  });
});
