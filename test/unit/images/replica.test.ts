import { existsSync } from 'node:fs';
import { chmod, copyFile, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { computeLayout } from '../../../src/images/qcow2/layout.ts';
import { readDigestFile } from '../../../src/images/replica/digest-file.ts';
import { readStoredMap } from '../../../src/images/replica/map-file.ts';
import { openPartial } from '../../../src/images/replica/partial.ts';
import { removeReplicaFiles } from '../../../src/images/replica/remove.ts';
import { sealPartial } from '../../../src/images/replica/seal.ts';
import { verifySealed } from '../../../src/images/replica/verify.ts';
import { toHex } from '../../../src/lib/digest.ts';
import type { LayerSink } from '../../../src/transfer/ports.ts';
import { filesOf, mapOf, nameOf, randomBytes, sealLayer, withMemoryDir } from './replica-fixtures.ts';

const MIB = 1024 * 1024;
const map = mapOf(4 * MIB, 65536, [
  ['data', 20],
  ['zero', 4],
  ['data', 30],
]);
const stream = randomBytes(map.dataBytes, 3);
const finalName = nameOf(map);
const { dataStart } = computeLayout(map, null);

const openSink = (directory: string): Promise<LayerSink> =>
  openPartial({ directory, finalName, map, backing: null });

/** Two durable flushes: 1 MiB, then 2 MiB; then one more piece that is only written. */
async function receiveSome(directory: string): Promise<void> {
  const sink = await openSink(directory);
  for (const at of [0, MIB, 2 * MIB]) {
    await sink.write(stream.subarray(at, at + MIB), at);
    if (at < 2 * MIB) await sink.flush();
  }
  await sink.close();
}

async function damage(path: string, hostOffset: number): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.from('damage'), 0, 6, hostOffset);
  await file.close();
}

async function receiveRest(directory: string): Promise<string> {
  const sink = await openSink(directory);
  await sink.write(stream.subarray(sink.durableBytes), sink.durableBytes);
  const contentDigest = toHex(await sink.finish());
  await sink.close();
  await sealPartial({ directory, finalName, contentDigest });
  return contentDigest;
}

/** The files of the layer as one undisturbed session makes them. */
const wholeFiles = () =>
  withMemoryDir(async dir => {
    await sealLayer(dir, { map, stream });
    return filesOf(dir);
  });

