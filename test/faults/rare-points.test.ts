/** Fault points that a run of two sites does not reach: each effect fails, then loses its reply, then is done again. */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { migrate, openDatabase } from '../../src/catalog/database.ts';
import { createLiveScheduleRows } from '../../src/catalog/live-schedules.ts';
import { createNodeRegistry } from '../../src/catalog/nodes.ts';
import { grantRuntimeRole } from '../../src/catalog/runtime-role.ts';
import { createSourceGuardRows } from '../../src/catalog/source-guard.ts';
import { createSubscriptionRows } from '../../src/catalog/subscriptions.ts';
import { purgeWorkflowId } from '../../src/contract/names.ts';
import { createOverlay, writeImageInAnyOrder } from '../../src/images/overlay.ts';
import { readMapFile, storeMapFile } from '../../src/images/replica/map-file.ts';
import { incrementName, layerPaths } from '../../src/images/replica/names.ts';
import { openPartial } from '../../src/images/replica/partial.ts';
import { writeRootMarker } from '../../src/images/replica/root-marker.ts';
import { openIncrement, sealStandAlone } from '../../src/images/replica/stand-alone.ts';
import { toHex } from '../../src/lib/digest.ts';
import { checkNamespace, ensureNamespace } from '../../src/orchestration/namespace.ts';
import { createScheduleStarter, startPurge } from '../../src/orchestration/schedule-start.ts';
import { ensureSearchAttributes } from '../../src/orchestration/search-attributes.ts';
import { removeLeftFiles, sweepReplicas } from '../../src/sites/replica-sweeper.ts';
import { FINGERPRINT } from '../integration/catalog/fixtures.ts';
import {
  createReplicaBench,
  layerOver,
  NODE,
  type ReplicaBench,
} from '../integration/replica/replica-bench.ts';
import { useTestDatabase } from '../support/database.ts';
import { createRoles } from '../support/database-roles.ts';
import { interrupted } from '../support/faults/interrupted.ts';
import { qemuCheck, qemuImg } from '../support/qemu.ts';
import {
  filesOf,
  mapOf,
  nameOf,
  randomBytes,
  sealLayer,
  withMemoryDir,
} from '../unit/images/replica-fixtures.ts';

const MIB = 1024 * 1024;
const SOUND = { corruptions: 0, leaks: 0, checkErrors: 0 };
const NO_LINKS = 'EPERM';
const database = useTestDatabase();

