import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DevSites } from '../../src/dev/dev-layout.ts';
import { verifyHost } from '../../src/dev/verify-host.ts';
import { qemuImg, qemuIo, withTempDir } from '../support/qemu.ts';

const MIB = 1024 * 1024;

describe('the verdict on a host', () => {
  it('is that all replicas are equal', () =>
    withTempDir(async dir => {
      const { result, said } = await verify(dir, { source: ['vda', 'vdb'], replica: ['vda', 'vdb'] });
      expect(result).toMatchObject({ verified: true, points: 1, snapshot: 's1' });
      expect(said).toEqual(['vda equal', 'vdb equal']);
    }));

  it('is against a replica with one wrong byte', () =>
    withTempDir(async dir => {
      const plant = (replica: string) => qemuIo(replica, ['write -P 0x78 524288 1']);
      const { result, said } = await verify(dir, { source: ['vda', 'vdb'], replica: ['vda', 'vdb'], plant });
      expect(result.verified).toBe(false);
      expect(result.disks.map(({ equal }) => equal)).toEqual([true, false]);
      expect(said).toEqual(['vda equal', 'vdb NOT EQUAL: compare different']);
    }));

  it('is against a replica that lacks a disk, or has one too many', () =>
    withTempDir(async dir => {
      const lacking = await verify(dir, { source: ['vda', 'vdb'], replica: ['vda'] });
      expect(lacking.result.verified).toBe(false);
      expect(lacking.said).toEqual(['vda equal', 'vdb missing']);
      const more = await verify(dir, { source: ['vda'], replica: ['vda', 'vdb'] });
      expect(more.result.verified).toBe(false);
    }));

  it('is not given on another snapshot than the one that was asked for', () =>
    withTempDir(async dir => {
      const asked = verify(dir, { source: ['vda'], replica: ['vda'], snapshot: 's0' });
      await expect(asked).rejects.toMatchObject({ code: 'NothingPublished' });
    }));
});

/** Images of these disks at both sites, those of the last replica changed by `plant`. */
async function verify(
  dir: string,
  given: {
    readonly source: readonly string[];
    readonly replica: readonly string[];
    readonly plant?: (replica: string) => Promise<unknown>;
    readonly snapshot?: string;
  },
) {
  const image = async (site: string, disk: string) => {
    const path = join(dir, `${site}-${disk}.qcow2`);
    await qemuImg('create', '-f', 'qcow2', path, '1M');
    await qemuIo(path, ['write -P 0x77 0 1M']);
    return { disk, path, virtualSizeBytes: MIB, damage: null, verifiedAt: null };
  };
  const source = await Promise.all(given.source.map(disk => image('a', disk)));
  const replica = await Promise.all(given.replica.map(disk => image('b', disk)));
  await given.plant?.(replica.at(-1)?.path ?? '');
  const times = { takenAt: '2026-11-24T02:00:00.000Z', publishedAt: '2026-11-24T02:00:01.000Z' };
  const common = { host: 'web1', sequence: 1, ...times };
  const said: string[] = [];
  const result = await verifyHost(
    { host: 'web1', snapshot: given.snapshot ?? 's1' },
    {
      source: { listSnapshots: async () => [{ ...common, snapshot: 's1', kind: 'qcow2', disks: source }] },
      replica: {
        listPoints: async () => [
          { ...common, point: 's1', damaged: false, kind: 'qcow2', cdp: null, disks: replica },
        ],
      },
    },
    { sites: sitesUnder(dir), signal: new AbortController().signal },
    {
      verified: (disk, _path, { equal, qemuImg }) =>
        void said.push(equal ? `${disk} equal` : `${disk} NOT EQUAL: compare ${qemuImg}`),
      missing: disk => void said.push(`${disk} missing`),
    },
  );
  return { result, said };
}

function sitesUnder(dir: string): DevSites {
  const common = { dataDir: dir, database: { url: 'postgres://localhost/none' }, temporal: {} };
  return {
    a: {
      ...common,
      site: 'a',
      node: 'a1',
      logLevel: 'info',
      source: { imageRoots: [dir], replicaSites: [] },
    },
    b: {
      ...common,
      site: 'b',
      node: 'b1',
      logLevel: 'info',
      replica: { listen: '127.0.0.1:0', directory: dir },
    },
    aPath: '',
    bPath: '',
    webUiUrl: '',
  };
}