describe('a partial replica file', () => {
  it('stores map and metadata before any data, in directories that it makes', async () => {
    await withMemoryDir(async dir => {
      const directory = join(dir, 'host', 'vda');
      const sink = await openSink(directory);
      expect([...(await filesOf(directory)).keys()]).toEqual(
        ['.map', '.partial', '.progress'].map(end => finalName + end),
      );
      expect(sink.durableBytes).toBe(0);
      expect(await readStoredMap(directory, finalName)).toEqual(map);
      await sink.close();
      await sink.close();
    });
  });

  it('resumes at the last durable byte, and the outcome is the same', async () => {
    await withMemoryDir(async dir => {
      await receiveSome(dir);
      // What was written and never acknowledged may be torn.
      await damage(join(dir, `${finalName}.partial`), dataStart + 2 * MIB + 100);
      const sink = await openSink(dir);
      expect(sink.durableBytes).toBe(2 * MIB);
      await sink.close();
      await receiveRest(dir);
      expect(await filesOf(dir)).toEqual(await wholeFiles());
    });
  });

  it('refuses bytes out of order, or more than the map has, and stays usable', async () => {
    await withMemoryDir(async dir => {
      const sink = await openSink(dir);
      await expect(sink.write(stream.subarray(0, 10), 5)).rejects.toThrow(RangeError);
      await expect(sink.write(Buffer.alloc(map.dataBytes + 1), 0)).rejects.toThrow(RangeError);
      await expect(sink.finish()).rejects.toThrow(RangeError);
      await sink.close();
      await expect(sink.flush()).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
      await receiveRest(dir);
    });
  });

  it('takes the older slot when the newer progress is torn, and starts anew when both are', async () => {
    await withMemoryDir(async dir => {
      await receiveSome(dir);
      const progress = join(dir, `${finalName}.progress`);
      // The second store has sequence 2 and stands in slot 0.
      await damage(progress, 24);
      // Opening writes it again, into the slot that was torn: both are whole then.
      expect(await durableBytes(dir)).toBe(MIB);
      await damage(progress, 24);
      await damage(progress, 512 + 500);
      expect(await durableBytes(dir)).toBe(0);
      await receiveRest(dir);
      expect(await filesOf(dir)).toEqual(await wholeFiles());
    });
  });

  it('never lets durable progress fall when an older epoch is still writing', async () => {
    await withMemoryDir(async dir => {
      const old = await openSink(dir);
      await old.write(stream.subarray(0, MIB), 0);
      const young = await openSink(dir);
      await young.write(stream.subarray(0, 2 * MIB), 0);
      expect(await young.flush()).toBe(2 * MIB);
      expect(await old.flush()).toBe(MIB);
      await old.write(stream.subarray(MIB, MIB + 500), MIB);
      expect(await old.flush()).toBe(MIB + 500);
      expect(await durableBytes(dir)).toBe(2 * MIB);
      await young.write(stream.subarray(2 * MIB), 2 * MIB);
      const contentDigest = toHex(await young.finish());
      await sealPartial({ directory: dir, finalName, contentDigest });
      await old.write(stream.subarray(MIB + 500, MIB + 1000), MIB + 500);
      await old.flush();
      await old.close();
      await young.close();
      expect(await filesOf(dir)).toEqual(await wholeFiles());
    });
  });

  it('starts anew when the image is gone or cut though progress is there', async () => {
    await withMemoryDir(async dir => {
      await receiveSome(dir);
      await truncate(join(dir, `${finalName}.partial`), dataStart + 1000);
      expect(await durableBytes(dir)).toBe(0);
      await receiveRest(dir);
      expect(await filesOf(dir)).toEqual(await wholeFiles());
    });
  });

  it('takes a torn map for none, writes it again, and keeps the progress', async () => {
    await withMemoryDir(async dir => {
      await receiveSome(dir);
      const path = join(dir, `${finalName}.map`);
      for (const tear of [
        () => truncate(path, 20),
        () => damage(path, 30),
        () => writeFile(path, ''),
        () => writeFile(path, Buffer.alloc(200)),
      ]) {
        await tear();
        expect(await readStoredMap(dir, finalName)).toBeNull();
      }
      expect(await durableBytes(dir)).toBe(2 * MIB);
      expect(await readStoredMap(dir, finalName)).toEqual(map);
    });
  });

  it('never opens a file of another layout', async () => {
    await withMemoryDir(async dir => {
      await receiveSome(dir);
      const before = await filesOf(dir);
      const other = mapOf(4 * MIB, 65536, [['data', 1]]);
      const backing = { name: 'base.qcow2', format: 'qcow2' } as const;
      for (const layout of [
        { map: other, backing: null },
        { map, backing },
      ]) {
        await expect(openPartial({ directory: dir, finalName, ...layout })).rejects.toMatchObject({
          code: 'ReplicaFileInvalid',
        });
      }
      expect(await filesOf(dir)).toEqual(before);
    });
  });

  it.each(['', 'vda.qcow2', `../${finalName}`, `${finalName}.partial`])('refuses the final name "%s"', name =>
    withMemoryDir(async dir => {
      const open = openPartial({ directory: dir, finalName: name, map, backing: null });
      await expect(open).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
      expect((await filesOf(dir)).size).toBe(0);
    }),
  );

  it('starts anew after both sites disagreed on a stream that came whole', async () => {
    await withMemoryDir(async dir => {
      const sink = await openSink(dir);
      expect(sink.dataBytes).toBe(map.dataBytes);
      await sink.write(Buffer.from(stream).fill(0, 1000, 2000), 0);
      await sink.finish();
      await sink.discard?.();
      await sink.close();
      expect(await durableBytes(dir)).toBe(0);
      await receiveRest(dir);
      expect(await filesOf(dir)).toEqual(await wholeFiles());
    });
  });
});

