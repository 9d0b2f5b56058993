/** Opens the catalog's database and brings its schema up to date. */
import type { Socket } from 'node:net';
import knex, { type Knex } from 'knex';
import pg from 'pg';
import { afterEffect, beforeEffect, type FaultPoint } from '../lib/fault-points.ts';
import { CatalogError, CatalogOutdatedError, isForbidden, isTransient, toCatalogError } from './errors.ts';
import { MIGRATIONS } from './migrations/index.ts';

/** A pool of connections to one catalog. End it with `destroy()`. */
export type Database = Knex;
export type Transaction = Knex.Transaction;

export interface DatabaseOptions {
  /** `postgres://user:password@host:port/database` */
  readonly url: string;
  /** The most connections that are open at once; 10 by default. */
  readonly poolMax?: number;
  /** A connection on which nothing was heard for so long is given up; 2 minutes by default. */
  readonly silentMs?: number;
}

const CONNECT_TIMEOUT_MS = 5_000;
const ACQUIRE_TIMEOUT_MS = 15_000;
/** The first question whether the other end is still there, on a connection that rests. */
const KEEP_ALIVE_MS = 10_000;
/** Below the 30 s of an activity over rows: it says then who is waited for, instead of hanging. */
const LOCK_TIMEOUT_MS = 20_000;
/** A process that is stopped, or whose host died, within a transaction: PostgreSQL undoes it and others go on. */
const IDLE_IN_TRANSACTION_MS = 60_000;
/** Above both, and above the slowest statement. A server that went without a word is noticed after this. */
const SILENT_MS = 120_000;
export const MIGRATIONS_TABLE = 'catalog_migrations';
/** Classes of PostgreSQL's advisory locks (two 32-bit numbers): the first says what is locked. */
export const ADVISORY = {
  migrations: 0x0ff5_1701,
  instances: 0x0ff5_1702,
  replicaFolders: 0x0ff5_1703,
  restoredHosts: 0x0ff5_1705,
  restoredFolders: 0x0ff5_1706,
} as const;
const INT8_OID = 20;

/** Numbers that JavaScript cannot hold exactly are an error, never rounded. */
function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new CatalogError(`the number ${text} is too large`);
  return value;
}

type ParserLookup = typeof pg.types.getTypeParser;

const getTypeParser = ((oid: number, format?: 'text' | 'binary') =>
  oid === INT8_OID && format !== 'binary'
    ? parseInt8
    : pg.types.getTypeParser(oid, format as 'text')) as ParserLookup;

/** What every connection of the catalog has in common, pooled or dedicated. */
export function connectionConfig(url: string): pg.ClientConfig {
  return {
    connectionString: url,
    application_name: 'offsite',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    lock_timeout: LOCK_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    types: { getTypeParser },
  };
}

/**
 * Gives a connection up on which nothing was heard for so long: TCP alone takes a quarter of an hour to notice that
 * the server's host is gone while an answer is due. Zero ends the watch.
 */
export function endWhenSilent(client: pg.Client, silentMs: number): void {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection;
  stream.setTimeout(silentMs, () => stream.destroy(new Error('connection terminated: PostgreSQL is silent')));
}

const ignore = (): void => {};
/** Knex would print to standard output, which belongs to the commands; every error is thrown as well. */
const SILENT = { warn: ignore, error: ignore, deprecate: ignore, debug: ignore } satisfies Knex.Logger;

/** Opens a pool; connects at the first statement. int8 comes as checked safe integers, timestamptz as Date. */
export function openDatabase({ url, poolMax = 10, silentMs = SILENT_MS }: DatabaseOptions): Database {
  return knex({
    client: 'pg',
    connection: connectionConfig(url) as Knex.PgConnectionConfig,
    pool: {
      min: 0,
      max: poolMax,
      afterCreate(client: pg.Client, done: (error: Error | null, client: pg.Client) => void) {
        endWhenSilent(client, silentMs);
        done(null, client);
      },
    },
    acquireConnectionTimeout: ACQUIRE_TIMEOUT_MS,
    log: SILENT,
  });
}

/**
 * Runs all migrations that this database lacks, in one transaction under an advisory lock: two callers at once
 * wait for each other, and a caller that dies leaves nothing behind. Where nothing is lacking nothing is written,
 * so that a role without rights over the tables' shape may call it.
 * @returns the names of those that ran now
 * @throws {DatabaseUnreachableError} @throws {CatalogOutdatedError} when something is lacking that this role may not make
 */
export async function migrate(db: Database): Promise<readonly string[]> {
  const lacking = await lackingMigrations(db);
  if (lacking.length === 0) return [];
  try {
    return await committing(db, 'catalog.commit.migrate', async trx => {
      await trx.raw('select pg_advisory_xact_lock(?, 0)', [ADVISORY.migrations]);
      const [, ran]: [number, string[]] = await trx.migrate.latest({
        tableName: MIGRATIONS_TABLE,
        migrationSource: {
          getMigrations: async () => [...MIGRATIONS],
          getMigrationName: ({ name }) => name,
          getMigration: async ({ sql }) => ({
            up: async inner => {
              await inner.raw(sql);
            },
            down: async () => {
              throw new CatalogError('migrations go forward only');
            },
          }),
        } satisfies Knex.MigrationSource<(typeof MIGRATIONS)[number]>,
      });
      return ran;
    });
  } catch (error) {
    if (isForbidden(error)) throw new CatalogOutdatedError(lacking, { cause: error });
    throw toCatalogError(error);
  }
}

async function lackingMigrations(db: Database): Promise<string[]> {
  try {
    const { rows } = await db.raw('select to_regclass(?) is not null as present', [MIGRATIONS_TABLE]);
    const ran = rows[0]?.present ? await db(MIGRATIONS_TABLE).pluck<string[]>('name') : [];
    return MIGRATIONS.map(({ name }) => name).filter(name => !ran.includes(name));
  } catch (error) {
    throw toCatalogError(error);
  }
}

const TRANSACTION_ATTEMPTS = 5;

/** Reads in one transaction, so that all that is read belongs together. */
export function inReadTransaction<T>(db: Database, work: (trx: Transaction) => Promise<T>): Promise<T> {
  return db.transaction(work, { readOnly: true });
}

/** Runs `work` and commits it, between the fault points of the commit. */
async function committing<T>(
  db: Database,
  point: FaultPoint,
  work: (trx: Transaction) => Promise<T>,
): Promise<T> {
  const result = await db.transaction(async trx => {
    const worked = await work(trx);
    await beforeEffect(point);
    return worked;
  });
  await afterEffect(point);
  return result;
}

/**
 * Runs `work` in one transaction; again when PostgreSQL undid it because of another one at the same time.
 * @param point names the commit
 */
export async function inTransaction<T>(
  db: Database,
  point: FaultPoint,
  work: (trx: Transaction) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await committing(db, point, work);
    } catch (error) {
      if (!isTransient(error) || attempt === TRANSACTION_ATTEMPTS) throw toCatalogError(error);
    }
  }
}

type Methods = Record<string, (...args: never[]) => Promise<unknown>>;

/** Gives the same methods with every driver error turned into a typed one. */
export function guarded<T extends object>(methods: T): T {
  const wrapped = Object.entries(methods as unknown as Methods).map(([name, method]) => [
    name,
    async (...args: never[]) => {
      try {
        return await method(...args);
      } catch (error) {
        throw toCatalogError(error);
      }
    },
  ]);
  return Object.fromEntries(wrapped) as T;
}
