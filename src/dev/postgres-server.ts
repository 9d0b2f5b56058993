/** The embedded PostgreSQL: made, started, seen to be ready; reached by a password that only its owner reads. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'pg';
import { type PostgresPlace, PostgresUnavailableError, preparePostgresPlace } from './postgres-place.ts';
import type { Launch, PostgresService } from './supervisor-service.ts';

const SUPERUSER = 'postgres';
const PASSWORD_FILE = 'password';

/**
 * The address of a database of the embedded PostgreSQL whose data lies in DIR/postgres, with its password.
 * @throws if the cluster was not made yet
 */
export function postgresUrl(dataDir: string, port: number, database = SUPERUSER): string {
  const password = readFileSync(join(dataDir, 'postgres', PASSWORD_FILE), 'utf8').trim();
  return `postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/${database}`;
}

/** Makes the cluster if there is none yet, and tells a supervisor how to run it. */
export function postgresLaunch(dataDir: string, service: PostgresService): Launch {
  const place = preparePostgresPlace(dataDir);
  const clusterDir = join(place.homeDir, 'data');
  initialise(place, clusterDir, service.fsync ?? true);
  const url = (): string => postgresUrl(dataDir, service.port);
  return {
    name: service.name,
    command: join(place.binDir, 'postgres'),
    args: serverArguments(clusterDir, service),
    cwd: '/',
    env: environment(),
    ...place.account,
    // "Fast" shutdown: open transactions are rolled back, nobody is waited for.
    stopSignal: 'SIGINT',
    stopTimeoutMs: 15_000,
    beforeStart: () => removeStalePidFile(clusterDir),
    isReady: () => answers(url()),
    afterReady: () => createMissingDatabases(url(), service.databases),
  };
}

function serverArguments(clusterDir: string, service: PostgresService): string[] {
  const settings = {
    listen_addresses: '127.0.0.1',
    port: service.port,
    unix_socket_directories: '',
    max_connections: 200,
    timezone: 'UTC',
    ...(service.fsync === false ? { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' } : {}),
  };
  return [
    '-D',
    clusterDir,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ];
}

/** Variables such as PGDATA or PGPORT of the caller must not reach the server. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'));
  return { ...Object.fromEntries(kept), LC_ALL: 'C' };
}

/** A cluster that was cut off half made never gets its final name. */
function initialise(place: PostgresPlace, clusterDir: string, fsync: boolean): void {
  if (existsSync(join(clusterDir, 'PG_VERSION'))) return;
  const newDir = `${clusterDir}.new`;
  const passwordFile = join(place.homeDir, PASSWORD_FILE);
  rmSync(newDir, { recursive: true, force: true });
  writeFileSync(passwordFile, `${randomBytes(24).toString('hex')}\n`, { mode: 0o600 });
  if (place.account !== null) chownSync(passwordFile, place.account.uid, place.account.gid);
  const args = [
    ...['-D', newDir, '--username', SUPERUSER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
    ...['--encoding', 'UTF8', '--locale', 'C', '--no-instructions'],
    ...(fsync ? [] : ['--no-sync']),
  ];
  try {
    execFileSync(join(place.binDir, 'initdb'), args, {
      ...place.account,
      cwd: '/',
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    const stderr = (error as { stderr?: Buffer }).stderr?.toString().trim().split('\n').at(-1);
    throw new PostgresUnavailableError(
      `initdb failed: ${stderr || (error as Error).message}`,
      'Mend the cause, or use a PostgreSQL of your own.',
      { cause: error },
    );
  }
  renameSync(newDir, clusterDir);
}

/**
 * After a kill -9 or a power cut the pid in postmaster.pid may belong to a stranger by now, and PostgreSQL
 * would refuse to start. It is removed only if that process is not this cluster's server.
 */
function removeStalePidFile(clusterDir: string): void {
  const path = join(clusterDir, 'postmaster.pid');
  if (!existsSync(path)) return;
  const pid = Number(readFileSync(path, 'utf8').split('\n')[0]);
  try {
    if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(clusterDir)) return;
  } catch {
    // No such process.
  }
  if (existsSync('/proc/self/cmdline')) rmSync(path, { force: true });
}

async function withClient<T>(url: string, action: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  // A server that goes away while we are connected must not end this process.
  client.on('error', () => {});
  try {
    await client.connect();
    return await action(client);
  } finally {
    await client.end().catch(() => {});
  }
}

async function answers(url: string): Promise<boolean> {
  try {
    await withClient(url, client => client.query('select 1'));
    return true;
  } catch {
    return false;
  }
}

async function createMissingDatabases(url: string, databases: readonly string[]): Promise<void> {
  await withClient(url, async client => {
    const { rows } = await client.query<{ datname: string }>('select datname from pg_database');
    const existing = new Set(rows.map(row => row.datname));
    for (const name of databases) {
      if (!existing.has(name)) await client.query(`create database ${client.escapeIdentifier(name)}`);
    }
  });
}
