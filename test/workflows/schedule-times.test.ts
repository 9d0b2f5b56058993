import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, Worker } from '@temporalio/worker';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ScheduleSettings } from '../../src/contract/schedule.ts';
import { FakeSites, SETTINGS } from './support/fake-sites.ts';

let sites: FakeSites;
beforeEach(() => {
  sites = new FakeSites();
});
afterEach(() => sites.stop());

const nightly: ScheduleSettings = {
  ...SETTINGS,
  everyMs: null,
  cron: '30 2 * * MON-FRI',
  timeZone: 'Europe/Berlin',
  notBetween: ['08:00-18:00', '22:00-02:00'],
};
const start = (settings: ScheduleSettings, paused = false) =>
  sites.startSchedule({ paused, state: { settings } });

describe('times in the sandbox of the workflows', () => {
  it.each([
    [{ cron: '0 0 31 2 *' }, 'a day that never comes'],
    [{ cron: 'at night' }, 'is not one'],
    [{ timeZone: 'Europe/Bonn' }, 'is not known'],
    [{ notBetween: ['00:00-24:00'] }, 'the whole day'],
  ])('are refused with the reason: %j', async (change, reason) => {
    await sites.start(['replica']);
    await start({ ...nightly, ...change });
    await expect(sites.handle.result()).rejects.toMatchObject({
      cause: { type: 'InvalidInput', message: expect.stringContaining(reason) },
    });
    expect(sites.calls).toEqual([]);
  });

  it('are accepted, planned by the site, and replayed alike', async () => {
    await sites.start(['replica']);
    await start(nightly);
    const { input } = await sites.untilCalled('planNextRun');
    expect(input).toMatchObject({ settings: nightly, afterMs: null });
    await sites.request('pause');
    expect((await sites.status()).nextRunAtMs).toBeGreaterThan(Date.now());

    const logger = new DefaultLogger('ERROR');
    const workflowsPath = fileURLToPath(new URL('../../src/workflows/index.ts', import.meta.url));
    const workflowBundle = await bundleWorkflowCode({ workflowsPath, logger });
    const history = await sites.handle.fetchHistory();
    await Worker.runReplayHistory({ workflowBundle }, history, sites.handle.workflowId);
  });
});
