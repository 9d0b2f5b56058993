/** A worker process proves that it lives by an advisory lock that PostgreSQL drops with its connection. */
import { effect } from '../lib/fault-points.ts';
import { ADVISORY } from './database.ts';
import { CatalogError, toCatalogError } from './errors.ts';
import { keepConnection } from './kept-connection.ts';

export interface HeldInstance {
  /** The process's number, never given twice by this database. */
  readonly instance: number;
  /** False while the lock is lost: others may take this process for dead, so it should send nothing. */
  alive(): boolean;
  /** Gives the lock up. May be called more than once. */
  release(): Promise<void>;
}

/**
 * Takes a new instance number and holds its lock on a dedicated connection, until released or until the
 * process ends. When PostgreSQL restarts, the same number is taken again.
 * @throws {DatabaseUnreachableError}
 */
export async function holdInstance(url: string): Promise<HeldInstance> {
  let instance: number | null = null;
  let held = false;
  try {
    const connection = await keepConnection(
      url,
      async client => {
        if (instance === null) {
          const next = await client.query<{ value: number }>(
            "select nextval('worker_instances')::integer as value",
          );
          instance = next.rows[0]?.value ?? null;
        }
        const lock = await effect('source.lease.takeInstance', () =>
          client.query<{ taken: boolean }>('select pg_try_advisory_lock($1, $2) as taken', [
            ADVISORY.instances,
            instance,
          ]),
        );
        // The server may not have noticed yet that the connection before is gone.
        if (!lock.rows[0]?.taken) throw new CatalogError(`worker instance ${instance} is still held`);
        held = true;
      },
      () => {
        held = false;
      },
    );
    return {
      instance: instance as unknown as number,
      alive: () => held && connection.client !== null,
      release: async () => {
        held = false;
        await connection.close();
      },
    };
  } catch (error) {
    throw toCatalogError(error);
  }
}
