import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type Database, migrate, openDatabase } from '../../../src/catalog/database.ts';
import { MIGRATIONS } from '../../../src/catalog/migrations/index.ts';
import { createNodeRegistry } from '../../../src/catalog/nodes.ts';
import { grantRuntimeRole } from '../../../src/catalog/runtime-role.ts';
import { createRoles, type TwoRoles } from '../../support/database-roles.ts';
import { FINGERPRINT } from './fixtures.ts';

describe('a role that does not own the tables', () => {
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  let roles: TwoRoles;
  let owner: Database;
  let runtime: Database;

  beforeAll(async () => {
    roles = await createRoles(inject('postgresUrl'), name);
    owner = openDatabase({ url: roles.ownerUrl, poolMax: 2 });
    runtime = openDatabase({ url: roles.runtimeUrl, poolMax: 2 });
  });
  afterAll(async () => {
    await Promise.all([owner.destroy(), runtime.destroy()]);
    const admin = new Client({ connectionString: inject('postgresUrl') });
    await admin.connect();
    await admin.query(`drop database ${name} with (force)`);
    for (const url of [roles.ownerUrl, roles.runtimeUrl])
      await admin.query(`drop role ${new URL(url).username}`);
    await admin.end();
  });

  it('is told what is lacking and who makes it, in an empty database and before each new migration', async () => {
    await expect(migrate(runtime)).rejects.toMatchObject({
      code: 'CatalogOutdated',
      message: expect.stringContaining(MIGRATIONS[0]?.name ?? ''),
      hint: expect.stringContaining('OFFSITE_DATABASE_OWNER_URL'),
    });
    expect(await runtime.schema.hasTable('catalog_migrations')).toBe(false);
    await migrate(owner);
    expect(await grantRuntimeRole(owner, roles.runtimeUrl)).toMatch(/^worker_/);
    const newest = MIGRATIONS.at(-1)?.name ?? '';
    await owner('catalog_migrations').where({ name: newest }).delete();
    await expect(migrate(runtime)).rejects.toMatchObject({
      code: 'CatalogOutdated',
      message: expect.stringContaining(newest),
    });
    await owner('catalog_migrations').insert({ name: newest, batch: 1, migration_time: new Date() });
    expect(await migrate(runtime)).toEqual([]);
  });

  it('works with rows', async () => {
    const nodes = createNodeRegistry(runtime);
    await nodes.register({ node: 'a1', fingerprint: FINGERPRINT });
    expect(await runtime('nodes').pluck('name')).toEqual(['a1']);
  });

  it.each([
    ['makes a table', 'create table mine (id integer)'],
    ['changes one', 'alter table hosts add column mine integer'],
    ['drops one', 'drop table host_snapshot_locks'],
    ['empties one past its triggers', 'truncate host_snapshot_locks cascade'],
    ['switches a trigger off', 'alter table host_snapshots disable trigger all'],
    [
      'replaces a function',
      "create or replace function lock_holding(wanted bigint) returns text language sql as $$ select '' $$",
    ],
    ['forges a migration', "insert into catalog_migrations (name, batch) values ('9999-x', 1)"],
    ['hides one', 'delete from catalog_migrations'],
  ])('is refused when it %s', async (_what, statement) => {
    await expect(runtime.raw(statement)).rejects.toMatchObject({ code: '42501' });
  });

  it('may be given its rights again, and the owner itself needs none', async () => {
    expect(await grantRuntimeRole(owner, roles.runtimeUrl)).toMatch(/^worker_/);
    expect(await grantRuntimeRole(owner, roles.ownerUrl)).toBeNull();
  });

  it('is named when it does not exist', async () => {
    const missing = new URL(roles.runtimeUrl);
    missing.username = 'nobody_of_this_name';
    await expect(grantRuntimeRole(owner, missing.href)).rejects.toMatchObject({
      code: 'CatalogFailed',
      message: expect.stringContaining('nobody_of_this_name'),
    });
  });
});
