import { chmod, copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OffsiteError } from '../../../src/domain/errors.ts';
import type { ExtentKind, ExtentMap } from '../../../src/domain/extent-map.ts';
import { openChain } from '../../../src/images/chain.ts';
import type { BackingFile } from '../../../src/images/qcow2/layout.ts';
import { incrementName, layerPaths } from '../../../src/images/replica/names.ts';
import { openPartial } from '../../../src/images/replica/partial.ts';
import { removeReplicaFiles } from '../../../src/images/replica/remove.ts';
import {
  openIncrement,
  type SealStandAloneInput,
  sealStandAlone,
} from '../../../src/images/replica/stand-alone.ts';
import { verifySealed } from '../../../src/images/replica/verify.ts';
import { toHex } from '../../../src/lib/digest.ts';
import { qemuCheck, qemuImg } from '../../support/qemu.ts';
import {
  contentOf,
  filesOf,
  mapOf,
  nameOf,
  type Run,
  randomBytes,
  sealLayer,
  withMemoryDir,
} from './replica-fixtures.ts';

const MIB = 1024 * 1024;
const SOUND = { corruptions: 0, leaks: 0, checkErrors: 0 };

interface Layer {
  readonly map: ExtentMap;
  readonly stream: Buffer;
}

interface Increment extends Layer {
  readonly directory: string;
  readonly finalName: string;
  readonly backing: BackingFile;
  /** What the guest must read of it. */
  readonly content: Buffer;
  readonly imageRoots: readonly string[];
}

const layerOf = (sizeBytes: number, clusterBytes: number, runs: readonly Run[], seed: number): Layer => {
  const map = mapOf(sizeBytes, clusterBytes, runs);
  return { map, stream: randomBytes(map.dataBytes, seed) };
};

