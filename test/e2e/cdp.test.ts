/** Continuous data protection from A's journals to a restored host at B, over whole sites. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { at, CDP_SIZES, expectRestored, load, untilReached } from '../support/cdp-look.ts';
import { showSchedule, until } from '../support/e2e-host.ts';
import { invariantsOf, rowsOf } from '../support/e2e-look.ts';
import { JournaledHost, type KnownState } from '../support/journaled-host.ts';
import { HOURLY, type Operator, openOperator } from '../support/operator.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

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

test('a continuous schedule follows a journal, goes over to the next epoch, and every state can be restored', async () => {
  const host = await JournaledHost.create(sites, 'cdp1', CDP_SIZES);
  try {
    await host.write('vda', 0, 64 * 1024, 7);
    await host.beginEpoch();
    const first = await load(host, 5);
    await operator.create('cdp1', 'cdp1', { ...HOURLY, type: 'continuous', everyMs: null });
    const epoch1 = host.epochUuid;
    await untilReached(sites, epoch1, first.sequence);
    // The task runs on: what comes now is followed.
    const second = await load(host, 20);
    await untilReached(sites, epoch1, second.sequence);
    const { runningTask } = await operator.status('cdp1');
    expect(runningTask).not.toBeNull();
    // Told by what B lacks now, and not since when the running task began.
    const shown = await until(
      'a journal that is followed without a lag',
      () => showSchedule(sites, 'cdp1'),
      ({ behindMs }) => behindMs === 0,
    );
    expect(shown.state).toBe('running');
    await expectRestored(sites, 'cdp1', second, '--point', epoch1);
    const middle = host.states[12] as KnownState;
    await expectRestored(sites, 'cdp1', middle, ...at(middle));

    // The end of the epoch ends the window at once; the next one is an increment on its base.
    await host.endEpoch('rolled over');
    await host.beginEpoch();
    const third = await load(host, 5);
    await untilReached(sites, host.epochUuid, third.sequence);
    await expectRestored(sites, 'cdp1', third, ...at(third));
    await expectRestored(sites, 'cdp1', second, ...at(second));
    const methods = await rowsOf<{ methods: string }>(
      sites,
      'b',
      `select string_agg(distinct d.method, ',') as methods from remote_backup_tasks t
       join remote_backup_disk_tasks d on d.task_id = t.id and d.plan = t.plan
       join remote_backup_schedules s on s.uuid = t.schedule_uuid where s.name = 'cdp1'
       group by t.id order by t.generation`,
    );
    expect(methods.map(row => row.methods)).toEqual(['full', 'append', 'incremental', 'append']);
    expect((await operator.ask('cdp1', 'pause')).accepted).toBe(true);
    await operator.untilStatus('cdp1', 'paused', ({ state }) => state === 'paused');
    expect(await invariantsOf(sites)).toEqual([]);
  } finally {
    await host.close();
  }
}, 300_000);

test('an interval schedule takes the base and at once all up to the newest common checkpoint', async () => {
  const host = await JournaledHost.create(sites, 'cdp2', CDP_SIZES);
  try {
    await host.beginEpoch();
    await load(host, 3);
    const marked = await host.checkpoint('before the upgrade');
    const first = await load(host, 2);
    await operator.create('cdp2', 'cdp2');
    await untilReached(sites, host.epochUuid, first.sequence);
    await operator.untilStatus('cdp2', 'at rest', ({ state }) => state === 'waiting');
    await expectRestored(sites, 'cdp2', first, '--point', host.epochUuid);
    await expectRestored(sites, 'cdp2', marked, '--marker', 'before the upgrade');
    const second = await load(host, 4);
    await operator.ask('cdp2', 'runNow');
    await untilReached(sites, host.epochUuid, second.sequence);
    await operator.untilStatus('cdp2', 'at rest', ({ state }) => state === 'waiting');
    await expectRestored(sites, 'cdp2', second, ...at(second));
    expect(await invariantsOf(sites)).toEqual([]);
    expect((await operator.ask('cdp2', 'delete', { purge: true, force: false })).accepted).toBe(true);
    await until(
      'the end of its points',
      () => sites.json<unknown[]>('b', 'replica', 'list', 'cdp2'),
      points => points.length === 0,
    );
  } finally {
    await host.close();
  }
}, 300_000);
