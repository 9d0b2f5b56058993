/** Whole sites over bad lines: the data line, and those of A's worker to Temporal and to its catalog. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { awaiting, moreBytes, sleep } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { invariantsOf, openTransfers } from '../support/e2e-look.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
const DATA_BYTES = 96 * MIB;
/** Back-off from 0.2 to 5 s, less a quarter: what an outage of this long may cost in attempts. */
const OUTAGE_MS = 20_000;
const MOST_ATTEMPTS = 12;
/** What is under way without an acknowledgement when a line is cut at this rate. */
const CUT_COSTS_BYTES = 12 * MIB;

let sites: TwoSites;
let temporal: TcpProxy;
let catalog: TcpProxy;

beforeAll(async () => {
  sites = await startTwoSites({
    prepare: async ({ databaseUrl, temporalAddress }) => {
      const [host = '', port] = temporalAddress.split(':');
      temporal = await startTcpProxy({ host, port: Number(port) });
      const url = new URL(databaseUrl.a);
      catalog = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
      url.hostname = catalog.host;
      url.port = String(catalog.port);
      return {
        databaseUrl: { a: url.href, b: databaseUrl.b },
        temporal: { address: `${temporal.host}:${temporal.port}` },
        environment: {},
      };
    },
  });
}, 300_000);
afterAll(async () => {
  await sites?.close();
  await temporal?.close();
  await catalog?.close();
});

test('a run goes on through an outage of the data line, of Temporal and of the catalog, and sends nothing twice', async () => {
  const host = await createHostImages(sites, 'web1', { vda: '256M' });
  const snapshot = await host.next(() => ['write -P 5 0 96M']);
  await createSchedule(sites, 'nightly', 'web1', '--bandwidth', '6MiB/s');
  await moreBytes(sites, 8 * MIB);
  const [before] = await openTransfers(sites);

  // The data line is away: the reason shows while it lasts, and attempts are few.
  sites.proxy.refuse(true);
  sites.proxy.cutNow();
  const { refusals } = sites.proxy;
  await until(
    'the reason',
    async () => JSON.stringify(await showSchedule(sites, 'nightly')),
    shown => shown.includes('waits for the receiver at'),
  );
  await sleep(OUTAGE_MS);
  expect(sites.proxy.refusals - refusals).toBeGreaterThan(2);
  expect(sites.proxy.refusals - refusals).toBeLessThanOrEqual(MOST_ATTEMPTS * 3);
  sites.proxy.refuse(false);
  await moreBytes(sites, 8 * MIB);

  // Temporal is out of reach for the workers, then resets them all; bytes flow on meanwhile.
  temporal.pause();
  await moreBytes(sites, 12 * MIB);
  temporal.resume();
  temporal.cutNow();
  // A's catalog hangs, and then breaks off every connection.
  catalog.pause();
  await sleep(3_000);
  catalog.resume();
  catalog.cutNow();
  expect(temporal.cuts + catalog.cuts).toBeGreaterThan(1);
  await awaiting('the workers to come back', () => temporal.connections > 2);

  const { lastTask } = await untilPublished(sites, 'nightly', snapshot);
  expect(lastTask?.taskUuid, 'the same task').toBe(before?.taskUuid);
  expect(sites.proxy.bytes.up).toBeLessThanOrEqual((DATA_BYTES + 2 * CUT_COSTS_BYTES) * 1.02);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);