describe('files', () => {
  it('a restored image gets its name whole where links are not possible', async () => {
    await withMemoryDir(async dir => {
      const path = join(dir, 'vda.qcow2');
      await qemuImg('create', '-q', '-f', 'qcow2', join(dir, 'replica.qcow2'), '1M');
      const overlay = () =>
        createOverlay({
          path,
          backingPath: join(dir, 'replica.qcow2'),
          backingFormat: 'qcow2',
          virtualSizeBytes: MIB,
          clusterSizeBytes: 65536,
        });
      const done = interrupted('restore.rename', overlay, { point: 'restore.link', code: NO_LINKS });
      await expect(done).rejects.toMatchObject({ code: 'FileExists' });
      expect(await readdir(dir)).toEqual(['replica.qcow2', 'vda.qcow2']);
      expect(await qemuCheck(path)).toEqual(SOUND);
    });
  });

  it.each(['restore.writePiece', 'restore.truncatePieces'] as const)(
    '%s: an image that is written in any order gets its name whole or not at all',
    async point => {
      await withMemoryDir(async dir => {
        const stream = randomBytes(MIB, 3);
        let runs = 0;
        const write = async (): Promise<string> => {
          runs += 1;
          const path = join(dir, `${runs}.qcow2`);
          const map = mapOf(MIB, 65536, [['data', 16]]);
          await qemuImg('create', '-q', '-f', 'qcow2', join(dir, 'base.qcow2'), '1M');
          const backing = { name: 'base.qcow2', format: 'qcow2' as const };
          await writeImageInAnyOrder({ path, map, backing }, async put => {
            await put(stream.subarray(65536), 65536);
            await put(stream.subarray(0, 65536), 0);
          });
          return path;
        };
        const path = await interrupted(point, write);
        expect((await readdir(dir)).sort()).toEqual(['3.qcow2', 'base.qcow2']);
        await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, join(dir, 'raw'));
        expect((await readFile(join(dir, 'raw'))).equals(stream)).toBe(true);
      });
    },
  );

  it('a map whose fsync failed goes, and is stored anew', async () => {
    await withMemoryDir(async directory => {
      const map = mapOf(MIB, 65536, [['data', 16]]);
      const paths = layerPaths(directory, nameOf(map));
      const lost = { point: 'replica.map.fsync', code: 'EIO' } as const;
      await interrupted('replica.map.unlink', () => storeMapFile(paths, { map, backing: null }), lost);
      expect((await readMapFile(paths.map))?.map.dataBytes).toBe(map.dataBytes);
    });
  });

  it.each([
    ['replica.digests.unlink', 'replica.digests.fsync'],
    ['replica.seal.unlinkDigests', 'replica.seal.syncDigests'],
  ] as const)('%s: digests whose fsync failed go, and are made anew', async (point, lost) => {
    await withMemoryDir(async directory => {
      const layer = { map: mapOf(MIB, 65536, [['data', 16]]), stream: randomBytes(MIB, 4) };
      const name = await interrupted(point, () => sealLayer(directory, layer), { point: lost, code: 'EIO' });
      expect(await qemuCheck(join(directory, name))).toEqual(SOUND);
      expect([...(await filesOf(directory)).keys()].sort()).toEqual([name, `${name}.digests`]);
    });
  });

  it('a folder of replicas gets one marker where links are not possible', async () => {
    await withMemoryDir(async dir => {
      const write = () => writeRootMarker(dir, randomUUID());
      const link = { point: 'replica.marker.link', code: NO_LINKS } as const;
      await interrupted('replica.marker.rename', write, link);
      expect(await readdir(dir)).toEqual(['.offsite-replicas']);
    });
  });

  it.each([
    'replica.progress.reset',
    'replica.progress.syncReset',
    'replica.discard.unlinkDigests',
    'replica.discard.syncDirectory',
  ] as const)('%s: a stream that was not what A read begins anew', async point => {
    await withMemoryDir(async directory => {
      const map = mapOf(MIB, 65536, [['data', 16]]);
      const input = { directory, finalName: nameOf(map), map, backing: null };
      const stream = randomBytes(MIB, 7);
      await interrupted(point, async () => {
        const sink = await openPartial(input);
        try {
          await sink.write(stream.subarray(sink.durableBytes), sink.durableBytes);
          await sink.finish();
          await sink.discard();
        } finally {
          await sink.close();
        }
      });
      const next = await openPartial(input);
      expect(next.durableBytes).toBe(0);
      await next.close();
    });
  });

  it.each(['replica.standAlone.unlinkOther', 'replica.standAlone.syncDirectory'] as const)(
    '%s: a layer that starts its chain anew is sealed whole all the same',
    async point => {
      await withMemoryDir(async directory => {
        const base = { map: mapOf(2 * MIB, 65536, [['data', 32]]), stream: randomBytes(2 * MIB, 1) };
        const backing = { name: await sealLayer(directory, base), format: 'qcow2' as const };
        const map = mapOf(2 * MIB, 65536, [['data', 1]]);
        const finalName = nameOf(map, backing, randomUUID());
        const imageRoots = [directory];
        const sink = await openIncrement({ directory, finalName, map, backing, imageRoots });
        await sink.write(randomBytes(65536, 2), 0);
        const contentDigest = toHex(await sink.finish());
        await sink.close();
        // As if another version had begun it, with another map.
        const other = { directory, finalName, map: mapOf(2 * MIB, 4096, []), backing: null };
        await (await openPartial(other)).close();
        await interrupted(point, () => sealStandAlone({ directory, finalName, contentDigest, imageRoots }));
        expect(await qemuCheck(layerPaths(directory, finalName).final)).toEqual(SOUND);
        const left = [...(await filesOf(directory)).keys()];
        expect(left.filter(name => name.startsWith(incrementName(finalName)))).toEqual([]);
        expect(left.filter(name => /\.(map|progress|partial)$/.test(name))).toEqual([]);
      });
    },
  );
});

