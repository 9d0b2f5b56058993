/** The small files beside a replica: map, digests, progress; and a partial layer that is adopted by them. */
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mapDigest } from '../../../src/domain/content-digest.ts';
import { OffsiteError } from '../../../src/domain/errors.ts';
import type { ExtentMap } from '../../../src/domain/extent-map.ts';
import {
  decodeDigestFile,
  type LayerDigests,
  readDigestFile,
  readDigestHead,
} from '../../../src/images/replica/digest-file.ts';
import { ReplicaFileError } from '../../../src/images/replica/errors.ts';
import { decodeMapFile, readMapFile } from '../../../src/images/replica/map-file.ts';
import { layerPaths } from '../../../src/images/replica/names.ts';
import { openPartial } from '../../../src/images/replica/partial.ts';
import { ProgressFile } from '../../../src/images/replica/progress-file.ts';
import { createXxh128 } from '../../../src/lib/digest.ts';
import { must, type Target } from '../campaign.ts';
import type { Random } from '../random.ts';
import { bentDigestFile, bentMapFile, bentProgressFile, MAPS } from './bend.ts';

const MEMORY_FOLDER = '/dev/shm';
const FINAL_NAME = '0190a0b0-1111-4222-8333-444455556666.0123456789abcdef.qcow2';
const MIB = 2 ** 20;

export async function openFileTarget(): Promise<Target> {
  const parent = fs.existsSync(MEMORY_FOLDER) ? MEMORY_FOLDER : tmpdir();
  const folder = fs.mkdtempSync(join(parent, 'offsite-hostile-'));
  const maxima = { 'cases with files': 0 };
  return {
    name: 'files',
    // A partial layer is hashed in pieces of 1 MiB.
    maxBufferBytes: MIB,
    maxCaseBytes: 8 * MIB,
    maxima,
    async run(random) {
      const kind = random.below(16);
      if (kind < 7) return inMemory(bentMapFile(random), readMapBytes);
      if (kind < 14) return inMemory(bentDigestFile(random), readDigestBytes);
      maxima['cases with files'] += 1;
      if (random.oneIn(32)) return adopt(random, folder);
      if (kind === 14) return progress(random, folder);
      return onDisk(random, folder);
    },
    close: async () => fs.rmSync(folder, { recursive: true }),
  };
}

function inMemory(bytes: Buffer, read: (bytes: Buffer) => string): string {
  try {
    return read(bytes);
  } catch (error) {
    if (error instanceof ReplicaFileError) return error.code;
    throw error;
  }
}

function readMapBytes(bytes: Buffer): string {
  const layout = decodeMapFile(bytes);
  if (layout === null) return 'map sent again';
  checkMap(layout.map);
  const { backing } = layout;
  must(
    backing === null || (backing.name.length > 0 && backing.name.length <= 1023),
    () => 'a backing name too long',
  );
  return 'accepted';
}

function checkMap(map: ExtentMap): void {
  let end = 0;
  for (const { offset, length } of map) {
    must(offset === end && length > 0, () => 'a map with a gap');
    end += length;
  }
  must(end === map.virtualSizeBytes, () => 'a map of another length');
}

function readDigestBytes(bytes: Buffer): string {
  checkDigests(decodeDigestFile('/x.digests', bytes));
  return 'accepted';
}

function checkDigests(digests: LayerDigests): void {
  const { virtualSizeBytes, clusterSizeBytes, dataBytes, blockCount } = digests;
  for (const number of [virtualSizeBytes, clusterSizeBytes, dataBytes, blockCount]) {
    must(Number.isSafeInteger(number) && number >= 0, () => `a digest file with the number ${number}`);
  }
  must(dataBytes <= virtualSizeBytes, () => `${dataBytes} data bytes of a disk of ${virtualSizeBytes}`);
  must(clusterSizeBytes >= 512 && clusterSizeBytes <= 2 * MIB, () => `clusters of ${clusterSizeBytes} bytes`);
  let last = -1;
  let count = 0;
  for (const { block, digest } of digests.blocks()) {
    must(block > last && block * MIB < virtualSizeBytes, () => `block ${block} after ${last}`);
    must(digest.length === 16, () => 'a digest of another length');
    last = block;
    count += 1;
  }
  must(count === blockCount, () => `${count} blocks instead of ${blockCount}`);
}

async function onDisk(random: Random, folder: string): Promise<string> {
  const path = join(folder, 'sidecar');
  try {
    if (random.oneIn(2)) {
      fs.writeFileSync(path, bentMapFile(random));
      const layout = await readMapFile(path);
      if (layout === null) return 'map sent again';
      checkMap(layout.map);
      return 'accepted';
    }
    fs.writeFileSync(path, bentDigestFile(random));
    const head = await readDigestHead(path);
    must(head.contentDigest.length === 16, () => 'a digest of another length');
    checkDigests(await readDigestFile(path));
    return 'accepted';
  } catch (error) {
    if (error instanceof ReplicaFileError) return error.code;
    throw error;
  }
}

async function progress(random: Random, folder: string): Promise<string> {
  const path = join(folder, 'progress');
  fs.writeFileSync(path, bentProgressFile(random));
  const digest = mapDigest(MAPS[0] as ExtentMap, createXxh128);
  const file = await ProgressFile.open(path, digest);
  try {
    const before = await file.durableBytes();
    must(Number.isSafeInteger(before) && before >= 0, () => `a progress of ${before} bytes`);
    await file.store(2048);
    const after = await file.durableBytes();
    must(after === Math.max(before, 2048), () => `a progress of ${after} bytes after ${before} and 2048`);
    return before === 0 ? 'begins anew' : 'accepted';
  } finally {
    await file.close();
  }
}

/** Opens a partial layer whose sidecars and image are bent: at worst it starts anew. */
async function adopt(random: Random, folder: string): Promise<string> {
  const directory = join(folder, 'layer');
  const paths = layerPaths(directory, FINAL_NAME);
  const map = MAPS[0] as ExtentMap;
  fs.rmSync(directory, { recursive: true, force: true });
  fs.mkdirSync(directory);
  if (!random.oneIn(4)) fs.writeFileSync(paths.progress, bentProgressFile(random));
  if (!random.oneIn(4)) fs.writeFileSync(paths.map, bentMapFile(random));
  if (!random.oneIn(4)) fs.writeFileSync(paths.partial, Buffer.from(new Uint8Array(random.below(80_000))));
  if (random.oneIn(8)) fs.writeFileSync(paths.final, random.bytes(100));
  if (random.oneIn(4)) fs.writeFileSync(paths.digests, bentDigestFile(random));
  try {
    const replica = await openPartial({ directory, finalName: FINAL_NAME, map, backing: null });
    const { durableBytes, dataBytes } = replica;
    await replica.close();
    must(dataBytes === map.dataBytes, () => 'another map');
    must(
      durableBytes >= 0 && durableBytes <= dataBytes,
      () => `${durableBytes} of ${dataBytes} bytes are adopted`,
    );
    return durableBytes === 0 ? 'begins anew' : 'accepted';
  } catch (error) {
    if (error instanceof OffsiteError) return error.code;
    throw error;
  }
}
