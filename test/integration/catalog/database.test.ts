import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import {
  guarded,
  inTransaction,
  migrate,
  openDatabase,
  type Transaction,
} from '../../../src/catalog/database.ts';
import { DatabaseUnreachableError } from '../../../src/catalog/errors.ts';
import { MIGRATIONS } from '../../../src/catalog/migrations/index.ts';
import { watchChannel } from '../../../src/catalog/watched-channel.ts';
import { IDENT, SITE_NAME } from '../../../src/contract/names.ts';
import { createTestDatabase, useTestDatabase } from '../../support/database.ts';
import { startTcpProxy } from '../../support/tcp-proxy.ts';

/** Any commit will do. */
const POINT = 'catalog.commit.registerNode';
const NAMES = MIGRATIONS.map(({ name }) => name);

describe('migrations', () => {
  const database = useTestDatabase({ migrated: false });

  it('run once when two callers migrate at once, and change nothing when run again', async () => {
    const { db, url } = database();
    const other = openDatabase({ url });
    const ran = await Promise.all([migrate(db), migrate(other)]);
    await other.destroy();
    expect(ran.map(names => names.length).sort()).toEqual([0, NAMES.length]);
    expect(await migrate(db)).toEqual([]);
    expect(await db('catalog_migrations').orderBy('id').pluck('name')).toEqual(NAMES);
  });

  it('have names without file extensions', () => {
    for (const name of NAMES) expect(name).toMatch(/^\d{4}-[a-z-]+$/);
  });
});

describe('an empty database', () => {
  it('is left as it was when a migration is cut off', async () => {
    const { db, drop } = await createTestDatabase({ migrated: false });
    // A table that the second migration makes: it fails after the first one ran.
    await db.raw('create table schedule_fences (id integer)');
    await expect(migrate(db)).rejects.toMatchObject({ code: 'CatalogFailed' });
    expect(await db.schema.hasTable('hosts')).toBe(false);
    await db.raw('drop table schedule_fences');
    expect(await migrate(db)).toEqual(NAMES);
    await drop();
  });
});

describe('the database', () => {
  const database = useTestDatabase();

  it('gives int8 as numbers, and refuses those that JavaScript cannot hold', async () => {
    const { db } = database();
    const { rows } = await db.raw('select 9007199254740991::bigint as value');
    expect(rows[0].value).toBe(Number.MAX_SAFE_INTEGER);
    await expect(db.raw('select 9007199254740992::bigint')).rejects.toThrow(/too large/);
  });

  it.each([
    ['site_name', SITE_NAME],
    ['ident', IDENT],
  ])('has the rule of the contract for %s', async (domain, rule) => {
    const { rows } = await database().db.raw(
      `select pg_get_constraintdef(c.oid) as rule from pg_constraint c join pg_type t on t.oid = c.contypid
       where t.typname = ?`,
      [domain],
    );
    expect(rows[0].rule).toContain(`'${rule.source}'`);
  });

  it('that nobody serves is a typed error with a hint, without the password', async () => {
    const db = openDatabase({ url: 'postgres://somebody:geheim@127.0.0.1:9/nothing' });
    const error = await migrate(db).catch(caught => caught);
    await db.destroy();
    expect(error).toBeInstanceOf(DatabaseUnreachableError);
    expect(error.hint).toContain('PostgreSQL');
    expect(error.message).not.toContain('geheim');
  });

  it('that does not exist is a typed error too', async () => {
    const url = new URL(database().url);
    url.pathname = '/no_such_database';
    const db = openDatabase({ url: url.href });
    await expect(migrate(db)).rejects.toMatchObject({ code: 'DatabaseUnreachable' });
    await db.destroy();
  });

  it('turns a connection that is cut within a statement into a typed error', async () => {
    const db = openDatabase({ url: database().url });
    const methods = guarded({ end: () => db.raw('select pg_terminate_backend(pg_backend_pid())') });
    await expect(methods.end()).rejects.toMatchObject({ code: 'DatabaseUnreachable' });
    await db.destroy();
  });

  it('runs a transaction again that PostgreSQL undid because of a deadlock', async () => {
    const { db } = database();
    await db.raw('create table pairs (id integer primary key, value integer)');
    await db.raw('insert into pairs values (1, 0), (2, 0)');
    let runs = 0;
    const raise = (first: number, second: number) =>
      inTransaction(db, POINT, async trx => {
        runs += 1;
        await trx('pairs').where({ id: first }).increment('value', 1);
        await trx.raw('select pg_sleep(0.1)');
        await trx('pairs').where({ id: second }).increment('value', 1);
      });
    await Promise.all([raise(1, 2), raise(2, 1)]);
    expect(await db('pairs').orderBy('id').pluck('value')).toEqual([2, 2]);
    expect(runs).toBeGreaterThan(2);
  });
});

