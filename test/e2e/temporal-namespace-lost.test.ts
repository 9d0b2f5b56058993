/** Temporal comes back empty and without the namespace, which was made by `offsite setup` and not by the server. */
import { Client } from '@temporalio/client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  createHostImages,
  createSchedule,
  type HostImages,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { invariantsOf } from '../support/e2e-look.ts';
import { loseTemporal } from '../support/sites.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const NAMESPACE = 'offsite-prod';

interface Setup {
  readonly steps: readonly { readonly step: string; readonly result: string }[];
}

let started: TwoSites;
/** The same, with a client of the namespace. */
let sites: TwoSites;
beforeAll(async () => {
  started = await startTwoSites({
    prepare: async ({ databaseUrl, temporalAddress: address }) => ({
      databaseUrl,
      temporal: { address, namespace: NAMESPACE },
      environment: {},
    }),
  });
  const { connection } = started.client;
  sites = { ...started, client: new Client({ connection, namespace: NAMESPACE }) };
}, 300_000);
afterAll(async () => {
  await started?.close();
});

const namespaceResult = async (site: 'a' | 'b'): Promise<string | undefined> =>
  (await sites.json<Setup>(site, 'setup')).steps.find(({ step }) => step.includes(NAMESPACE))?.result;

/** Workers say so, and so does whoever asks. */
async function assertMissing(): Promise<void> {
  for (const service of ['worker-a', 'worker-b']) {
    const from = sites.logOf(service).length;
    await until(
      `${service} waiting for the namespace`,
      async () => sites.logOf(service).slice(from),
      text => text.includes(`the worker waits: Temporal at`) && text.includes('TemporalNamespaceMissing'),
    );
  }
  const refused = await sites.cli('b', 'schedule', 'list', '--json');
  expect(refused.exitCode).toBe(1);
  expect(JSON.parse(refused.stderr)).toMatchObject({
    error: { code: 'TemporalNamespaceMissing', hint: expect.stringContaining('offsite setup') },
  });
}

test('a namespace that is not there is named; setup makes it, and everything goes on from the rows of B', async () => {
  await assertMissing();
  expect(await namespaceResult('b')).toBe('made');
  expect(await namespaceResult('a')).toBe('present');
  const host: HostImages = await createHostImages(sites, 'web1', { vda: '64M' });
  const first = await host.next(() => ['write -P 1 0 2M']);
  await createSchedule(sites, 'nightly', 'web1');
  await untilPublished(sites, 'nightly', first);
  const { uuid } = await showSchedule(sites, 'nightly');

  await loseTemporal(started);
  await assertMissing();
  const status = await sites.cli('b', 'status', '--json');
  expect(status.exitCode).toBe(1);
  const seen = JSON.parse(status.stdout);
  expect(seen.problems.join(' ')).toContain(`no namespace '${NAMESPACE}'`);
  expect(seen.schedules).toMatchObject([{ name: 'nightly', host: 'web1' }]);

  expect(await namespaceResult('a')).toBe('made');
  const second = await host.next(() => ['write -P 2 1M 2M']);
  await until(
    'the schedule again',
    async () => JSON.parse((await sites.cli('b', 'schedule', 'show', 'nightly', '--json')).stdout || 'null'),
    found => found?.uuid === uuid && found.state === 'waiting',
  );
  await sites.json('b', 'schedule', 'run', 'nightly');
  const { lastTask } = await untilPublished(sites, 'nightly', second);
  expect(lastTask?.disks.map(({ method }) => method)).toEqual(['incremental']);
  expect(await invariantsOf(sites)).toEqual([]);
}, 400_000);
