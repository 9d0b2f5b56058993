import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDatabase } from '../../src/catalog/database.ts';
import { createSourceGuardRows } from '../../src/catalog/source-guard.ts';
import { awaiting, killInTransfer, killService } from '../support/e2e-faults.ts';
import { createSchedule, type ListedPoint, type ScheduleShow, untilPublished } from '../support/e2e-host.ts';
import { invariantsOf, rowsOf } from '../support/e2e-look.ts';
import { fileSha256, qemuIdentical, qemuImg, qemuIo } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
const CLUSTER = 64 * 1024;
/** Handshakes, frames, keep-alives, a map; a hash of 32 bytes and its share of a frame for each cluster. */
const LINE_BYTES = 64 * 1024;
const hashBytes = (diskBytes: number): number => (diskBytes / CLUSTER) * 48;

let sites: TwoSites;
let planPath: string;

beforeAll(async () => {
  const folder = process.env.TMPDIR ?? '/tmp';
  planPath = join(folder, `offsite-compare-${process.pid}.json`);
  await arm([]);
  process.env.OFFSITE_FAULTS = planPath;
  process.env.OFFSITE_FAULTS_ARMED = 'test';
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
  await Promise.all([planPath, `${planPath}.fired`].map(path => rm(path, { force: true })));
});

/** Replaces the plan of faults of both workers. */
async function arm(faults: readonly object[]): Promise<void> {
  await writeFile(`${planPath}.next`, JSON.stringify({ faults }));
  await rename(`${planPath}.next`, planPath);
}

const image = (name: string): string => join(sites.imageDir, name);

/** Makes an image over another, or alone, and writes to it by qemu-io. */
async function makeImage(name: string, below: string | null, commands: readonly string[]): Promise<string> {
  const path = image(name);
  await (below === null
    ? qemuImg('create', '-q', '-f', 'qcow2', path, '64M')
    : qemuImg('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', path));
  await qemuIo(path, commands);
  return path;
}

async function importDisk(host: string, path: string): Promise<string> {
  const { snapshot } = await sites.json<{ snapshot: string }>(
    'a',
    'source',
    'import',
    host,
    '--disk',
    `vda=${path}`,
  );
  return snapshot;
}

/** Runs the schedule until the snapshot is published. @returns the task, and the bytes that it put on the line */
async function runUntil(name: string, snapshot: string) {
  const before = { ...sites.proxy.bytes };
  await sites.json('b', 'schedule', 'run', name);
  const { lastTask } = await untilPublished(sites, name, snapshot);
  const { up, down } = sites.proxy.bytes;
  return {
    task: lastTask as NonNullable<ScheduleShow['lastTask']>,
    up: up - before.up,
    down: down - before.down,
  };
}

/** The published point is what the image at A is, and all of section 9 holds. */
async function assertSound(host: string, snapshot: string, path: string): Promise<string> {
  const points = await sites.json<ListedPoint[]>('b', 'replica', 'list', host);
  const replica = points.find(({ point }) => point === snapshot)?.disks[0]?.path ?? '';
  expect(await qemuIdentical(path, replica)).toBe(true);
  expect(await invariantsOf(sites)).toEqual([]);
  return replica;
}

const backingOf = async (path: string): Promise<string | undefined> =>
  JSON.parse(await qemuImg('info', '--output=json', '-U', '-f', 'qcow2', path))['backing-filename'];

/** A host with one published snapshot of 24 MiB of data. */
async function publishedHost(host: string, name: string): Promise<{ path: string; snapshot: string }> {
  const path = await makeImage(`${host}-1.qcow2`, null, [
    'write -P 1 0 12M',
    'write -P 2 20M 8M',
    'write -P 3 60M 4M',
  ]);
  const snapshot = await importDisk(host, path);
  await createSchedule(sites, name, host);
  await untilPublished(sites, name, snapshot);
  return { path, snapshot };
}

/** As the guard does it in A's worker, without waiting until a file system runs low. */
async function guardReleases(): Promise<void> {
  const db = openDatabase({ url: sites.databaseUrl.a, poolMax: 1 });
  try {
    const released = await createSourceGuardRows(db).releaseIdlest({
      idleMs: 0,
      low: { folder: sites.imageDir, freeBytes: 5 * MIB },
    });
    expect(released?.snapshots).toHaveLength(1);
  } finally {
    await db.destroy();
  }
}

test("what the source's guard released is compared when its schedule speaks again, and says why", async () => {
  const { path, snapshot: first } = await publishedHost('silent', 'silent');
  await sites.json('b', 'schedule', 'pause', 'silent');
  await guardReleases();
  // Nothing holds it any more, so an operator could make room.
  await sites.json('a', 'source', 'forget', first);
  const next = image('silent-2.qcow2');
  await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', path, next);
  await rm(path);
  await qemuIo(next, ['write -P 9 40M 1M']);
  const snapshot = await importDisk('silent', next);
  await sites.json('b', 'schedule', 'resume', 'silent');
  const { task, up } = await runUntil('silent', snapshot);
  expect(task.disks).toMatchObject([{ disk: 'vda', method: 'compare', bytesSent: MIB }]);
  expect(task.warnings).toContainEqual(expect.stringContaining(`the source's guard released ${first}`));
  expect(up).toBeLessThan(MIB * 1.02 + LINE_BYTES);
  await assertSound('silent', snapshot, next);
  await sites.json('b', 'schedule', 'delete', 'silent');
}, 240_000);

