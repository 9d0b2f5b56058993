import { afterAll, beforeAll, test } from 'vitest';
import { runWithKills } from '../support/kill-run.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

test('a run goes on from what B holds after each of three kills of B inside the transfer', async () => {
  await runWithKills(sites, 'worker-b');
}, 300_000);
