import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { writeImage } from '../../../src/images/overlay.ts';
import { openPartial } from '../../../src/images/replica/partial.ts';
import { sealPartial } from '../../../src/images/replica/seal.ts';
import { openIncrement, sealStandAlone } from '../../../src/images/replica/stand-alone.ts';
import { toHex } from '../../../src/lib/digest.ts';
import { type FaultPoint, setFaultInjector } from '../../../src/lib/fault-points.ts';
import { qemuCheck, withTempDir } from '../../support/qemu.ts';
import { filesOf, mapOf, nameOf, randomBytes, readerOf, sealLayer } from './replica-fixtures.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;

/** A file system of 4 MiB. */
async function withSmallDisk(work: (dir: string) => Promise<void>): Promise<void> {
  await withTempDir(async dir => {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', dir]);
    try {
      await work(dir);
    } finally {
      await run('umount', [dir]);
    }
  });
}

it('says before the first byte that a layer does not fit', async () => {
  await withSmallDisk(async dir => {
    const map = mapOf(8 * MIB, 65536, [['data', 100]]);
    const open = openPartial({ directory: join(dir, 'vda'), finalName: nameOf(map), map, backing: null });
    await expect(open).rejects.toMatchObject({
      code: 'DiskFull',
      neededBytes: 105 * 65536,
      freeBytes: expect.any(Number),
    });
    expect((await filesOf(join(dir, 'vda'))).size).toBe(0);
    const write = writeImage({
      path: join(dir, 'x.raw'),
      format: 'raw',
      map,
      readStream: async () => undefined,
    });
    await expect(write).rejects.toMatchObject({ code: 'DiskFull' });
    expect(await readdir(dir)).toEqual(['vda']);
  });
});

it('keeps what is durable when the disk fills meanwhile, and goes on once there is room', async () => {
  await withSmallDisk(async dir => {
    const map = mapOf(3 * MIB, 65536, [['data', 40]]);
    const stream = randomBytes(map.dataBytes, 5);
    const finalName = nameOf(map);
    const open = () => openPartial({ directory: dir, finalName, map, backing: null });
    const first = await open();
    await first.write(stream.subarray(0, MIB), 0);
    await first.flush();
    await writeFile(join(dir, 'ballast'), Buffer.alloc(2 * MIB));
    await expect(first.write(stream.subarray(MIB), MIB)).rejects.toMatchObject({
      code: 'DiskFull',
      path: join(dir, `${finalName}.partial`),
      neededBytes: map.dataBytes - MIB,
    });
    await expect(first.flush()).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
    await first.close();
    await expect(open()).rejects.toMatchObject({ code: 'DiskFull' });

    await rm(join(dir, 'ballast'));
    const second = await open();
    expect(second.durableBytes).toBe(MIB);
    await second.write(stream.subarray(MIB), MIB);
    const contentDigest = toHex(await second.finish());
    await second.close();
    const { path } = await sealPartial({ directory: dir, finalName, contentDigest });
    expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });
});

it('keeps the received increment when its stand-alone image finds no room, and goes on once there is some', async () => {
  await withSmallDisk(async dir => {
    const base = mapOf(2 * MIB, 65536, [['data', 16]]);
    const name = await sealLayer(dir, { map: base, stream: randomBytes(base.dataBytes, 7) });
    const map = mapOf(2 * MIB, 65536, [
      ['hole', 16],
      ['data', 8],
    ]);
    const backing = { name, format: 'qcow2' } as const;
    const [finalName, imageRoots] = [nameOf(map, backing), [dir]];
    const sink = await openIncrement({ directory: dir, finalName, map, backing, imageRoots });
    await sink.write(randomBytes(map.dataBytes, 8), 0);
    const contentDigest = toHex(await sink.finish());
    await sink.close();

    const seal = { directory: dir, finalName, contentDigest, imageRoots };
    await writeFile(join(dir, 'ballast'), Buffer.alloc(MIB));
    await expect(sealStandAlone(seal)).rejects.toMatchObject({ code: 'DiskFull' });
    await rm(join(dir, 'ballast'));
    // This time the room is taken while it is copied.
    const fill = () =>
      expect(() => writeFileSync(join(dir, 'ballast'), Buffer.alloc(4 * MIB))).toThrow('ENOSPC');
    await expect(sealStandAlone({ ...seal, onProgress: fill })).rejects.toMatchObject({
      code: 'DiskFull',
    });
    await rm(join(dir, 'ballast'));
    const { path } = await sealStandAlone(seal);
    expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });
});

it('leaves nothing behind when a full copy finds no room on its way', async () => {
  await withSmallDisk(async dir => {
    const map = mapOf(3 * MIB, 65536, [['data', 48]]);
    const read = readerOf(randomBytes(map.dataBytes, 6));
    const write = writeImage({
      path: join(dir, 'copy.qcow2'),
      format: 'qcow2',
      map,
      readStream: async (target, position) => {
        if (position === MIB) await writeFile(join(dir, 'ballast'), Buffer.alloc(2 * MIB));
        await read(target, position);
      },
    });
    await expect(write).rejects.toMatchObject({ code: 'DiskFull' });
    expect(await readdir(dir)).toEqual(['ballast']);
  });
});

/** Points at which a name, and not a byte, finds no room: a folder's next block, or its place in the journal. */
const NAMES = [
  'replica.partial.create',
  'replica.partial.syncDirectory',
  'replica.digests.syncDirectory',
  'replica.seal.syncNames',
  'replica.seal.rename',
  'replica.seal.syncDirectory',
  'replica.seal.unlinkSidecars',
  'replica.seal.syncUnlinked',
] as const satisfies readonly FaultPoint[];

it.each(NAMES)(
  'a name that finds no room at %s is told as a full disk, and comes once there is some',
  async point => {
    await withTempDir(async dir => {
      const map = mapOf(3 * MIB, 65536, [['data', 10]]);
      const stream = randomBytes(map.dataBytes, 6);
      const finalName = nameOf(map);
      let isFull = true;
      let hits = 0;
      setFaultInjector({
        async reach(at, when) {
          if (at !== point || when !== 'before' || !isFull) return;
          hits += 1;
          throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
        },
        reachSync: () => {},
      });
      const attempt = async (): Promise<string> => {
        const replica = await openPartial({ directory: dir, finalName, map, backing: null });
        let contentDigest: string;
        try {
          const { durableBytes } = replica;
          if (durableBytes < map.dataBytes) await replica.write(stream.subarray(durableBytes), durableBytes);
          contentDigest = toHex(await replica.finish());
        } finally {
          await replica.close();
        }
        return (await sealPartial({ directory: dir, finalName, contentDigest })).path;
      };
      try {
        for (let tries = 0; tries < 2; tries += 1) {
          await expect(attempt()).rejects.toMatchObject({ code: 'DiskFull' });
        }
        expect(hits).toBe(2);
        isFull = false;
        const path = await attempt();
        expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
        expect((await readdir(dir)).sort()).toEqual([finalName, `${finalName}.digests`]);
      } finally {
        setFaultInjector(null);
      }
    });
  },
);