describe('what hangs', () => {
  const database = useTestDatabase();
  const withSetting = (name: string, value: number) => {
    const url = new URL(database().url);
    url.searchParams.set(name, String(value));
    return url.href;
  };
  const lockNode = (trx: Transaction, name: string) => trx('nodes').where({ name }).forUpdate().first();

  it('within a transaction, as a process that is stopped, holds nobody up for ever', async () => {
    const { db, url } = database();
    await db('nodes').insert({ name: 'stopped', fingerprint: 'ab'.repeat(32) });
    const { rows } = await db.raw('show idle_in_transaction_session_timeout');
    expect(rows).toEqual([{ idle_in_transaction_session_timeout: '1min' }]);
    const stopped = openDatabase({ url: withSetting('idle_in_transaction_session_timeout', 300) });
    const [locked, resumed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const late = inTransaction(stopped, POINT, async trx => {
      await lockNode(trx, 'stopped');
      locked.resolve();
      await resumed.promise;
      await trx('nodes').where({ name: 'stopped' }).delete();
    });
    await locked.promise;
    const other = openDatabase({ url });
    await inTransaction(other, POINT, trx => lockNode(trx, 'stopped'));
    resumed.resolve();
    await expect(late).rejects.toMatchObject({ code: 'DatabaseUnreachable' });
    await other.destroy();
    await stopped.destroy();
    expect(await db('nodes').pluck('name')).toEqual(['stopped']);
  });

  it('for a lock says so, before the activity is given up', async () => {
    const { db } = database();
    await db('nodes').insert({ name: 'held', fingerprint: 'ab'.repeat(32) });
    const holder = await db.transaction();
    await lockNode(holder, 'held');
    const waiting = openDatabase({ url: withSetting('lock_timeout', 200) });
    await expect(inTransaction(waiting, POINT, trx => lockNode(trx, 'held'))).rejects.toMatchObject({
      code: 'DatabaseBusy',
    });
    await holder.rollback();
    await inTransaction(waiting, POINT, trx => lockNode(trx, 'held'));
    await waiting.destroy();
  });

  it('on the way to a server that went without a word is given up, and the next connection serves', async () => {
    const proxied = new URL(database().url);
    const proxy = await startTcpProxy({ host: proxied.hostname, port: Number(proxied.port) });
    proxied.host = `${proxy.host}:${proxy.port}`;
    const db = openDatabase({ url: proxied.href, silentMs: 300 });
    const methods = guarded({ one: () => db.raw('select 1') });
    await methods.one();
    proxy.pause();
    await expect(methods.one()).rejects.toMatchObject({ code: 'DatabaseUnreachable' });
    proxy.resume();
    await methods.one();
    await db.destroy();
    await proxy.close();
  });

  it('under a watched channel is noticed, and the watch goes on over another connection', async () => {
    const proxied = new URL(database().url);
    const proxy = await startTcpProxy({ host: proxied.hostname, port: Number(proxied.port) });
    proxied.host = `${proxy.host}:${proxy.port}`;
    let looks = 0;
    const watch = await watchChannel({
      url: proxied.href,
      channel: 'test_channel',
      lookMs: 20,
      onNotify: () => {},
      look: async client => {
        await client.query('select 1');
        looks += 1;
      },
    });
    while (looks === 0) await sleep(10);
    const connections = proxy.connections;
    proxy.pause();
    while (proxy.connections === connections) await sleep(10);
    const before = looks;
    proxy.resume();
    while (looks <= before + 2) await sleep(10);
    await watch.close();
    await proxy.close();
  });
});
