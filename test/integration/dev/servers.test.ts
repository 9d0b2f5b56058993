import { chmodSync, existsSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import pg from 'pg';
import { expect, inject, onTestFinished, test } from 'vitest';
import { chooseFreePorts } from '../../../src/dev/ports.ts';
import { postgresUrl } from '../../../src/dev/postgres-server.ts';
import { startSupervisor } from '../../../src/dev/supervisor.ts';
import type { ServiceSpec } from '../../../src/dev/supervisor-service.ts';
import { isRunning, temporaryFolder, until, worker } from './support.ts';

/** The first field of the first row. */
async function query(url: string, sql: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  try {
    await client.connect();
    const { rows } = await client.query({ text: sql, rowMode: 'array' });
    return rows[0]?.[0];
  } finally {
    await client.end();
  }
}

async function withTemporal<T>(address: string, action: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address, connectTimeout: '5s' });
  try {
    return await action(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

const succeeds = (action: () => Promise<unknown>) => (): Promise<boolean> =>
  action().then(
    () => true,
    () => false,
  );

test('PostgreSQL and Temporal keep their data over kill -9 and a whole stop, which goes in order', async () => {
  const dataDir = temporaryFolder();
  const [port = 0, grpcPort = 0, httpPort = 0, uiPort = 0] = await chooseFreePorts(4);
  const cliPath = inject('temporalCliPath');
  const databases = ['site_a', 'site_b'];
  const services: ServiceSpec[] = [
    worker('worker-a'),
    { kind: 'temporal', name: 'temporal', cliPath, grpcPort, httpPort, uiPort, persistent: true },
    { kind: 'postgres', name: 'postgres', port, databases },
  ];
  const first = await startSupervisor({ dataDir, services });
  onTestFinished(() => first.stop());
  const url = postgresUrl(dataDir, port, 'site_b');
  const address = `127.0.0.1:${grpcPort}`;
  await query(url, 'create table marks as select 42 as mark');
  const options = { taskQueue: 'nobody', workflowId: 'kept' };
  await withTemporal(address, client => client.workflow.start('anything', options));
  const describe = (): Promise<string> =>
    withTemporal(address, async client => (await client.workflow.getHandle('kept').describe()).status.name);
  expect((await fetch(`http://127.0.0.1:${uiPort}/`)).status).toBe(200);

  const before = first.status();
  process.kill(before.postgres ?? 0, 'SIGKILL');
  process.kill(before.temporal ?? 0, 'SIGKILL');
  await until('both are new processes', () => {
    const now = first.status();
    return now.postgres !== before.postgres && now.temporal !== before.temporal;
  });
  await until(
    'PostgreSQL answers',
    succeeds(() => query(url, 'select 1')),
  );
  await until('Temporal answers', succeeds(describe));
  expect(await query(url, 'select mark from marks')).toBe(42);
  expect(await describe()).toBe('RUNNING');

  const pids = first.status();
  const order: string[] = [];
  const watch = setInterval(() => {
    for (const [name, pid] of Object.entries(pids)) {
      if (!order.includes(name) && !isRunning(pid)) order.push(name);
    }
  }, 1);
  await first.stop();
  clearInterval(watch);
  expect(order).toEqual(['worker-a', 'temporal', 'postgres']);

  const second = await startSupervisor({ dataDir, services });
  onTestFinished(() => second.stop());
  expect(await query(url, 'select mark from marks')).toBe(42);
  expect(await describe()).toBe('RUNNING');
});

test('PostgreSQL listens on loopback only, asks for the password, and survives a stale postmaster.pid', async () => {
  const dataDir = temporaryFolder();
  const [port = 0] = await chooseFreePorts(1);
  const service: ServiceSpec = { kind: 'postgres', name: 'postgres', port, databases: [], fsync: false };
  const first = await startSupervisor({ dataDir, services: [service] });
  onTestFinished(() => first.stop());
  const url = postgresUrl(dataDir, port);
  expect(await query(url, "select setting from pg_settings where name = 'listen_addresses'")).toBe(
    '127.0.0.1',
  );
  expect(await query(url, "select setting from pg_settings where name = 'unix_socket_directories'")).toBe('');
  await expect(query(url.replace(/:[0-9a-f]+@/, ':wrong@'), 'select 1')).rejects.toThrow(/password/);
  expect(statSync(join(dataDir, 'postgres', 'password')).mode & 0o777).toBe(0o600);

  const pidFile = join(dataDir, 'postgres', 'data', 'postmaster.pid');
  const lines = readFileSync(pidFile, 'utf8').split('\n');
  await first.stop();
  // After a power cut the pid in the file may be anybody's: here it is this test's.
  writeFileSync(pidFile, [String(process.pid), ...lines.slice(1)].join('\n'));
  const second = await startSupervisor({ dataDir, services: [service] });
  onTestFinished(() => second.stop());
  expect(await query(url, 'select 1')).toBe(1);
});

test('a port that is taken is reported with what PostgreSQL said', async () => {
  const port = Number(new URL(inject('postgresUrl')).port);
  const services: ServiceSpec[] = [{ kind: 'postgres', name: 'postgres', port, databases: [], fsync: false }];
  await expect(startSupervisor({ dataDir: temporaryFolder(), services })).rejects.toMatchObject({
    code: 'ServiceFailed',
  });
});

test('PostgreSQL works for data below a folder that only its owner may enter', async () => {
  const closed = temporaryFolder();
  chmodSync(closed, 0o700);
  const dataDir = join(closed, 'data');
  const [port = 0] = await chooseFreePorts(1);
  const services: ServiceSpec[] = [{ kind: 'postgres', name: 'postgres', port, databases: [], fsync: false }];
  const supervisor = await startSupervisor({ dataDir, services, removeDataDirAtEnd: true });
  onTestFinished(() => supervisor.stop());
  expect(await query(postgresUrl(dataDir, port), 'select 1')).toBe(1);
  const home = realpathSync(join(dataDir, 'postgres'));
  await supervisor.stop();
  expect([existsSync(dataDir), existsSync(home)]).toEqual([false, false]);
});