/** Seals the layers beneath, and gives the top one as an increment that is still to come. */
async function prepare(directory: string, layers: readonly Layer[]): Promise<Increment> {
  let backing: BackingFile | null = null;
  let content: Buffer | null = null;
  for (const [index, { map, stream }] of layers.slice(0, -1).entries()) {
    const hostSnapshot = `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
    const name: string = await sealLayer(directory, { map, stream, backing, hostSnapshot });
    backing = { name, format: 'qcow2' };
    content = contentOf(map, stream, content);
  }
  const top = layers.at(-1);
  if (top === undefined || backing === null) throw new Error('an increment stands on a layer');
  const { map, stream } = top;
  const finalName = nameOf(map, backing);
  return {
    ...top,
    directory,
    finalName,
    backing,
    content: contentOf(map, stream, content),
    imageRoots: [directory],
  };
}

/** @returns the digest that both sites agree on */
async function receive(increment: Increment): Promise<string> {
  const sink = await openIncrement(increment);
  try {
    await sink.write(increment.stream.subarray(sink.durableBytes), sink.durableBytes);
    return toHex(await sink.finish());
  } finally {
    await sink.close();
  }
}

const seal = async (increment: Increment, more: Partial<SealStandAloneInput> = {}) =>
  sealStandAlone({ ...increment, contentDigest: await receive(increment), ...more });

async function expectSealed({ directory, finalName, content, imageRoots }: Increment): Promise<void> {
  const { final } = layerPaths(directory, finalName);
  expect(await qemuCheck(final)).toEqual(SOUND);
  // Alone in another directory it opens only if it needs no other file.
  await withMemoryDir(async elsewhere => {
    await copyFile(final, join(elsewhere, 'alone.qcow2'));
    await qemuImg(
      'convert',
      '-f',
      'qcow2',
      '-O',
      'raw',
      join(elsewhere, 'alone.qcow2'),
      join(elsewhere, 'raw'),
    );
    expect((await readFile(join(elsewhere, 'raw'))).equals(content)).toBe(true);
  });
  const chain = await openChain(final, { imageRoots });
  try {
    expect(chain.layers).toHaveLength(1);
    expect(await verifySealed(final, { imageRoots })).toMatchObject({ damage: null });
  } finally {
    await chain.close();
  }
}

/** A base of two layers, the lower one larger, the upper in finer clusters, and an increment that grows again. */
const bent = (): readonly Layer[] => [
  layerOf(
    3 * MIB,
    65536,
    [
      ['data', 20],
      ['hole', 8],
      ['data', 20],
    ],
    1,
  ),
  layerOf(
    2 * MIB,
    4096,
    [
      ['hole', 100],
      ['data', 3],
      ['zero', 40],
    ],
    2,
  ),
  layerOf(
    4 * MIB,
    65536,
    [
      ['hole', 1],
      ['data', 2],
      ['hole', 10],
      ['zero', 5],
      ['hole', 20],
      ['data', 1],
    ],
    3,
  ),
];

describe('an increment that is sealed stand-alone', () => {
  it('needs no base any more, and reads as the increment over its base, sizes clipped at every layer', async () => {
    await withMemoryDir(async dir => {
      const increment = await prepare(dir, bent());
      const before = await filesOf(dir);
      await seal(increment);
      await expectSealed(increment);
      const after = await filesOf(dir);
      expect(after.size).toBe(before.size + 2);
      for (const [name, file] of before) expect(after.get(name)).toBe(file);
    });
  });

  it('does so for any chain', async () => {
    const kind = fc.constantFrom<ExtentKind>('data', 'zero', 'hole');
    const layer = fc.integer({ min: 9, max: 21 }).chain(clusterBits => {
      const maxClusters = Math.min(300, Math.max(4, (4 * MIB) / 2 ** clusterBits));
      const run = fc.tuple(kind, fc.integer({ min: 1, max: Math.ceil(maxClusters / 4) }));
      return fc.record({
        clusterBytes: fc.constant(2 ** clusterBits),
        sectors: fc.integer({ min: 0, max: (maxClusters * 2 ** clusterBits) / 512 }),
        runs: fc.array(run, { maxLength: 12 }),
      });
    });
    await fc.assert(
      fc.asyncProperty(fc.array(layer, { minLength: 2, maxLength: 4 }), async shapes => {
        await withMemoryDir(async dir => {
          const layers = shapes.map(({ sectors, clusterBytes, runs }, index) =>
            layerOf(sectors * 512, clusterBytes, runs, index + 1),
          );
          const increment = await prepare(dir, layers);
          await seal(increment);
          await expectSealed(increment);
        });
      }),
      { numRuns: 25 },
    );
  });

  it('copies on where an attempt was ended, and not from a map of another chain', async () => {
    await withMemoryDir(async dir => {
      const increment = await prepare(dir, [
        layerOf(12 * MIB, 65536, [['data', 192]], 1),
        layerOf(12 * MIB, 65536, [['data', 1]], 2),
      ]);
      const stop = new AbortController();
      const ended = seal(increment, {
        signal: stop.signal,
        onProgress: () => stop.abort(new Error('paused')),
      });
      await expect(ended).rejects.toThrow('paused');
      const second = new AbortController();
      const copiedBytes: number[] = [];
      const onProgress = (copied: number) => {
        copiedBytes.push(copied);
        if (copied >= 3 * MIB) second.abort(new Error('paused'));
      };
      await expect(seal(increment, { signal: second.signal, onProgress })).rejects.toThrow('paused');
      expect(copiedBytes).toEqual([2 * MIB, 3 * MIB]);
      const paths = layerPaths(dir, increment.finalName);
      // As if another version had begun it.
      await removeReplicaFiles(paths.final);
      const foreign = {
        directory: dir,
        finalName: increment.finalName,
        map: mapOf(12 * MIB, 4096, []),
        backing: null,
      };
      await (await openPartial(foreign)).close();
      await seal(increment);
      await expectSealed(increment);
    });
  });

  it('counts as received whole when it is sealed already: its own stream is read out of the image', async () => {
    await withMemoryDir(async dir => {
      const increment = await prepare(dir, bent());
      const contentDigest = await receive(increment);
      await sealStandAlone({ ...increment, contentDigest });
      const before = await filesOf(dir);
      const sink = await openIncrement(increment);
      expect(sink.durableBytes).toBe(increment.map.dataBytes);
      expect(toHex(await sink.finish())).toBe(contentDigest);
      await sink.close();
      await sealStandAlone({ ...increment, contentDigest });
      expect(await filesOf(dir)).toEqual(before);
    });
  });

  it('by an attempt that was held up leaves the file alone that another one has sealed meanwhile', async () => {
    await withMemoryDir(async dir => {
      const increment = await prepare(dir, bent());
      const contentDigest = await receive(increment);
      const { final } = layerPaths(dir, increment.finalName);
      let sealed: { mtimeNs: bigint; ctimeNs: bigint } | null = null;
      const assertUnsealed = async () => {
        await sealStandAlone({ ...increment, contentDigest });
        sealed = await stat(final, { bigint: true });
        throw new Error('another attempt has sealed the file');
      };
      const late = sealStandAlone({ ...increment, contentDigest, assertUnsealed });
      await expect(late).rejects.toThrow('another attempt');
      expect(await stat(final, { bigint: true })).toEqual(sealed);
      await sealStandAlone({ ...increment, contentDigest });
      await expectSealed(increment);
    });
  });

  it('is not begun when the base is in doubt, nor from an increment that is not as agreed', async () => {
    await withMemoryDir(async dir => {
      const increment = await prepare(dir, bent());
      const proveBase = async () => {
        throw new Error('the base is in doubt');
      };
      await expect(seal(increment, { proveBase })).rejects.toThrow('in doubt');
      await expect(seal(increment, { contentDigest: '0'.repeat(32) })).rejects.toMatchObject({
        code: 'ReplicaFileInvalid',
      });
      const names = [...(await filesOf(dir)).keys()];
      expect(names.filter(name => name.startsWith(`${increment.finalName}.`))).toEqual([]);
      // A digest file that was damaged meanwhile is made anew from what was received.
      await writeFile(join(dir, `${incrementName(increment.finalName)}.digests`), 'damage');
      const { final } = layerPaths(dir, increment.finalName);
      await seal(increment);
      await expectSealed(increment);
      expect(await removeReplicaFiles(final)).toBe(2);
    });
  });

  it('never carries a byte on that the storage has changed in a layer beneath', async () => {
    await withMemoryDir(async dir => {
      const increment = await prepare(dir, bent());
      const bases = [...(await filesOf(dir)).keys()].filter(name => name.endsWith('.qcow2'));
      expect(bases).toHaveLength(2);
      const { final } = layerPaths(dir, increment.finalName);
      const found = new Map<string, number>();
      for (const name of bases) {
        const path = join(dir, name);
        const pristine = await readFile(path);
        await chmod(path, 0o644);
        for (let at = 9; at < pristine.length; at += Math.floor(pristine.length / 40)) {
          await writeFile(path, flipped(pristine, at));
          const error: unknown = await seal(increment).catch(error => error);
          if (error instanceof OffsiteError) {
            expect(error.message).toContain(name);
            found.set(name, (found.get(name) ?? 0) + 1);
          } else {
            // What does not show through is not read.
            await expectSealed(increment);
            await removeReplicaFiles(final);
          }
        }
        await writeFile(path, pristine);
      }
      for (const name of bases) expect(found.get(name)).toBeGreaterThan(10);
      await seal(increment);
      await expectSealed(increment);
    });
  });
});

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}