describe('sealing', () => {
  it('leaves a read-only image with its digest file, and finds it done', async () => {
    await withMemoryDir(async dir => {
      const contentDigest = await receiveRest(dir);
      const before = await filesOf(dir);
      expect([...before.keys()]).toEqual([finalName, `${finalName}.digests`]);
      expect((await stat(join(dir, finalName))).mode & 0o777).toBe(0o444);
      await sealPartial({ directory: dir, finalName, contentDigest });
      expect(await filesOf(dir)).toEqual(before);
    });
  });

  it('refuses what both sites did not agree on', async () => {
    await withMemoryDir(async dir => {
      const wrong = { directory: dir, finalName, contentDigest: '0'.repeat(32) };
      await expect(sealPartial(wrong)).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
      const sink = await openSink(dir);
      await sink.write(stream, 0);
      await sink.finish();
      await sink.close();
      await expect(sealPartial(wrong)).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
      expect(existsSync(join(dir, finalName))).toBe(false);
    });
  });

  it('makes a damaged digest file anew from the image', async () => {
    await withMemoryDir(async dir => {
      const sink = await openSink(dir);
      await sink.write(stream, 0);
      const contentDigest = toHex(await sink.finish());
      await sink.close();
      await damage(join(dir, `${finalName}.digests`), 100);
      await sealPartial({ directory: dir, finalName, contentDigest });
      expect(await filesOf(dir)).toEqual(await wholeFiles());
    });
  });

  it('opens a sealed layer of the same layout as one that is whole', async () => {
    await withMemoryDir(async dir => {
      const contentDigest = await receiveRest(dir);
      const sink = await openSink(dir);
      expect(sink.durableBytes).toBe(map.dataBytes);
      expect(await sink.flush()).toBe(map.dataBytes);
      expect(toHex(await sink.finish())).toBe(contentDigest);
      await expect(sink.discard?.()).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
      await sink.close();
      await damage(join(dir, finalName), dataStart + 77);
      await expect(openSink(dir)).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
    });
  });

  it('removes every file of a layer, and counts them', async () => {
    await withMemoryDir(async dir => {
      await receiveSome(dir);
      expect(await removeReplicaFiles(join(dir, finalName))).toBe(3);
      await receiveRest(dir);
      expect(await removeReplicaFiles(join(dir, finalName))).toBe(2);
      expect(await removeReplicaFiles(join(dir, finalName))).toBe(0);
      expect((await filesOf(dir)).size).toBe(0);
      await expect(removeReplicaFiles(join(dir, 'other.qcow2'))).rejects.toMatchObject({
        code: 'ReplicaFileInvalid',
      });
    });
  });
});