describe('a replica that is no base any more', () => {
  let first: { path: string; snapshot: string };
  let replica: string;

  test('of a lost base only differing clusters travel, into an overlay over what was proven', async () => {
    first = await publishedHost('web1', 'nightly');
    replica = await assertSound('web1', first.snapshot, first.path);
    const second = await makeImage('web1-2.qcow2', first.path, [
      'write -P 4 1M 1M',
      'write -z 22M 1M',
      'write -P 1 4M 1M',
    ]);
    // Somebody took the first snapshot, and its lock, out of A's catalog.
    await rowsOf(sites, 'a', 'delete from host_snapshot_locks');
    await sites.json('a', 'source', 'forget', first.snapshot);
    const snapshot = await importDisk('web1', second);
    const { task, up, down } = await runUntil('nightly', snapshot);
    expect(task.disks).toMatchObject([{ disk: 'vda', method: 'compare', bytesSent: MIB }]);
    expect(task.disks[0]?.reason).toMatch(/unknown at the source.*compared with the replica of .*proven/);
    expect(task.warnings).toContainEqual(expect.stringMatching(/^unexpected compare of disk vda: .*unknown/));
    expect(up).toBeLessThan(MIB * 1.02 + LINE_BYTES);
    expect(down).toBeLessThan(hashBytes(64 * MIB) + LINE_BYTES);
    const made = await assertSound('web1', snapshot, second);
    expect(await backingOf(made)).toBe(replica.slice(replica.lastIndexOf('/') + 1));
    first = { path: second, snapshot };
    replica = made;
  }, 240_000);

  test('a reverted host and an unrelated chain are compared with the newest replica', async () => {
    const reverted = await makeImage('web1-3.qcow2', image('web1-1.qcow2'), ['write -P 5 30M 2M']);
    const snapshot = await importDisk('web1', reverted);
    const back = await runUntil('nightly', snapshot);
    expect(back.task.disks[0]).toMatchObject({ method: 'compare' });
    expect(back.task.disks[0]?.reason).toContain('not on the chain of');
    // What the second had written, as the first has it, and what is new.
    expect(back.task.disks[0]?.bytesSent).toBe((2 + 1 + 1) * MIB);
    await assertSound('web1', snapshot, reverted);

    const alone = image('web1-4.qcow2');
    await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', reverted, alone);
    await qemuIo(alone, ['write -P 6 33M 64k']);
    const other = await importDisk('web1', alone);
    const unrelated = await runUntil('nightly', other);
    expect(unrelated.task.disks[0]).toMatchObject({ method: 'compare', bytesSent: CLUSTER });
    expect(unrelated.up).toBeLessThan(2 * CLUSTER + LINE_BYTES);
    await assertSound('web1', other, alone);

    const next = await importDisk('web1', await makeImage('web1-5.qcow2', alone, ['write -P 7 0 64k']));
    const increment = await runUntil('nightly', next);
    expect(increment.task.disks[0]).toMatchObject({ method: 'incremental', bytesSent: CLUSTER });
    expect(increment.task.warnings).toEqual([]);
  }, 240_000);
});

