/** A fresh, migrated database for each test file, on the run's PostgreSQL. */
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { afterAll, beforeAll, inject } from 'vitest';
import { type Database, migrate, openDatabase } from '../../src/catalog/database.ts';

export interface TestDatabase {
  readonly url: string;
  readonly db: Database;
  /** Closes the pool and drops the database, whoever is still connected. */
  drop(): Promise<void>;
}

/** Makes a database of its own name. @param options.migrated false leaves it empty */
export async function createTestDatabase(options: { migrated?: boolean } = {}): Promise<TestDatabase> {
  const adminUrl = inject('postgresUrl');
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  await asAdmin(adminUrl, `create database ${name}`);
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  const db = openDatabase({ url: url.href });
  if (options.migrated ?? true) await migrate(db);
  return {
    url: url.href,
    db,
    async drop() {
      await db.destroy();
      await asAdmin(adminUrl, `drop database ${name} with (force)`);
    },
  };
}

/** Registers the hooks of a test file that has one database. @returns what gives it, within hooks and tests */
export function useTestDatabase(options: { migrated?: boolean } = {}): () => TestDatabase {
  let database: TestDatabase | undefined;
  beforeAll(async () => {
    database = await createTestDatabase(options);
  });
  afterAll(() => database?.drop());
  return () => {
    if (database === undefined) throw new Error('the database is there only within hooks and tests');
    return database;
  };
}

async function asAdmin(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
