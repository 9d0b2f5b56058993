/** Every request of an operator, sent from the command line into running transfers. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { moreBytes, sleep, withStopped } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type HostImages,
  type ListedLock,
  type ListedPoint,
  showSchedule,
  until,
} from '../support/e2e-host.ts';
import { filesUnder, invariantsOf, openTransfers, rowsOf } from '../support/e2e-look.ts';
import { runCli, startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
const RATE_SPAN_MS = 2_000;

let sites: TwoSites;
let host: HostImages;

beforeAll(async () => {
  sites = await startTwoSites();
  host = await createHostImages(sites, 'web1');
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

interface Task {
  readonly generation: number;
  readonly outcome: string;
  readonly hostSnapshot: string;
  readonly bytesSent: number;
  readonly tookMs: number;
  readonly disks: readonly { readonly disk: string; readonly method: string }[];
}

interface Deleted {
  readonly state: string;
  readonly releaseWorkflowId: string | null;
}

const schedule = <T>(...args: string[]): Promise<T> => sites.json<T>('b', 'schedule', ...args);
const locks = () => sites.json<ListedLock[]>('a', 'source', 'locks');
const points = () => sites.json<ListedPoint[]>('b', 'replica', 'list');

async function searchAttributes(name: string): Promise<Record<string, unknown>> {
  const { typedSearchAttributes } = await sites.client.workflow.getHandle(`schedule/b/${name}`).describe();
  return Object.fromEntries(typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value]));
}

/** Bytes that leave A in a span of time. */
async function bytesInSpan(): Promise<number> {
  const before = sites.proxy.bytes.up;
  await sleep(RATE_SPAN_MS);
  return sites.proxy.bytes.up - before;
}

const writing = (pattern: number, sizeMib: number) => (disk: string) => [
  `write -P ${pattern} 0 ${disk === 'vda' ? sizeMib : sizeMib / 2}M`,
];

test('new rates reach a transfer, drain lets it end, release gives it up, purge leaves nothing', async () => {
  const first = await host.next(writing(1, 64));
  await createSchedule(sites, 'nightly', 'web1', '--bandwidth', '2MiB/s', '--rpo', '1h');
  await moreBytes(sites, MIB);
  const slow = await bytesInSpan();
  expect(await searchAttributes('nightly')).toMatchObject({ OffsiteHost: 'web1', OffsiteState: 'running' });

  expect(await schedule('update', 'nightly', '--bandwidth', '10MiB/s')).toMatchObject({ reason: null });
  await moreBytes(sites, 3 * MIB);
  const fast = await bytesInSpan();
  expect(fast / slow, `${slow} bytes, then ${fast}`).toBeGreaterThan(2.5);
  const again = await sites.cli('b', 'schedule', 'update', 'nightly', '--bandwidth', '10MiB/s');
  expect(again).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^Nothing to change: /) });

  const pausing = await schedule<{ state: string }>('pause', 'nightly', '--drain');
  expect(pausing).toMatchObject({ state: 'pausing', note: 'pauses when the running task has ended' });
  expect(await openTransfers(sites), 'the drain must fall inside the transfer').not.toEqual([]);
  await schedule('update', 'nightly', '--no-bandwidth');
  await until(
    'the drained task published',
    () => showSchedule(sites, 'nightly'),
    ({ state, lastTask }) => state === 'paused' && lastTask?.outcome === 'published',
  );
  expect((await points()).map(({ point }) => point)).toEqual([first]);
  expect(await invariantsOf(sites)).toEqual([]);

  const second = await host.next(writing(2, 64));
  await schedule('update', 'nightly', '--bandwidth', '4MiB/s');
  await schedule('resume', 'nightly');
  await schedule('run', 'nightly');
  await moreBytes(sites, 2 * MIB);
  expect(await openTransfers(sites), 'the release must fall inside the transfer').not.toEqual([]);
  await schedule('pause', 'nightly', '--release');
  await until('everything given up', locks, held => held.length === 1 && held[0]?.snapshot === first);
  await until(
    'nothing more to do',
    () => showSchedule(sites, 'nightly'),
    ({ state, lastTask }) => state === 'paused' && lastTask?.outcome === 'paused',
  );
  expect((await filesUnder(sites.replicaRoot)).filter(name => name.includes('.partial'))).toEqual([]);
  expect(await searchAttributes('nightly')).toMatchObject({ OffsiteState: 'paused' });
  expect(await invariantsOf(sites)).toEqual([]);

  await schedule('update', 'nightly', '--no-bandwidth', '--every', '2h');
  await schedule('resume', 'nightly');
  await schedule('run', 'nightly');
  // The resume runs a task, and the request another one, which may have found nothing before anybody looks.
  await until('the second point', points, listed => listed.some(({ point }) => point === second));
  const history = await schedule<Task[]>('history', 'nightly');
  const told = history.filter(({ outcome }) => outcome !== 'upToDate');
  expect(told.map(({ outcome, hostSnapshot }) => [outcome, hostSnapshot])).toEqual([
    ['published', second],
    ['paused', second],
    ['published', first],
  ]);
  expect(told.map(({ disks }) => disks.map(({ method }) => method))).toEqual([
    ['incremental', 'incremental'],
    ['incremental', 'incremental'],
    ['full', 'full'],
  ]);
  expect(told.at(-1)?.bytesSent).toBeGreaterThanOrEqual(96 * MIB);
  expect(await schedule<Task[]>('history', 'nightly', '--limit', '1')).toHaveLength(1);

  const { uuid } = await showSchedule(sites, 'nightly');
  expect(await schedule<Deleted>('delete', 'nightly', '--purge')).toEqual({
    name: 'nightly',
    state: 'deleted',
    releaseWorkflowId: null,
  });
  expect(await locks()).toEqual([]);
  expect(await points()).toEqual([]);
  expect(await filesUnder(sites.replicaRoot)).toEqual([]);
  expect(await tombstones(uuid)).toHaveLength(1);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);