describe('an image that was brought by truck', () => {
  for (const format of ['raw', 'qcow2'] as const) {
    test(`of ${format} spares what it has, stays as it is, and is no longer needed after`, async () => {
      const host = `seeded-${format}`;
      const seeds = join(sites.dataDir, 'site-b', 'seeds');
      await mkdir(seeds, { recursive: true });
      const old = await makeImage(`${host}-1.qcow2`, null, ['write -P 1 0 12M', 'write -P 2 20M 8M']);
      const seed = join(seeds, `${host}.${format}`);
      await qemuImg('convert', '-f', 'qcow2', '-O', format, old, seed);
      const sha = await fileSha256(seed);
      await sites.json('b', 'replica', 'seed', host, '--disk', `vda=${seed}`);

      const path = await makeImage(`${host}-2.qcow2`, old, ['write -P 9 2M 2M', 'write -z 21M 1M']);
      const snapshot = await importDisk(host, path);
      const before = { ...sites.proxy.bytes };
      await createSchedule(sites, host, host);
      const { lastTask } = await untilPublished(sites, host, snapshot);
      expect(lastTask?.disks[0]).toMatchObject({ method: 'compare', bytesSent: 2 * MIB });
      expect(lastTask?.warnings).toEqual([]);
      expect(sites.proxy.bytes.up - before.up).toBeLessThan(2 * MIB * 1.02 + LINE_BYTES);
      expect(sites.proxy.bytes.down - before.down).toBeLessThan(hashBytes(64 * MIB) + LINE_BYTES);
      expect(await backingOf(await assertSound(host, snapshot, path))).toBeUndefined();
      expect(await fileSha256(seed)).toBe(sha);
      const [listed] = await sites.json<{ usedByPoint: string }[]>('b', 'replica', 'seeds', host);
      expect(listed?.usedByPoint).toBe(snapshot);

      await rm(seed);
      const next = await importDisk(host, await makeImage(`${host}-3.qcow2`, path, ['write -P 7 0 64k']));
      const { task } = await runUntil(host, next);
      expect(task.disks[0]).toMatchObject({ method: 'incremental', bytesSent: CLUSTER });
    }, 240_000);
  }

  test('that cannot be read any more is passed over, with the reason, and everything is sent', async () => {
    const seed = join(sites.dataDir, 'site-b', 'seeds', 'gone.raw');
    await qemuImg('create', '-q', '-f', 'raw', seed, '1M');
    await sites.json('b', 'replica', 'seed', 'lost', '--disk', `vda=${seed}`);
    await rm(seed);
    const path = await makeImage('lost-1.qcow2', null, ['write -P 1 0 2M']);
    const snapshot = await importDisk('lost', path);
    await createSchedule(sites, 'lost', 'lost');
    const { lastTask } = await untilPublished(sites, 'lost', snapshot);
    expect(lastTask?.disks[0]).toMatchObject({ method: 'compare', bytesSent: 2 * MIB });
    expect(lastTask?.warnings).toEqual([
      expect.stringMatching(/^unexpected full of disk vda: everything is sent/),
    ]);
    await assertSound('lost', snapshot, path);
  }, 240_000);
});

describe('a comparison whose workers are killed', () => {
  const open = () => rowsOf(sites, 'b', "select 1 from receiver_sessions where state = 'open'");

  test('in the middle of hashing, either of them, begins anew and ends', async () => {
    const { path } = await publishedHost('killed1', 'killed1');
    const alone = image('killed1-2.qcow2');
    await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', path, alone);
    await qemuIo(alone, ['write -P 8 40M 2M']);
    const holdFile = `${planPath}.hold`;
    await writeFile(holdFile, '');
    await arm([
      { id: 'b-dies', site: 'b', point: 'transfer.send.hashes', when: 'before', kind: 'crash', hit: 5 },
      {
        id: 'b-holds',
        site: 'b',
        point: 'transfer.send.hashes',
        when: 'after',
        kind: 'hold',
        hit: 7,
        holdFile,
      },
    ]);
    const snapshot = await importDisk('killed1', alone);
    await sites.json('b', 'schedule', 'run', 'killed1');
    await awaiting('the hold while B hashes', async () => (await fired()).includes('b-holds'));
    expect(await fired()).toContain('b-dies');
    expect(await open()).not.toEqual([]);
    await killService(sites, 'worker-a');
    await rm(holdFile);
    const { lastTask } = await untilPublished(sites, 'killed1', snapshot);
    await arm([]);
    expect(lastTask?.disks[0]).toMatchObject({ method: 'compare', bytesSent: 2 * MIB });
    await assertSound('killed1', snapshot, alone);
  }, 240_000);

  test('in the middle of sending, either of them, goes on from what B holds', async () => {
    const { path } = await publishedHost('killed2', 'killed2');
    const alone = image('killed2-2.qcow2');
    await qemuImg('convert', '-f', 'qcow2', '-O', 'qcow2', path, alone);
    await qemuIo(alone, ['write -P 8 30M 28M']);
    const snapshot = await importDisk('killed2', alone);
    await sites.json('b', 'schedule', 'update', 'killed2', '--bandwidth', '4MiB/s');
    const before = sites.proxy.bytes.up;
    await sites.json('b', 'schedule', 'run', 'killed2');
    const dataBytes = 28 * MIB;
    const kills = [];
    for (const service of ['worker-a', 'worker-b']) {
      kills.push(await killInTransfer(sites, service, { sizeBytes: 6 * MIB, dataBytes }));
    }
    const { lastTask } = await untilPublished(sites, 'killed2', snapshot);
    expect(lastTask?.disks[0]).toMatchObject({ method: 'compare', bytesSent: dataBytes });
    let again = 0;
    let last = { upBytes: before, durableBytes: 0 };
    for (const kill of kills) {
      expect(kill.durableBytes).toBeGreaterThan(last.durableBytes);
      again += last.durableBytes + (kill.upBytes - last.upBytes) - kill.durableBytes;
      last = kill;
    }
    expect(sites.proxy.bytes.up - before).toBeLessThan((dataBytes + again) * 1.02 + 8 * LINE_BYTES);
    await assertSound('killed2', snapshot, alone);
  }, 240_000);

  async function fired(): Promise<string> {
    return readFile(`${planPath}.fired`, 'utf8').catch(() => '');
  }
});
