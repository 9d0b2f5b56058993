/** A replica site on a file system of 24 MiB that really fills, with a reserve and quotas. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseSizeOrShare } from '../../../src/lib/sizes.ts';
import type { Quotas } from '../../../src/sites/replica-space.ts';
import { useTestDatabase } from '../../support/database.ts';
import { qemuCheck } from '../../support/qemu.ts';
import {
  createReplicaBench,
  layerOver,
  type ReplicaBench,
  readByQemu,
  type SentLayer,
} from './replica-bench.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const CLUSTER = 65_536;
const NO_QUOTAS: Quotas = { nodeBytes: null, hostBytes: new Map() };
const database = useTestDatabase();
let mount: string;
const benches: ReplicaBench[] = [];

beforeEach(async () => {
  mount = await mkdtemp(join(tmpdir(), 'offsite-small-'));
  await run('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', mount]);
});
afterEach(async () => {
  await Promise.all(benches.splice(0).map(bench => bench.close()));
  await run('umount', [mount]);
  await rm(mount, { recursive: true });
});

async function bench(reserve = '0B', quotas: Quotas = NO_QUOTAS): Promise<ReplicaBench> {
  const limits = { reserve: parseSizeOrShare(reserve), quotas };
  const made = await createReplicaBench(database().db, undefined, undefined, { root: mount, limits });
  benches.push(made);
  return made;
}

const fullCopy = (mib: number): SentLayer => layerOver(null, mib * MIB, [['data', (mib * MIB) / CLUSTER]]);

describe('the reserve', () => {
  it('is not promised to anybody, and the numbers are told', async () => {
    const site = await bench('50%');
    const layer = fullCopy(13);
    const begun = await site.begin(layer);
    await expect(site.openSink(begun, layer)).rejects.toMatchObject({
      code: 'DiskFull',
      message: expect.stringMatching(
        /1[3-4]\.\d MiB are needed, .* 24\.0 MiB free \(12\.0 MiB of it stay free\)$/,
      ),
    });
    const small = fullCopy(8);
    const path = await site.publish(small);
    expect((await readByQemu(path, tmpdir())).equals(small.content)).toBe(true);
  });

  it('that others eat into stops a transfer before it fills the disk, and what was acknowledged stays', async () => {
    const site = await bench('4MiB');
    const layer = fullCopy(12);
    const begun = await site.begin(layer);
    const sink = await site.openSink(begun, layer);
    await sink.write(layer.stream.subarray(0, 6 * MIB), 0);
    expect(await sink.flush()).toBe(6 * MIB);
    await writeFile(join(mount, 'ballast'), Buffer.alloc(15 * MIB));
    await expect(sink.write(layer.stream.subarray(6 * MIB, 7 * MIB), 6 * MIB)).rejects.toMatchObject({
      code: 'DiskFull',
    });
    await sink.close();
    await expect(site.openSink(begun, layer)).rejects.toMatchObject({ code: 'DiskFull' });
    await rm(join(mount, 'ballast'));
    expect(await site.receive(begun, layer)).toEqual({ sentBytes: 6 * MIB });
  });
});

describe('disks that come at once', () => {
  it('are not promised the same room', async () => {
    const site = await bench();
    const first = fullCopy(14);
    const second = fullCopy(14);
    const begun = await site.begin(first);
    const sink = await site.openSink(begun, first);
    const other = await site.begin(second);
    const refused = site.openSink(other, second);
    await expect(refused).rejects.toMatchObject({
      code: 'DiskFull',
      message: expect.stringContaining('are for other disks that come now'),
    });
    await sink.close();
    // What was promised to a session that has ended is there again.
    const late = await site.openSink(other, second);
    await late.close();
  });
});

describe('a quota', () => {
  it('of the node counts what is really there and heals when it is raised', async () => {
    const quotas = (mib: number) => ({ nodeBytes: mib * MIB, hostBytes: new Map<string, number>() });
    const site = await bench('0B', quotas(10));
    const old = await site.publish(fullCopy(6));
    const layer = fullCopy(6);
    const begun = await site.begin(layer);
    const refused = site.openSink(begun, layer);
    await expect(refused).rejects.toMatchObject({
      code: 'QuotaExceeded',
      message: expect.stringMatching(
        /^6\.\d MiB are needed, and this node has a quota of 10\.0 MiB: 6\.\d MiB are in use$/,
      ),
    });
    expect(await qemuCheck(old)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });

    const raised = await bench('0B', quotas(14));
    expect(await raised.receive(begun, layer)).toEqual({ sentBytes: 6 * MIB });
  });

  it('of a host does not hold up another', async () => {
    const site = await bench('0B', { nodeBytes: 20 * MIB, hostBytes: new Map() });
    const host = site.spec.host;
    const limited = await bench('0B', { nodeBytes: null, hostBytes: new Map([[host, 3 * MIB]]) });
    const layer = fullCopy(4);
    const begun = await site.begin(layer);
    await expect(limited.openSink(begun, layer)).rejects.toMatchObject({
      code: 'QuotaExceeded',
      message: expect.stringContaining(`host ${host} has a quota of 3.0 MiB: 0 B are in use`),
    });
    await limited.publish(fullCopy(4));
  });
});

describe('a file system without inodes', () => {
  it('says that it takes no more files, and goes on when it does', async () => {
    await run('mount', ['-o', 'remount,nr_inodes=6', mount]);
    const site = await bench();
    const layer = fullCopy(1);
    const begun = await site.begin(layer);
    // The mount itself, three folders, the map and the partial file: the progress file finds none left.
    await expect(site.openSink(begun, layer)).rejects.toMatchObject({
      code: 'DiskFull',
      message: expect.stringContaining('inodes are used up'),
    });
    await run('mount', ['-o', 'remount,nr_inodes=7', mount]);
    // The digest file is the next to find none.
    await expect(site.receive(begun, layer)).rejects.toMatchObject({ code: 'DiskFull' });
    await run('mount', ['-o', 'remount,nr_inodes=1000', mount]);
    await site.receive(begun, layer);
    const path = await site.seal(begun);
    expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });
});
