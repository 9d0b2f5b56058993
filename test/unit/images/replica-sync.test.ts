/** An fsync that fails once: the kernel then calls the same bytes clean, so trying it again would seem to work. */
import { readdir } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { openPartial } from '../../../src/images/replica/partial.ts';
import { sealPartial } from '../../../src/images/replica/seal.ts';
import { toHex } from '../../../src/lib/digest.ts';
import { type FaultPoint, setFaultInjector } from '../../../src/lib/fault-points.ts';
import { qemuCheck, withTempDir } from '../../support/qemu.ts';
import { mapOf, nameOf, randomBytes } from './replica-fixtures.ts';

const CLUSTER = 65_536;
let reached: FaultPoint[] = [];

afterEach(() => setFaultInjector(null));

/** Fails the n-th of these syncs, from 1, as a disk with a bad sector does. */
function failing(point: FaultPoint, nth = 1): void {
  reached = [];
  let count = 0;
  setFaultInjector({
    async reach(at, when) {
      if (when !== 'before') return;
      reached.push(at);
      if (at !== point) return;
      count += 1;
      if (count === nth) throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' });
    },
    reachSync: () => {},
  });
}

async function withLayer(
  work: (layer: {
    dir: string;
    finalName: string;
    stream: Buffer;
    open: () => ReturnType<typeof openPartial>;
  }) => Promise<void>,
): Promise<void> {
  await withTempDir(async dir => {
    const map = mapOf(16 * CLUSTER, CLUSTER, [['data', 16]]);
    const finalName = nameOf(map);
    const open = () => openPartial({ directory: dir, finalName, map, backing: null });
    await work({ dir, finalName, stream: randomBytes(map.dataBytes, 11), open });
  });
}

describe('a sync that fails', () => {
  it('of data takes the progress back to what was durable before, and those bytes are written again', async () => {
    await withLayer(async ({ dir, finalName, stream, open }) => {
      failing('replica.partial.fdatasync', 2);
      const first = await open();
      await first.write(stream.subarray(0, CLUSTER), 0);
      expect(await first.flush()).toBe(CLUSTER);
      await first.write(stream.subarray(CLUSTER, 3 * CLUSTER), CLUSTER);
      await expect(first.flush()).rejects.toMatchObject({
        code: 'SyncFailed',
        message: expect.stringContaining('EIO: i/o error, fsync'),
      });
      await expect(first.flush()).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
      await first.close();
      const second = await open();
      expect(second.durableBytes).toBe(CLUSTER);
      await second.write(stream.subarray(CLUSTER), CLUSTER);
      const contentDigest = toHex(await second.finish());
      await second.close();
      const { path } = await sealPartial({ directory: dir, finalName, contentDigest });
      expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
    });
  });

  it('of the progress leaves it to be written again, not only synced again', async () => {
    await withLayer(async ({ stream, open }) => {
      failing('replica.progress.fdatasync');
      const first = await open();
      await first.write(stream.subarray(0, CLUSTER), 0);
      await expect(first.flush()).rejects.toThrow('EIO');
      await first.close();
      failing('replica.progress.fdatasync', 99);
      const second = await open();
      expect(second.durableBytes).toBe(CLUSTER);
      expect(reached.filter(point => point.startsWith('replica.progress.'))).toEqual([
        'replica.progress.write',
        'replica.progress.fdatasync',
      ]);
      await second.close();
    });
  });

  it('of the map or the digest file leaves no file that looks durable', async () => {
    await withLayer(async ({ dir, finalName, stream, open }) => {
      failing('replica.map.fsync');
      await expect(open()).rejects.toMatchObject({ code: 'SyncFailed' });
      expect(await readdir(dir)).toEqual([]);
      failing('replica.digests.fsync');
      const first = await open();
      await first.write(stream, 0);
      await expect(first.finish()).rejects.toMatchObject({ code: 'SyncFailed' });
      await first.close();
      expect(await readdir(dir)).not.toContain(`${finalName}.digests`);
      const second = await open();
      expect(second.durableBytes).toBe(stream.length);
      const contentDigest = toHex(await second.finish());
      await second.close();

      // Once more at the seal: the digest file is made anew from the image.
      failing('replica.seal.syncDigests');
      const seal = { directory: dir, finalName, contentDigest };
      await expect(sealPartial(seal)).rejects.toThrow('EIO');
      expect(await readdir(dir)).not.toContain(`${finalName}.digests`);
      const { path } = await sealPartial(seal);
      expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
    });
  });
});