describe('rows of A', () => {
  it('a schedule that is gone waits no more', async () => {
    const { db } = database();
    const scheduleUuid = randomUUID();
    await db('snapshot_subscriptions').insert({
      ...{ schedule_uuid: scheduleUuid, replica_site: 'b', schedule_name: 'gone', host: 'web' },
      answered_sequence: 0,
    });
    const rows = createSubscriptionRows(db);
    await interrupted('source.commit.dropSubscription', () => rows.dropSubscription(scheduleUuid));
    expect(await db('snapshot_subscriptions').where({ schedule_uuid: scheduleUuid })).toEqual([]);
  });

  it('a certificate is pinned once, and forgotten once', async () => {
    const nodes = createNodeRegistry(database().db);
    const pin = { replicaSite: 'b', fingerprint: FINGERPRINT };
    await interrupted('source.commit.vouchForReceiver', () => nodes.vouchForReceiver(pin));
    expect(await nodes.listPins()).toHaveLength(1);
    await interrupted('source.commit.unpinReceiver', () => nodes.unpinReceiver(pin));
    expect(await nodes.listPins()).toEqual([]);
  });

  it('the guard finds nothing to release twice', async () => {
    const guard = createSourceGuardRows(database().db);
    const low = { folder: '/images', freeBytes: 1 };
    const released = interrupted('source.commit.guardRelease', () => guard.releaseIdlest({ idleMs: 0, low }));
    expect(await released).toBeNull();
  });
});

it("a worker's role has its rights after setup was run again", async () => {
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  const roles = await createRoles(inject('postgresUrl'), name);
  const owner = openDatabase({ url: roles.ownerUrl, poolMax: 2 });
  const runtime = openDatabase({ url: roles.runtimeUrl, poolMax: 2 });
  try {
    await migrate(owner);
    await interrupted('catalog.commit.grantRuntimeRole', () => grantRuntimeRole(owner, roles.runtimeUrl));
    expect(await runtime('hosts').select()).toEqual([]);
  } finally {
    await Promise.all([owner.destroy(), runtime.destroy()]);
  }
});

