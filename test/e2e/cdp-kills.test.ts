/** Every process is killed while a journal is followed: no checkpoint that B acknowledged is lost, no record comes twice. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { at, CDP_SIZES, expectRestored, load, publishedAt, untilReached } from '../support/cdp-look.ts';
import { killService } from '../support/e2e-faults.ts';
import { invariantsOf } from '../support/e2e-look.ts';
import { JournaledHost, type KnownState } from '../support/journaled-host.ts';
import { HOURLY, type Operator, openOperator } from '../support/operator.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const RESTORES = 6;

let sites: TwoSites;
let operator: Operator;

beforeAll(async () => {
  sites = await startTwoSites();
  operator = await openOperator(sites);
}, 300_000);

afterAll(async () => {
  await operator?.close();
  await sites?.close();
});

test('kill -9 of each process while a journal is followed', async () => {
  const host = await JournaledHost.create(sites, 'cdp1', CDP_SIZES);
  let isOver = false;
  const writing = async (): Promise<void> => {
    while (!isOver) await load(host, 1);
  };
  try {
    await host.beginEpoch();
    await load(host, 3);
    await operator.create('cdp1', 'cdp1', { ...HOURLY, type: 'continuous', everyMs: null });
    await untilReached(sites, host.epochUuid, 1);
    const written = writing();
    for (const service of ['worker-b', 'worker-a', 'postgres', 'worker-b', 'temporal', 'worker-a']) {
      const before = await publishedAt(sites, host.epochUuid);
      await killService(sites, service);
      const newest = host.states.at(-1) as KnownState;
      // What was published stays so, and what comes after the kill follows it.
      expect(await publishedAt(sites, host.epochUuid)).toBeGreaterThanOrEqual(before);
      await untilReached(sites, host.epochUuid, newest.sequence + 1);
    }
    isOver = true;
    await written;
    const last = await load(host, 1);
    await untilReached(sites, host.epochUuid, last.sequence);
    for (let count = 0; count < RESTORES; count += 1) {
      const state = host.states[Math.floor(Math.random() * host.states.length)] as KnownState;
      await expectRestored(sites, 'cdp1', state, ...at(state));
    }
    await operator.ask('cdp1', 'pause');
    await operator.untilStatus('cdp1', 'paused', ({ state }) => state === 'paused');
    expect(await invariantsOf(sites)).toEqual([]);
  } finally {
    isOver = true;
    await host.close();
  }
}, 600_000);
