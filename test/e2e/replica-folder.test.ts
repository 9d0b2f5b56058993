import { mkdir, rename, rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  createHostImages,
  createSchedule,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { invariantsOf } from '../support/e2e-look.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

test('while the replica folder is not mounted the task waits with the reason, and copies nothing below it', async () => {
  const host = await createHostImages(sites, 'web2', { vda: '32M' });
  const first = await host.next(() => ['write -P 1 0 4M']);
  await createSchedule(sites, 'other', 'web2');
  await untilPublished(sites, 'other', first);
  const second = await host.next(() => ['write -P 2 1M 1M']);

  const away = `${sites.replicaRoot}.away`;
  await rename(sites.replicaRoot, away);
  await mkdir(sites.replicaRoot);
  await sites.json('b', 'schedule', 'run', 'other');
  const waiting = await until(
    'the reason',
    () => showSchedule(sites, 'other'),
    ({ retry }) => retry?.code === 'ReplicaRootMissing',
  );
  expect(waiting.retry?.reason).toContain('not mounted');
  expect((await sites.cli('b', 'replica', 'verify')).stderr).toContain('not mounted');
  await rm(sites.replicaRoot, { recursive: true });
  await rename(away, sites.replicaRoot);

  const { lastTask } = await untilPublished(sites, 'other', second);
  expect(lastTask?.disks.map(({ method }) => method)).toEqual(['incremental']);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);
