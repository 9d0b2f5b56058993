/** What an operator asks for in the middle of a transfer, over whole sites. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { QUERIES, type ScheduleStatus } from '../../src/contract/schedule.ts';
import { lineIsQuiet, moreBytes, sleep, withStopped } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type ListedLock,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { filesUnder, invariantsOf, openTransfers } from '../support/e2e-look.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;

let sites: TwoSites;
beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);
afterAll(async () => {
  await sites?.close();
});

const handle = () => sites.client.workflow.getHandle('schedule/b/nightly');
const status = () => handle().query<ScheduleStatus>(QUERIES.status);
const locked = async () =>
  (await sites.json<ListedLock[]>('a', 'source', 'locks')).map(({ snapshot }) => snapshot);

/** Sends a request and waits for its answer. */
async function ask(signal: string, extra: object = {}): Promise<void> {
  const requestId = randomUUID();
  await handle().signal(signal, { requestId, ...extra });
  const answered = await until(
    `the answer to ${signal}`,
    async () => (await status()).requests.find(request => request.requestId === requestId) ?? null,
    found => found !== null,
  );
  expect(answered).toMatchObject({ accepted: true });
}

const untilStatus = (what: string, ready: (found: ScheduleStatus) => boolean) => until(what, status, ready);

async function expectNoMoreBytes(): Promise<void> {
  await sleep(2_000);
  const upBytes = sites.proxy.bytes.up;
  await sleep(2_000);
  expect(sites.proxy.bytes.up, 'no byte flows 2 s after the pause').toBe(upBytes);
}

test('release, new rates, drain and delete by force, also with a source that was stopped', async () => {
  const host = await createHostImages(sites, 'web1');
  const first = await host.next(disk => [`write -P 1 0 ${disk === 'vda' ? '40M' : '24M'}`]);
  await createSchedule(sites, 'nightly', 'web1', '--bandwidth', '4MiB/s');
  await moreBytes(sites, 4 * MIB);
  expect(await locked()).toEqual([first]);

  // A hears nothing: B alone stops the bytes, says so, and drops what was begun.
  await withStopped(sites, ['worker-a'], async () => {
    expect(await openTransfers(sites)).not.toEqual([]);
    await ask('pause', { mode: 'release' });
    await untilStatus('the pause', ({ state }) => state === 'paused');
    await expectNoMoreBytes();
    await untilStatus('what it waits for', ({ note }) => note?.startsWith('waits until site a') ?? false);
    const files = () => filesUnder(sites.replicaRoot);
    await until('what was begun is dropped', files, found => found.length === 0);
  });
  await untilStatus('the release', ({ note, runningTask }) => note === null && runningTask === null);
  expect(await locked()).toEqual([]);
  expect(await invariantsOf(sites)).toEqual([]);

  // At this rate the copy would take minutes; the new one holds for the senders that run.
  await ask('updateSettings', { settings: { bandwidthBytesPerSecond: 512 * 1024 } });
  await ask('resume');
  await moreBytes(sites, MIB);
  const { generation } = (await openTransfers(sites))[0]?.epoch ?? {};
  await ask('pause', { mode: 'drain' });
  await ask('updateSettings', { settings: { bandwidthBytesPerSecond: null } });
  await untilPublished(sites, 'nightly', first);
  expect((await status()).lastTask?.generation).toBe(generation);
  await untilStatus('the pause after it', ({ state }) => state === 'paused');
  expect(await locked()).toEqual([first]);
  expect(await invariantsOf(sites)).toEqual([]);

  await ask('updateSettings', { settings: { bandwidthBytesPerSecond: 4 * MIB } });
  await host.next(disk => [`write -P 2 50M ${disk === 'vda' ? '40M' : '24M'}`]);
  await ask('resume');
  await ask('runNow');
  await moreBytes(sites, 4 * MIB);
  const { uuid } = await showSchedule(sites, 'nightly');
  const release = sites.client.workflow.getHandle(`release/${uuid}`);
  await withStopped(sites, ['worker-a'], async () => {
    await ask('delete', { purge: true, force: true });
    await handle().result();
    await expectNoMoreBytes();
    expect(await filesUnder(sites.replicaRoot)).toEqual([]);
    expect((await release.describe()).status.name).toBe('RUNNING');
  });
  await release.result();
  await lineIsQuiet(sites);
  expect(await locked()).toEqual([]);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);
