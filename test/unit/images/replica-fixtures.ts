/** Small layers with known content, and the model of what a chain of them reads as. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mapDigest } from '../../../src/domain/content-digest.ts';
import { type ExtentKind, type ExtentMap, ExtentMapBuilder } from '../../../src/domain/extent-map.ts';
import type { BackingFile } from '../../../src/images/qcow2/layout.ts';
import { openPartial, type StepHook } from '../../../src/images/replica/partial.ts';
import { sealPartial } from '../../../src/images/replica/seal.ts';
import { openIncrement, sealStandAlone } from '../../../src/images/replica/stand-alone.ts';
import { createXxh128, toHex } from '../../../src/lib/digest.ts';

export const SNAPSHOT = '0b0e5f3c-6d1f-4f58-9a52-2f0f6a3f6b11';

/** A run of whole clusters; a length beyond the disk is cut. */
export type Run = readonly [kind: ExtentKind, clusters: number];

/** The rest of the disk is a hole. */
export function mapOf(virtualSizeBytes: number, clusterSizeBytes: number, runs: readonly Run[]): ExtentMap {
  const builder = new ExtentMapBuilder({ virtualSizeBytes, clusterSizeBytes });
  let offset = 0;
  for (const [kind, clusters] of [...runs, ['hole', Number.MAX_SAFE_INTEGER] as const]) {
    const length = Math.min(clusters * clusterSizeBytes, virtualSizeBytes - offset);
    builder.add(kind, length);
    offset += length;
  }
  return builder.build();
}

/** The same bytes for the same seed; no two sectors alike. */
export function randomBytes(length: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  for (let index = 0; index < words.length; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}

/** What a guest reads of a layer over `base`; the base's end clips it. */
export function contentOf(map: ExtentMap, stream: Buffer, base: Buffer | null): Buffer {
  const content = Buffer.alloc(map.virtualSizeBytes);
  let position = 0;
  for (const { offset, length, kind } of map) {
    if (kind === 'hole') base?.subarray(offset, offset + length).copy(content, offset);
    if (kind === 'data') {
      stream.copy(content, offset, position, position + length);
      position += length;
    }
  }
  return content;
}

/** One name for one layout, as the catalog sees to it. */
export function nameOf(map: ExtentMap, backing: BackingFile | null = null, hostSnapshot = SNAPSHOT): string {
  const hasher = createXxh128();
  hasher.update(mapDigest(map, createXxh128));
  hasher.update(Buffer.from(backing?.name ?? ''));
  return `${hostSnapshot}.${toHex(hasher.digest()).slice(0, 16)}.qcow2`;
}

export const readerOf = (stream: Buffer) => async (target: Buffer, position: number) => {
  stream.copy(target, 0, position, position + target.length);
};

/** Receives and seals a whole layer in pieces of `pieceBytes`. @returns its final name */
export async function sealLayer(
  directory: string,
  layer: { map: ExtentMap; stream: Buffer; backing?: BackingFile | null; hostSnapshot?: string },
  pieceBytes = 1024 * 1024,
): Promise<string> {
  const { map, stream, backing = null } = layer;
  const finalName = nameOf(map, backing, layer.hostSnapshot);
  const replica = await openPartial({ directory, finalName, map, backing });
  try {
    for (let at = replica.durableBytes; at < stream.length; at += pieceBytes) {
      await replica.write(stream.subarray(at, at + pieceBytes), at);
    }
    const contentDigest = toHex(await replica.finish());
    await sealPartial({ directory, finalName, contentDigest });
  } finally {
    await replica.close();
  }
  return finalName;
}

/** Every file of a directory, as length and SHA-256. */
export async function filesOf(directory: string): Promise<Map<string, string>> {
  const names = (await readdir(directory)).sort();
  const entries = await Promise.all(
    names.map(async name => {
      const bytes = await readFile(join(directory, name));
      return [name, `${bytes.length} ${createHash('sha256').update(bytes).digest('hex')}`] as const;
    }),
  );
  return new Map(entries);
}

/** A layer whose every step a test may end; twice is as good as once. @returns its final name */
export async function receiveFixedLayer(directory: string, onStep: StepHook): Promise<string> {
  const map = mapOf(3 * 1024 * 1024 + 512, 65536, [
    ['data', 10],
    ['zero', 3],
    ['hole', 5],
    ['data', 40],
  ]);
  const stream = randomBytes(map.dataBytes, 7);
  const finalName = nameOf(map);
  const replica = await openPartial({ directory, finalName, map, backing: null, onStep });
  const pieceBytes = 1_700_000;
  for (let at = replica.durableBytes; at < stream.length; at += pieceBytes) {
    await replica.write(stream.subarray(at, at + pieceBytes), at);
    await replica.flush();
  }
  const contentDigest = toHex(await replica.finish());
  await replica.close();
  await sealPartial({ directory, finalName, contentDigest, onStep });
  return finalName;
}

/** An increment over a sealed base that is sealed stand-alone; as {@link receiveFixedLayer}. */
export async function receiveFixedStandAlone(directory: string, onStep: StepHook): Promise<string> {
  const base = await sealFixedBase(directory);
  const map = mapOf(3 * 1024 * 1024, 65536, [
    ['hole', 6],
    ['data', 9],
    ['zero', 2],
  ]);
  const stream = randomBytes(map.dataBytes, 9);
  const backing: BackingFile = { name: base, format: 'qcow2' };
  const finalName = nameOf(map, backing);
  const imageRoots = [directory];
  const sink = await openIncrement({ directory, finalName, map, backing, imageRoots, onStep });
  await sink.write(stream.subarray(sink.durableBytes), sink.durableBytes);
  const contentDigest = toHex(await sink.finish());
  await sink.close();
  await sealStandAlone({ directory, finalName, contentDigest, imageRoots, onStep });
  return finalName;
}

/** Sealed once; not part of what is killed. */
const sealFixedBase = (directory: string): Promise<string> => {
  const map = mapOf(2 * 1024 * 1024, 65536, [
    ['data', 12],
    ['hole', 3],
    ['data', 2],
  ]);
  const hostSnapshot = '00000000-0000-4000-8000-000000000000';
  return sealLayer(directory, { map, stream: randomBytes(map.dataBytes, 8), hostSnapshot });
};

/** A fresh directory in memory where there is such a file system: thousands of fsyncs cost nothing there. */
export async function withMemoryDir<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const root = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  const dir = await mkdtemp(join(root, 'offsite-test-'));
  try {
    return await work(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
