import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { writeConfig } from '../../../src/config/write-config.ts';
import { type StandInSite, startStandInSite } from './support/stand-in-site.ts';
import { type Ended, runStarter } from './support/starter.ts';

const SITE = `c-${randomUUID().slice(0, 8)}`;
let folder: string;
let config: string;
let site: StandInSite;

beforeAll(async () => {
  const address = inject('temporalAddress');
  folder = await mkdtemp(join(tmpdir(), 'offsite-cli-'));
  config = join(folder, 'b.yaml');
  const database = { url: 'postgres://nobody@127.0.0.1:1/none' };
  await writeConfig(config, { site: SITE, node: 'n1', dataDir: 'data', database, temporal: { address } });
  site = await startStandInSite(address, SITE);
});
afterAll(async () => {
  for (const host of ['web1', 'web4']) site.release(host);
  await site.stop();
  await rm(folder, { recursive: true });
});

const offsite = (...args: string[]): Promise<Ended> => runStarter(args, { OFFSITE_CONFIG: config });
const create = (name: string, ...more: string[]): Promise<Ended> =>
  offsite('schedule', 'create', name, '--source', 'a', '--host', name, '--every', '15m', ...more);

describe('offsite, as a process', () => {
  it('takes a schedule through its life, each command idempotent', async () => {
    const created = await create('web1', '--rpo', '5m', '--bandwidth', '50MiB/s', '--disabled', '--json');
    expect({ ...created, out: JSON.parse(created.out) }).toMatchObject({
      code: 0,
      err: '',
      out: {
        created: true,
        registered: true,
        name: 'web1',
        host: 'web1',
        replicaSite: SITE,
        paused: true,
        everyMs: 900_000,
        rpoMs: 300_000,
        bandwidthBytesPerSecond: 52_428_800,
      },
    });
    const again = await create('web1', '--rpo', '5m', '--bandwidth', '50MiB/s', '--json');
    expect({ code: again.code, created: JSON.parse(again.out).created }).toEqual({ code: 0, created: false });
    expect(await create('web1')).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringMatching(
        /^offsite: schedule 'web1' exists already and differs: --rpo is 5m, not unset.*\n$/,
      ),
    });

    expect(await offsite('schedule', 'run', 'web1')).toMatchObject({
      code: 1,
      err: expect.stringContaining(
        "schedule 'web1' refused to run now: the schedule is paused: resume it first.",
      ),
    });
    expect(await offsite('schedule', 'enable', 'web1')).toMatchObject({ code: 0, err: '' });
    expect(await offsite('schedule', 'run', 'web1')).toMatchObject({
      code: 0,
      out: expect.stringContaining("Asked for a run of schedule 'web1'"),
    });

    const shown = await offsite('schedule', 'show', 'web1', '--json');
    expect(JSON.parse(shown.out)).toMatchObject({
      state: 'running',
      lastTask: { outcome: null, disks: [{ disk: 'vda', method: 'full' }] },
    });
    const watch = ['--json', 'schedule', 'watch', 'web1', '--once'];
    const { code, out } = await runStarter(watch, { OFFSITE_CONFIG: config }, told => {
      if (told.includes('"bytesSent":1024')) site.release('web1');
    });
    const seen = out
      .trim()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(code).toBe(0);
    expect(
      seen.some(({ lastTask }) => lastTask.outcome === null && lastTask.disks[0].bytesSent === 1024),
    ).toBe(true);
    expect(seen.at(-1)).toMatchObject({ state: 'waiting', lastTask: { outcome: 'published' } });

    expect(await offsite('schedule', 'list')).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^web1 +web1 +waiting/m),
    });
    for (const _time of [1, 2]) {
      const deleted = await offsite('schedule', 'delete', 'web1', '--json');
      expect({ ...deleted, out: JSON.parse(deleted.out) }).toEqual({
        code: 0,
        err: '',
        out: { name: 'web1', state: 'deleted', releaseWorkflowId: null },
      });
    }
    expect(await offsite('schedule', 'show', 'web1')).toMatchObject({
      code: 1,
      err: expect.stringMatching(
        /^offsite: there is no schedule 'web1' at site .*--site names another replica site\.\n$/,
      ),
    });
  });

  it('changes settings, says when there was nothing to change, and why they were refused', async () => {
    await create('web3', '--rpo', '5m', '--disabled');
    const update = (...args: string[]) => offsite('schedule', 'update', 'web3', ...args);
    expect(await update('--every', '30m', '--no-rpo', '--bandwidth', '1MiB/s')).toEqual({
      code: 0,
      out: "Changed schedule 'web3': it runs every 30m, at most 1.0 MiB/s.\n",
      err: '',
    });
    expect(await update('--every', '30m', '--no-rpo')).toEqual({
      code: 0,
      out: "Nothing to change: schedule 'web3' runs every 30m, at most 1.0 MiB/s already.\n",
      err: '',
    });
    const cron = await update('--cron', '30 2 * * *', '--tz', 'Europe/Berlin', '--no-bandwidth', '--json');
    expect(JSON.parse(cron.out)).toMatchObject({
      reason: null,
      everyMs: null,
      cron: '30 2 * * *',
      timeZone: 'Europe/Berlin',
      rpoMs: null,
      bandwidthBytesPerSecond: null,
    });
    const continuous = await update('--continuous', '--no-tz', '--json');
    expect(JSON.parse(continuous.out)).toMatchObject({ type: 'continuous', cron: null, timeZone: null });
    await offsite('schedule', 'delete', 'web3');
    expect(await update('--every', '1h')).toMatchObject({
      code: 1,
      err: expect.stringContaining("there is no schedule 'web3'"),
    });
  });

  it('pauses in each way, and says what a pause still waits for', async () => {
    await create('web4');
    await offsite('schedule', 'run', 'web4');
    expect(await offsite('schedule', 'pause', 'web4', '--drain')).toEqual({
      code: 0,
      out: "Paused schedule 'web4' (pausing: pauses when the running task has ended).\n",
      err: '',
    });
    expect(await offsite('schedule', 'pause', 'web4', '--drain')).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^Schedule 'web4': it was paused already \(pausing: /),
    });
    const released = await offsite('schedule', 'pause', 'web4', '--release', '--json');
    expect(JSON.parse(released.out)).toMatchObject({ reason: null, paused: true });
    site.release('web4');
    await offsite('schedule', 'delete', 'web4');
  });

  it('tells a failed start, as an object with --json', async () => {
    const failed = await create('taken', '--json');
    expect(failed).toMatchObject({ code: 1, out: '' });
    expect(JSON.parse(failed.err)).toEqual({
      error: {
        code: 'ScheduleConflict',
        message: expect.stringContaining("replicates host 'taken'"),
        hint: expect.any(String),
      },
    });
  });

  it('says where Temporal should have been', async () => {
    const unreachable = await runStarter(['schedule', 'list'], {
      OFFSITE_CONFIG: config,
      OFFSITE_TEMPORAL_ADDRESS: '127.0.0.1:1',
    });
    expect(unreachable).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringMatching(
        /^offsite: Temporal does not answer at 127\.0\.0\.1:1: .*OFFSITE_TEMPORAL_ADDRESS.*\n$/,
      ),
    });
  });

  it('ends with 2 on bad usage, and with 0 when help was asked for', async () => {
    expect(await offsite('schedule', 'create', 'a/b')).toMatchObject({ code: 2, out: '' });
    expect(await offsite('replica', 'recover', '--help')).toMatchObject({
      code: 0,
      err: '',
      out: expect.stringContaining('Examples:'),
    });
  });
});
