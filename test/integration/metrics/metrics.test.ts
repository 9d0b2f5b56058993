import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { writeConfig } from '../../../src/config/write-config.ts';
import { chooseFreePorts } from '../../../src/dev/ports.ts';
import { sleep } from '../../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  showSchedule,
  until,
  untilPublished,
} from '../../support/e2e-host.ts';
import { startTwoSites, type TwoSites } from '../../support/two-sites.ts';
import { documentedMetrics, type Scrape, sampleValue, scrape } from './scrape.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const MIB = 1024 * 1024;
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-/;
/** What is read is told for 3 s. */
const NEWER_MS = 3_200;

let sites: TwoSites;
const address = { a: '', b: '' };

beforeAll(async () => {
  sites = await startTwoSites({ rule: { hosts: ['web1'] } });
  const ports = await chooseFreePorts(2);
  for (const [index, site] of (['a', 'b'] as const).entries()) {
    address[site] = `127.0.0.1:${ports[index]}`;
    const config = parse(await readFile(sites.configPath[site], 'utf8'));
    const limits = { replica: { quota: '1GiB' }, source: { guard: { freeBelow: '1MiB' } } };
    await writeConfig(sites.configPath[site], {
      ...config,
      metrics: { listen: address[site] },
      ...(config.replica && { replica: { ...config.replica, ...limits.replica } }),
      ...(config.source && { source: { ...config.source, ...limits.source } }),
    });
    await sites.supervisor.restart(`worker-${site}`);
  }
  for (const site of ['a', 'b'] as const) {
    await until(
      `worker ${site} at work`,
      () => health(site).catch(() => null),
      found => found?.status === 200,
    );
  }
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const health = async (site: 'a' | 'b') => {
  const answer = await fetch(`http://${address[site]}/healthz`);
  return { status: answer.status, body: await answer.json() };
};
const both = async (): Promise<{ a: Scrape; b: Scrape }> => ({
  a: await scrape(address.a),
  b: await scrape(address.b),
});

test('a worker serves each documented metric of its role and no other, over a run, a refusal and an outage', async () => {
  const host = await createHostImages(sites, 'web1', { vda: '64M', vdb: '32M' });
  const snapshot = await host.next(disk => [`write -P 3 0 ${disk === 'vda' ? '12M' : '4M'}`]);
  await createSchedule(sites, 'refused', 'web2');
  // So slow that it is still on its way when a busy machine comes to look.
  await createSchedule(sites, 'nightly', 'web1', '--rpo', '5m', '--bandwidth', '128KiB/s');

  await until('both disks being received', both, ({ a, b }) =>
    [
      sampleValue(b, 'offsite_schedule_disks_receiving', { schedule: 'nightly' }) === 2,
      sampleValue(a, 'offsite_senders_running') === 2,
      (sampleValue(b, 'offsite_schedule_behind_seconds', { schedule: 'nightly' }) ?? 0) > 0,
    ].every(Boolean),
  );
  await sites.json('b', 'schedule', 'update', 'nightly', '--no-bandwidth');
  const { lastTask } = await untilPublished(sites, 'nightly', snapshot);
  await sites.json('b', 'schedule', 'pause', 'refused');
  await sleep(NEWER_MS);
  const { a, b } = await both();

  const nightly = { schedule: 'nightly', host: 'web1' };
  expect(sampleValue(b, 'offsite_schedule_newest_point_age_seconds', nightly)).toBeGreaterThan(0);
  expect(sampleValue(b, 'offsite_schedule_behind_seconds', nightly)).toBe(0);
  expect(sampleValue(b, 'offsite_schedule_rpo_seconds', nightly)).toBe(300);
  expect(sampleValue(b, 'offsite_schedule_paused', nightly)).toBe(0);
  expect(sampleValue(b, 'offsite_schedule_paused', { schedule: 'refused', host: 'web2' })).toBe(1);
  expect(sampleValue(b, 'offsite_schedule_last_task_outcome', { ...nightly, outcome: 'published' })).toBe(1);
  expect(sampleValue(b, 'offsite_schedule_last_task_outcome', { ...nightly, outcome: 'paused' })).toBe(0);
  expect(sampleValue(b, 'offsite_schedule_last_task_end_timestamp_seconds', nightly)).toBeGreaterThan(1e9);
  expect(sampleValue(b, 'offsite_schedule_disks_receiving', nightly)).toBe(0);
  expect(sampleValue(b, 'offsite_tasks_total', { ...nightly, outcome: 'published' })).toBe(1);
  expect(sampleValue(b, 'offsite_received_bytes_total', { ...nightly, disk: 'vda' })).toBe(12 * MIB);
  expect(sampleValue(b, 'offsite_received_bytes_total', { ...nightly, disk: 'vdb' })).toBe(4 * MIB);
  expect(sampleValue(b, 'offsite_host_snapshots', { host: 'web1' })).toBe(1);
  expect(sampleValue(a, 'offsite_host_snapshots', { host: 'web1' })).toBe(1);
  expect(sampleValue(a, 'offsite_snapshot_locks', { replica_site: 'b' })).toBe(1);
  expect(sampleValue(a, 'offsite_snapshot_lock_oldest_age_seconds', { replica_site: 'b' })).toBeGreaterThan(
    0,
  );
  expect(sampleValue(a, 'offsite_senders_running')).toBe(0);
  const query = { activity: 'querySyncInfo' };
  const failures =
    sampleValue(a, 'offsite_activity_failures_total', { ...query, code: 'HostNotAllowed' }) ?? 0;
  expect(failures).toBeGreaterThan(1);
  expect(sampleValue(a, 'offsite_activity_retries_total', query)).toBe(failures - 1);
  expect(sampleValue(a, 'offsite_activity_attempts_total', query)).toBe(failures + 1);

  // What files occupy is looked at less often.
  const later = await until(
    'what the replicas occupy',
    both,
    found => (sampleValue(found.b, 'offsite_replica_used_bytes', { host: 'web1' }) ?? 0) > 0,
  );
  expectDocumented([later.a, later.b]);
  for (const site of ['a', 'b'] as const) {
    expect(await health(site)).toEqual({ status: 200, body: { database: true, temporal: true } });
  }
  expectLogged(lastTask?.taskUuid ?? '', failures);

  await withoutCatalog('site_b', async () => {
    await sleep(NEWER_MS);
    const cut = await scrape(address.b);
    expect(sampleValue(cut, 'offsite_catalog_up')).toBe(0);
    expect(sampleValue(cut, 'offsite_temporal_up')).toBe(1);
    expect(cut.samples.filter(({ name }) => name.startsWith('offsite_schedule_'))).toEqual([]);
    expect(await health('b')).toEqual({ status: 503, body: { database: false, temporal: true } });
  });
  await until(
    'the catalog again',
    () => scrape(address.b),
    found =>
      sampleValue(found, 'offsite_catalog_up') === 1 &&
      sampleValue(found, 'offsite_schedule_paused', nightly) === 0,
  );
}, 300_000);

function expectDocumented(scrapes: readonly Scrape[]): void {
  const documented = documentedMetrics(ROOT);
  const types = new Map(scrapes.flatMap(found => [...found.types]));
  const samples = scrapes.flatMap(found => found.samples);
  const own = [...types].filter(([name]) => !name.startsWith('temporal_'));
  expect(own.map(([name]) => name).sort()).toEqual([...documented.keys()].sort());
  for (const [name, { type, labels }] of documented) {
    expect(types.get(name), name).toBe(type);
    const found = samples.filter(sample => sample.name === name);
    expect(found.length, name).toBeGreaterThan(0);
    for (const sample of found) expect(Object.keys(sample.labels).sort(), name).toEqual([...labels].sort());
  }
  for (const name of [
    'temporal_worker_task_slots_available',
    'temporal_activity_schedule_to_start_latency_seconds',
  ]) {
    expect(types.has(name), name).toBe(true);
  }
  const unbounded = samples.filter(({ labels }) => Object.values(labels).some(value => UUID.test(value)));
  expect(unbounded).toEqual([]);
}

interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly activity?: string;
  readonly [key: string]: unknown;
}

const linesOf = (service: string): LogLine[] =>
  sites
    .logOf(service)
    .split('\n')
    .filter(line => line.startsWith('{') && line.endsWith('}'))
    .map(line => JSON.parse(line));

function expectLogged(taskUuid: string, failures: number): void {
  const [sent] = linesOf('worker-a').filter(
    ({ activity, disk }) => activity === 'sendDisk' && disk === 'vda',
  );
  expect(sent).toMatchObject({
    level: 30,
    code: 'ok',
    attempt: 1,
    host: 'web1',
    taskUuid,
    scheduleUuid: expect.stringMatching(UUID),
    diskTaskUuid: expect.stringMatching(UUID),
    durationMs: expect.any(Number),
  });
  const refusals = linesOf('worker-a').filter(line =>
    JSON.stringify(line).includes('may not have host web2'),
  );
  expect(refusals.length).toBe(failures);
  expect(refusals[1]).toMatchObject({
    level: 40,
    activity: 'querySyncInfo',
    attempt: 2,
    code: 'HostNotAllowed',
    hint: expect.any(String),
  });
  const password = new URL(sites.databaseUrl.a).password;
  for (const service of ['worker-a', 'worker-b']) expect(sites.logOf(service)).not.toContain(password);
}

/** The database accepts nobody meanwhile, and nobody is left in it. */
async function withoutCatalog(database: string, work: () => Promise<void>): Promise<void> {
  const url = new URL(sites.databaseUrl.a);
  url.pathname = '/postgres';
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  try {
    await client.query(`alter database ${database} with allow_connections false`);
    await client.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [
      database,
    ]);
    await work();
  } finally {
    await client.query(`alter database ${database} with allow_connections true`);
    await client.end();
  }
}

test('a schedule that is deleted is gone from the next scrape', async () => {
  await sites.json('b', 'schedule', 'delete', 'refused');
  const found = await until(
    'the schedule gone',
    () => scrape(address.b),
    ({ samples }) => !samples.some(({ labels }) => labels.schedule === 'refused'),
  );
  expect(sampleValue(found, 'offsite_schedule_paused', { schedule: 'nightly' })).toBe(0);
  expect((await showSchedule(sites, 'nightly')).state).toBe('waiting');
});
