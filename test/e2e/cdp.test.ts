/** Continuous data protection from A's journals to a restored host at B, over whole sites. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../support/e2e-host.ts';
import { invariantsOf, rowsOf } from '../support/e2e-look.ts';
import { JournaledHost, type KnownState } from '../support/journaled-host.ts';
import { HOURLY, type Operator, openOperator } from '../support/operator.ts';
import { qemuImg } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
const SIZES = { vda: 16 * MIB, vdb: 8 * MIB };

let sites: TwoSites;
let operator: Operator;
let scratch: string;

beforeAll(async () => {
  sites = await startTwoSites();
  operator = await openOperator(sites);
  scratch = await mkdtemp(join(tmpdir(), 'offsite-cdp-'));
}, 300_000);

afterAll(async () => {
  await operator?.close();
  await sites?.close();
  if (scratch !== undefined) await rm(scratch, { recursive: true });
});

/** Random writes to both disks, a checkpoint after every few. */
async function load(host: JournaledHost, checkpoints: number): Promise<KnownState> {
  for (let count = 0; count < checkpoints; count += 1) {
    for (let write = 0; write < 5; write += 1) {
      const disk = Math.random() < 0.5 ? 'vda' : 'vdb';
      const length = 512 * (1 + Math.floor(Math.random() * 40));
      const offset = 512 * Math.floor((Math.random() * (SIZES[disk] - length)) / 512);
      await host.write(disk, offset, length, 1 + Math.floor(Math.random() * 250));
    }
    await host.checkpoint();
  }
  return host.states.at(-1) as KnownState;
}

const publishedAt = async (epochUuid: string): Promise<number> => {
  const rows = await rowsOf<{ newest_checkpoint: string }>(
    sites,
    'b',
    `select e.newest_checkpoint from cdp_epochs e join host_snapshots hs on hs.id = e.host_snapshot_id
     where hs.uuid = '${epochUuid}'`,
  );
  return Number(rows[0]?.newest_checkpoint ?? 0);
};

const untilReached = (epochUuid: string, { sequence }: KnownState): Promise<number> =>
  until(
    `checkpoint ${sequence} of ${epochUuid} at B`,
    () => publishedAt(epochUuid),
    found => found >= sequence,
  );

/** Restores a state at B and compares it with what the host held. */
async function expectRestored(host: string, state: KnownState, ...which: string[]): Promise<void> {
  const to = join(scratch, `${host}-${state.sequence}-${which.join('-').replaceAll(/[^a-z0-9]/gi, '')}`);
  await sites.json('b', 'replica', 'recover', host, ...which, '--to', to);
  for (const [disk, sha256] of Object.entries(state.sha256)) {
    const raw = join(to, `${disk}.raw-copy`);
    await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', join(to, `${disk}.qcow2`), raw);
    expect(
      createHash('sha256')
        .update(await readFile(raw))
        .digest('hex'),
      `${disk} ${which}`,
    ).toBe(sha256);
  }
  await rm(to, { recursive: true });
}

const at = ({ atMs }: KnownState): string[] => ['--at', new Date(Math.ceil(atMs)).toISOString()];

test('a continuous schedule follows a journal, goes over to the next epoch, and every state can be restored', async () => {
  const host = await JournaledHost.create(sites, 'cdp1', SIZES);
  try {
    await host.write('vda', 0, 64 * 1024, 7);
    await host.beginEpoch();
    const first = await load(host, 5);
    await operator.create('cdp1', 'cdp1', { ...HOURLY, type: 'continuous', everyMs: null });
    const epoch1 = host.epochUuid;
    await untilReached(epoch1, first);
    // The task runs on: what comes now is followed.
    const second = await load(host, 20);
    await untilReached(epoch1, second);
    const { runningTask } = await operator.status('cdp1');
    expect(runningTask).not.toBeNull();
    await expectRestored('cdp1', second, '--point', epoch1);
    const middle = host.states[12] as KnownState;
    await expectRestored('cdp1', middle, ...at(middle));

    // The end of the epoch ends the window at once; the next one is an increment on its base.
    await host.endEpoch('rolled over');
    await host.beginEpoch();
    const third = await load(host, 5);
    await untilReached(host.epochUuid, third);
    await expectRestored('cdp1', third, ...at(third));
    await expectRestored('cdp1', second, ...at(second));
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
  const host = await JournaledHost.create(sites, 'cdp2', SIZES);
  try {
    await host.beginEpoch();
    await load(host, 3);
    const marked = await host.checkpoint('before the upgrade');
    const first = await load(host, 2);
    await operator.create('cdp2', 'cdp2');
    await untilReached(host.epochUuid, first);
    await operator.untilStatus('cdp2', 'at rest', ({ state }) => state === 'waiting');
    await expectRestored('cdp2', first, '--point', host.epochUuid);
    await expectRestored('cdp2', marked, '--marker', 'before the upgrade');
    const second = await load(host, 4);
    await operator.ask('cdp2', 'runNow');
    await untilReached(host.epochUuid, second);
    await operator.untilStatus('cdp2', 'at rest', ({ state }) => state === 'waiting');
    await expectRestored('cdp2', second, ...at(second));
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
