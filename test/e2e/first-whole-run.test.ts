import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  createHostImages,
  createSchedule,
  type ListedLock,
  type ListedPoint,
  untilPublished,
} from '../support/e2e-host.ts';
import { checkInvariants } from '../support/invariants/check-invariants.ts';
import { qemuCheck, qemuIdentical } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const CLUSTER_BYTES = 64 * 1024;
const MIB = 1024 * 1024;

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const invariants = (quiescent = true) =>
  checkInvariants({
    sourceDb: sites.databaseUrl.a,
    replicaDb: sites.databaseUrl.b,
    replicaRoots: [sites.replicaRoot],
    temporal: { client: sites.client, replicaSite: 'b' },
    quiescent,
  });

test('four snapshots of two disks arrive one after the other, each with only what changed', async () => {
  const host = await createHostImages(sites, 'web1');
  /** What each snapshot writes, and how many clusters that changes. */
  const rounds: { write: (disk: string) => string[]; changedClusters: number }[] = [
    {
      write: disk => [`write -P 1 0 ${disk === 'vda' ? '40M' : '16M'}`],
      changedClusters: (56 * MIB) / CLUSTER_BYTES,
    },
    {
      write: () => ['write -P 2 1M 1M', 'write -P 3 100M 300k', 'write -z 3M 1M'],
      changedClusters: 2 * (16 + 5),
    },
    { write: disk => (disk === 'vda' ? ['write -P 4 64k 3M', 'discard 8M 1M'] : []), changedClusters: 48 },
    { write: () => ['write -P 5 120M 2M'], changedClusters: 2 * 32 },
  ];
  const snapshots: string[] = [];
  const taskUuids: string[] = [];
  for (const [index, { write, changedClusters }] of rounds.entries()) {
    const snapshot = await host.next(write);
    snapshots.push(snapshot);
    const before = sites.proxy.bytes.up;
    if (index === 0) await createSchedule(sites, 'nightly', 'web1');
    else await sites.json('b', 'schedule', 'run', 'nightly');
    const { lastTask } = await untilPublished(sites, 'nightly', snapshot);
    const sentBytes = sites.proxy.bytes.up - before;

    taskUuids.push(lastTask?.taskUuid ?? '');
    const method = index === 0 ? 'full' : 'incremental';
    expect(lastTask?.disks.map(disk => disk.method)).toEqual([method, method]);
    // Changed clusters plus 2 %, and the handshakes of two connections.
    expect(sentBytes).toBeGreaterThanOrEqual(changedClusters * CLUSTER_BYTES);
    expect(sentBytes).toBeLessThanOrEqual(changedClusters * CLUSTER_BYTES * 1.02 + 2 * 8192);

    const points = await sites.json<ListedPoint[]>('b', 'replica', 'list', 'web1');
    expect(points.map(({ point }) => point)).toEqual(snapshots);
    for (const { disk, path } of points.at(-1)?.disks ?? []) {
      expect(await qemuIdentical(host.tops[disk] ?? '', path)).toBe(true);
      expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
    }
    const locks = await sites.json<ListedLock[]>('a', 'source', 'locks');
    const held = locks.map(({ snapshot, taskUuid }) => `${snapshot} ${taskUuid}`).sort();
    const expected = [index - 1, index]
      .filter(at => at >= 0)
      .map(at => `${snapshots[at]} ${taskUuids[at]}`)
      .sort();
    expect(held).toEqual(expected);
    expect(await invariants()).toEqual([]);
  }
}, 300_000);