describe('replicas', () => {
  let bench: ReplicaBench;
  beforeEach(async () => {
    bench = await createReplicaBench(database().db);
  });
  afterEach(() => bench.close());

  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const layer = () => layerOver(null, MIB, [['data', 16]]);

  it('a layout whose file is of no use is given up once', async () => {
    const sent = layer();
    const run = await bench.begin(sent);
    await (await bench.openSink(run, sent)).close();
    const reject = () => bench.catalog.rejectLayout({ ...run.session });
    await interrupted('replica.commit.rejectLayout', reject);
    expect(await database().db('snapshot_storages').where({ state: 'partial' })).toEqual([]);
  });

  it('a received layer that the storage may have lost is given up once', async () => {
    const sent = layer();
    const run = await bench.begin(sent);
    await bench.receive(run, sent);
    await interrupted('replica.commit.rejectReceived', () => bench.catalog.rejectReceived(run));
    expect(await database().db('snapshot_storages').where({ state: 'partial' })).toEqual([]);
  });

  it('the replicas of a deleted schedule are removed by one workflow', async () => {
    const connection = await Connection.connect({ address: inject('temporalAddress') });
    try {
      const client = new Client({ connection });
      await interrupted('temporal.start.purge', () => startPurge(client, bench.spec));
      const { status } = await client.workflow.getHandle(purgeWorkflowId(bench.spec.uuid)).describe();
      expect(status.name).toBe('RUNNING');
    } finally {
      await connection.close();
    }
  });

  it('what is said of a file is said once, and taken back', async () => {
    const path = await bench.publish(layer());
    const { catalog } = bench;
    const damage = async () => {
      const [row] = await database().db('snapshot_storages').where({ path }).select('damage', 'damage_kind');
      return row;
    };
    const doubt = (text: string | null) => () => catalog.noteDoubts([{ node: NODE, path, doubt: text }]);
    await interrupted('replica.commit.noteDoubts', doubt('it changed'));
    expect(await damage()).toEqual({ damage: 'it changed', damage_kind: 'doubt' });
    await doubt(null)();
    expect(await damage()).toEqual({ damage: null, damage_kind: null });
    const note = () => catalog.noteDamage({ node: NODE, path, reason: 'block 3' });
    await interrupted('replica.commit.noteDamage', note);
    expect(await damage()).toEqual({ damage: 'block 3', damage_kind: 'content' });
    const [known] = await catalog.layersToVerify({ node: NODE, host: null });
    if (known === undefined) throw new Error('a published layer is to be verified');
    const verified = () => catalog.recordVerified({ layer: known, damage: null, file: known.sealed });
    await interrupted('replica.commit.recordVerified', verified);
    expect(await damage()).toEqual({ damage: null, damage_kind: null });
  });

  it.each(['replica.sweep.unlink', 'replica.sweep.syncDirectory'] as const)(
    '%s: the next sweep takes what is left, and nothing else',
    async point => {
      const published = await bench.publish(layer());
      const directory = dirname(published);
      const kept = (await readdir(directory)).sort();
      const stray = `${randomUUID()}.0123456789abcdef.qcow2`;
      const { catalog, replicaRoot } = bench;
      await interrupted(point, async () => {
        // Strays come back between the runs, so that each of them has something to take.
        for (const suffix of ['map', 'partial'])
          await writeFile(join(directory, `${stray}.${suffix}`), 'left');
        await sweepReplicas({
          ...{ catalog, replicaRoot, node: NODE, log, graceMs: 0, dryRun: false },
          nowMs: Date.now() + 60_000,
        });
      });
      expect((await readdir(directory)).sort()).toEqual(kept);
    },
  );

  it('a task that Temporal lost ends once', async () => {
    const { taskUuid, fence } = await bench.begin(layer());
    const rows = createLiveScheduleRows(database().db);
    const lost = { scheduleUuid: bench.spec.uuid, lastGeneration: fence.generation };
    const last = await interrupted('replica.commit.endLostTask', () => rows.endLostTask(lost));
    expect(last?.summary).toMatchObject({ taskUuid, reason: 'its workflow was lost' });
  });

  it('a namespace that is gone is made once, and can be used then', async () => {
    const settings = { address: inject('temporalAddress'), namespace: `lost-${randomUUID().slice(0, 8)}` };
    await expect(checkNamespace(settings)).rejects.toMatchObject({ code: 'TemporalNamespaceMissing' });
    await interrupted('temporal.registerNamespace', () => ensureNamespace(settings));
    expect(await ensureNamespace(settings)).toEqual({ namespace: settings.namespace, result: 'present' });
    await checkNamespace(settings);
    expect(await ensureSearchAttributes(settings)).toBe('made');
  }, 120_000);

  it('what a deleted schedule left at its source is released by one workflow, and noted once', async () => {
    const { uuid } = bench.spec;
    const { db } = database();
    const starter = createScheduleStarter({ address: inject('temporalAddress') });
    try {
      await interrupted('temporal.start.release', () => starter.startRelease(bench.spec));
      expect(await starter.releaseState(bench.spec)).toBe('running');
    } finally {
      await starter.close();
    }
    await db('remote_backup_schedules')
      .where({ uuid })
      .update({ deleting: true, deleted_at: db.fn.now(), release_pending: true });
    const rows = createLiveScheduleRows(db);
    await interrupted('replica.commit.noteReleased', () => rows.noteReleased(uuid));
    expect(await rows.pendingReleases()).toEqual([]);
  });

  it('a file that was left to a node is removed, and noted once', async () => {
    const path = join(bench.replicaRoot, 'web', 'vda', `${randomUUID()}.0123456789abcdef.qcow2`);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(`${path}.partial`, 'left');
    await database().db('replica_files_to_remove').insert({ node: NODE, path });
    const { catalog, replicaRoot } = bench;
    const remove = () => removeLeftFiles({ catalog, replicaRoot, node: NODE, log });
    await interrupted('replica.commit.noteRemoved', remove);
    expect(await catalog.filesToRemove(NODE)).toEqual([]);
    expect(await readdir(dirname(path))).toEqual([]);
    expect(basename(path)).toMatch(/\.qcow2$/);
    await expect(readFile(`${path}.partial`)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