test('a silent source does not hold up a deletion by force; what it holds is released later, in sight', async () => {
  await createSchedule(sites, 'weekly', 'web1');
  const newest = await until(
    'a recovery point',
    () => showSchedule(sites, 'weekly'),
    ({ lastTask }) => lastTask?.outcome === 'published',
  );
  expect((await sites.cli('b', 'status')).stdout).toMatch(/^web1 +weekly +waiting .* published/m);
  expect((await sites.cli('b', 'status', '--quiet')).exitCode).toBe(0);
  const held = await locks();
  expect(held).toHaveLength(1);

  const releaseId = `release/${newest.uuid}`;
  await withStopped(sites, ['worker-a'], async () => {
    expect(await schedule<Deleted>('delete', 'weekly')).toMatchObject({ state: 'deleting' });
    const stuck = await sites.cli('b', 'status');
    expect(stuck).toMatchObject({ exitCode: 1, stdout: expect.stringContaining('is being deleted: waits') });
    expect(await schedule<Deleted>('delete', 'weekly', '--force')).toMatchObject({
      state: 'deleted',
      releaseWorkflowId: releaseId,
    });
    expect(await locks()).toEqual(held);
    const left = await sites.cli('b', 'status', '--json');
    expect(left.exitCode).toBe(1);
    expect(JSON.parse(left.stdout)).toMatchObject({
      ok: false,
      schedules: [],
      problems: [
        expect.stringMatching(`^weekly: what site a still holds: not released since .*${releaseId}`),
      ],
    });
  });
  await sites.client.workflow.getHandle(releaseId).result();
  expect(await locks()).toEqual([]);
  expect(await tombstones(newest.uuid)).toHaveLength(1);
  expect((await points()).map(({ point }) => point)).toEqual([newest.lastTask?.hostSnapshot]);
  expect(await sites.cli('b', 'status')).toEqual({
    exitCode: 0,
    stdout: "Site 'b' has no schedules.\n",
    stderr: '',
  });
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);

test('the status is told from the catalog while Temporal is out of reach', async () => {
  await createSchedule(sites, 'hourly', 'web1', '--disabled', '--rpo', '1h');
  const config = join(sites.dataDir, 'no-temporal.yaml');
  const yaml = await readFile(sites.configPath.b, 'utf8');
  await writeFile(config, yaml.replace(/address: .*/, 'address: 127.0.0.1:1'), { mode: 0o600 });
  const { exitCode, stdout, stderr } = await runCli(['--config', config, 'status']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: '' });
  expect(stdout).toMatch(
    /^! Temporal does not answer at 127\.0\.0\.1:1: .*; what follows is from the catalog\n/,
  );
  expect(stdout).toMatch(/^web1 +hourly +unreachable +- +- +1h not known/m);
}, 300_000);

const tombstones = (uuid: string) =>
  rowsOf(
    sites,
    'a',
    `select 1 from schedule_fences where schedule_uuid = '${uuid}' and tombstoned_at is not null`,
  );
