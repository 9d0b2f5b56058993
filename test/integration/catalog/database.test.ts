import { describe, expect, it } from 'vitest';
import { guarded, inTransaction, migrate, openDatabase } from '../../../src/catalog/database.ts';
import { DatabaseUnreachableError } from '../../../src/catalog/errors.ts';
import { MIGRATIONS } from '../../../src/catalog/migrations/index.ts';
import { IDENT, SITE_NAME } from '../../../src/contract/names.ts';
import { createTestDatabase, useTestDatabase } from '../../support/database.ts';

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
      inTransaction(db, async trx => {
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
