import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { SiteConfig } from '../../../src/config/site-config.ts';
import { openReplicaSeeds } from '../../../src/sites/replica-seeds.ts';
import { useTestDatabase } from '../../support/database.ts';
import { qemuImg } from '../../support/qemu.ts';

const database = useTestDatabase();
let folder: string;
let config: SiteConfig;
let host = 0;
let seeds: Awaited<ReturnType<typeof openReplicaSeeds>>;

beforeEach(async () => {
  host += 1;
  folder = await mkdtemp(join(tmpdir(), 'offsite-seeds-'));
  config = {
    site: 'b',
    node: 'b1',
    dataDir: folder,
    database: { url: database().url },
    temporal: {},
    logLevel: 'info',
    replica: { listen: '127.0.0.1:0', seedRoots: [join(folder, 'brought'), join(folder, 'replicas')] },
  };
  for (const name of ['brought', 'elsewhere', 'replicas']) await mkdir(join(folder, name));
  seeds = await openReplicaSeeds(config);
});
afterEach(async () => {
  await seeds.close();
  await rm(folder, { recursive: true });
});

const register = (path: string, format: 'qcow2' | 'raw' | null = null, disk = 'vda') =>
  seeds.register({ host: `web${host}`, disks: [{ disk, path }], format });

async function image(place: string, format: 'qcow2' | 'raw' = 'raw'): Promise<string> {
  const path = join(folder, place);
  await qemuImg('create', '-q', '-f', format, path, '1M');
  return path;
}

it('registers images by suffix or by the format that is given, lists them, and forgets the row only', async () => {
  const raw = await image('brought/vda.raw');
  const qcow2 = await image('brought/vdb.img', 'qcow2');
  expect(await register(raw)).toMatchObject([
    { disk: 'vda', format: 'raw', virtualSizeBytes: 1048576, usedAt: null },
  ]);
  expect(await register(qcow2, 'qcow2', 'vdb')).toMatchObject([
    { disk: 'vdb', format: 'qcow2', path: qcow2 },
  ]);
  const listed = await seeds.list({ host: `web${host}` });
  expect(listed.map(({ disk }) => disk)).toEqual(['vda', 'vdb']);
  expect(await register(raw)).toEqual([listed[0]]);
  await expect(register(await image('brought/other.raw'))).rejects.toMatchObject({ code: 'SeedWaiting' });
  expect(await seeds.forget({ host: `web${host}`, disk: 'vda' })).toEqual(listed[0]);
  await expect(seeds.forget({ host: `web${host}`, disk: 'vda' })).rejects.toMatchObject({
    code: 'NotInCatalog',
  });
  expect(await register(raw)).toHaveLength(1);
  expect(await seeds.list({ host: 'unknown' })).toEqual([]);
});

it('refuses what is no image of its own: outside the folders, links out of them, devices, FIFOs, backing files', async () => {
  const outside = await image('elsewhere/vda.raw');
  const link = join(folder, 'brought', 'link.raw');
  await symlink(outside, link);
  const fifo = join(folder, 'brought', 'fifo.raw');
  execFileSync('mkfifo', [fifo]);
  const overlay = join(folder, 'brought', 'overlay.qcow2');
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', outside, '-F', 'raw', overlay);
  const garbage = join(folder, 'brought', 'garbage.qcow2');
  await writeFile(garbage, 'no image');
  const among = await image('replicas/vda.raw');
  const cases: [string, string][] = [
    [outside, 'ImageOutsideRoots'],
    [link, 'ImageOutsideRoots'],
    [join(folder, 'brought', '..', 'elsewhere', 'vda.raw'), 'ImageOutsideRoots'],
    ['/dev/null.raw', 'ImageVanished'],
    [fifo, 'ImageNotRegular'],
    [overlay, 'ImageOutsideRoots'],
    [among, 'SeedAmongReplicas'],
    [join(folder, 'brought', 'vda'), 'SeedFormatUnknown'],
  ];
  for (const [path, code] of cases) await expect(register(path), path).rejects.toMatchObject({ code });
  await expect(register('/dev/zero', 'raw')).rejects.toMatchObject({ code: 'ImageOutsideRoots' });
  await expect(register(garbage)).rejects.toThrow();
  expect(await seeds.list({ host: `web${host}` })).toEqual([]);
});

it('registers all disks or none', async () => {
  const disks = [
    { disk: 'vda', path: await image('brought/vda.raw') },
    { disk: 'vdb', path: join(folder, 'brought', 'missing.raw') },
  ];
  await expect(seeds.register({ host: `web${host}`, disks, format: null })).rejects.toMatchObject({
    code: 'ImageVanished',
  });
  expect(await seeds.list({ host: `web${host}` })).toEqual([]);
});