describe('a sealed layer at rest', () => {
  it('names the blocks that are damaged', async () => {
    await withMemoryDir(async dir => {
      const path = join(dir, await sealLayer(dir, { map, stream }));
      const verify = () => verifySealed(path, { imageRoots: [dir] });
      expect(await verify()).toMatchObject({
        damage: null,
        damagedBlocks: [],
        checkedBytes: dataStart + map.dataBytes,
        file: { contentDigest: expect.stringMatching(/^[0-9a-f]{32}$/) },
      });
      // Stream position 1.25 MiB is guest offset 1.5 MiB, behind four clusters of zeros.
      await damage(path, dataStart + 20 * 65536);
      await damage(path, dataStart + map.dataBytes - 10);
      expect(await verify()).toMatchObject({
        damage: '2 of its 4 blocks of 1 MiB differ, the first at guest MiB 1',
        damagedBlocks: [1, 3],
      });
      await truncate(path, dataStart + MIB);
      expect((await verify()).damage).toContain('lies outside the file');
    });
  });

  it('compares every byte of header and tables with what the map gives', async () => {
    await withMemoryDir(async dir => {
      const path = join(dir, await sealLayer(dir, { map, stream }));
      const pristine = await readFile(path);
      for (let at = 0; at < dataStart; at += 4099) {
        await damage(path, at);
        const { damage: found } = await verifySealed(path, { imageRoots: [dir] });
        expect(found, `byte ${at}`).not.toBeNull();
        await chmod(path, 0o644);
        await writeFile(path, pristine);
      }
      expect((await verifySealed(path, { imageRoots: [dir] })).damage).toBeNull();
    });
  });

  it('tells a file, a base or a digest file that is not the one that was recorded', async () => {
    await withMemoryDir(async dir => {
      const path = join(dir, await sealLayer(dir, { map, stream }));
      const { file } = await verifySealed(path, { imageRoots: [dir] });
      const sealed = file ?? { sizeBytes: 0, contentDigest: '' };
      const verify = (options: object) => verifySealed(path, { imageRoots: [dir], sealed, ...options });
      expect((await verify({})).damage).toBeNull();
      expect((await verify({ baseName: 'other.qcow2' })).damage).toContain('its header names the base null');
      expect((await verify({ sealed: { ...sealed, contentDigest: '0'.repeat(32) } })).damage).toBe(
        'its digest file tells of another content',
      );
      expect((await verify({ sealed: { ...sealed, sizeBytes: 1 } })).damage).toContain('instead of 1');
      const other = join(
        dir,
        await sealLayer(dir, {
          map: mapOf(4 * MIB, 65536, [['data', 50]]),
          stream: randomBytes(50 * 65536, 9),
        }),
      );
      await copyFile(`${other}.digests`, `${path}.digests`);
      expect((await verifySealed(path, { imageRoots: [dir] })).damage).toBe(
        'its tables are not those that were sealed',
      );
      await rm(`${path}.digests`);
      expect((await verify({})).damage).toBe('the digest file is missing');
      await rm(path);
      expect((await verify({})).damage).toBe('the file does not exist');
    });
  });

  it('a reader that may not read it says nothing of it, and what waits before a read may end it', async () => {
    await withMemoryDir(async dir => {
      const path = join(dir, await sealLayer(dir, { map, stream }));
      const taken: number[] = [];
      await verifySealed(path, { imageRoots: [dir], take: async size => void taken.push(size) });
      expect(taken.reduce((sum, size) => sum + size, 0)).toBe(dataStart + map.dataBytes);
      const stopped = verifySealed(path, {
        imageRoots: [dir],
        take: () => Promise.reject(new Error('stop')),
      });
      await expect(stopped).rejects.toThrow('stop');
    });
  });

  it('refuses a digest file that is torn, damaged, foreign or lies', async () => {
    await withMemoryDir(async dir => {
      const path = join(dir, `${await sealLayer(dir, { map, stream })}.digests`);
      const whole = await readFile(path);
      const digests = await readDigestFile(path);
      expect([...digests.blocks()].map(({ block }) => block)).toEqual([0, 1, 2, 3]);
      const hostile = [
        Buffer.alloc(0),
        whole.subarray(0, 60),
        whole.subarray(0, whole.length - 24),
        Buffer.concat([whole, Buffer.alloc(24)]),
        Buffer.from(whole).fill(0xff, 64, 72),
        Buffer.from(whole).fill(1, 90, 91),
        Buffer.alloc(300, 0x41),
      ];
      for (const bytes of hostile) {
        await writeFile(path, bytes);
        await expect(readDigestFile(path)).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
      }
    });
  });
});

async function durableBytes(directory: string): Promise<number> {
  const sink = await openSink(directory);
  await sink.close();
  return sink.durableBytes;
}
