import { afterAll, beforeAll, expect, test } from 'vitest';
import { killService, moreBytes, sleep, withStopped } from '../support/e2e-faults.ts';
import { createHostImages, createSchedule, untilPublished } from '../support/e2e-host.ts';
import { durableBytes, invariantsOf, openTransfers } from '../support/e2e-look.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
const DATA_BYTES = (96 + 64) * MIB;
const STOPPED_MS = 5_000;
/** What may still pass the proxy after both ends were stopped. */
const DRAINED_MS = 500;

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

async function inTransfer(sizeBytes: number): Promise<void> {
  await moreBytes(sites, sizeBytes);
  expect(await openTransfers(sites), 'the fault must fall inside the transfer').not.toEqual([]);
  expect(await durableBytes(sites)).toBeLessThan(DATA_BYTES);
}

test('a run completes over killed servers and workers that stand still for a while', async () => {
  const host = await createHostImages(sites, 'web1');
  const snapshot = await host.next(disk => [`write -P 3 0 ${disk === 'vda' ? '96M' : '64M'}`]);
  await createSchedule(sites, 'nightly', 'web1', '--bandwidth', '6MiB/s');

  await inTransfer(8 * MIB);
  await killService(sites, 'temporal');
  await inTransfer(16 * MIB);
  await killService(sites, 'postgres');
  await inTransfer(16 * MIB);
  await withStopped(sites, ['worker-a', 'worker-b'], async () => {
    await sleep(DRAINED_MS);
    const { up } = sites.proxy.bytes;
    await sleep(STOPPED_MS - DRAINED_MS);
    expect(sites.proxy.bytes.up, 'both workers stand still').toBe(up);
  });
  await inTransfer(8 * MIB);

  await untilPublished(sites, 'nightly', snapshot);
  expect(sites.proxy.bytes.up).toBeLessThanOrEqual(DATA_BYTES * 1.02);
  expect(await invariantsOf(sites)).toEqual([]);

  // The next run is as any other.
  const next = await host.next(() => ['write -P 4 1M 1M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await untilPublished(sites, 'nightly', next);
  expect(await invariantsOf(sites)).toEqual([]);
}, 240_000);
