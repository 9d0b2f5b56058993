/** The end of a partial file: it becomes a sealed layer. */
import { type FileHandle, rename } from 'node:fs/promises';
import { basename } from 'node:path';
import { toHex } from '../../lib/digest.ts';
import { effect } from '../../lib/fault-points.ts';
import { readDigestFile } from './digest-file.ts';
import {
  assertOwnFolders,
  namingFullDisk,
  openOrNull,
  openRegular,
  removeFile,
  statOrNull,
  syncDirectory,
  syncing,
} from './durable-files.ts';
import { ReplicaFileError } from './errors.ts';
import { readMapFile } from './map-file.ts';
import { type LayerPaths, layerPaths } from './names.ts';
import { openPartial, type StepHook } from './partial.ts';

export interface SealInput {
  readonly directory: string;
  readonly finalName: string;
  /** What both sites agreed on: hexadecimal, 32 digits, as the contract's messages carry it. */
  readonly contentDigest: string;
  readonly onStep?: StepHook | undefined;
}

const WRITE_BITS = 0o222;

/**
 * Seals a received layer, in this order: image fsynced; digest file there and fsynced; renamed to its final
 * name; directory fsynced; read-only; map and progress removed. Any step may be the last before a crash:
 * the next call goes on from what it finds.
 * @returns the final path
 * @throws {ReplicaFileError} when neither file is there, or the content is not what was agreed on
 * @throws {DiskFullError} @throws {SyncFailedError} when the image is not to be relied upon any more
 */
export async function sealPartial(input: SealInput): Promise<{ path: string }> {
  const { final } = layerPaths(input.directory, input.finalName);
  // A name in a folder may need room, too.
  return namingFullDisk(
    final,
    () => 0,
    () => sealInOrder(input),
  );
}

async function sealInOrder(input: SealInput): Promise<{ path: string }> {
  const { directory, finalName, contentDigest } = input;
  const step = (name: string) => input.onStep?.(name);
  const paths = layerPaths(directory, finalName);
  await assertOwnFolders(directory);
  if ((await statOrNull(paths.final)) === null) {
    await syncImage(paths);
    step('image-synced');
    await ensureDigests(paths, contentDigest);
    step('digests-synced');
    await effect('replica.seal.rename', () => rename(paths.partial, paths.final));
    step('renamed');
  } else {
    await assertDigests(paths, contentDigest);
  }
  await syncDirectory(directory, 'replica.seal.syncDirectory');
  step('directory-synced');
  await makeReadOnly(paths.final);
  step('read-only');
  for (const path of [paths.partial, paths.map, paths.progress])
    await removeFile(path, 'replica.seal.unlinkSidecars');
  step('sidecars-removed');
  await syncDirectory(directory, 'replica.seal.syncUnlinked');
  return { path: paths.final };
}

async function syncImage(paths: LayerPaths): Promise<void> {
  const file = await openOrNull(paths.partial, 'r+');
  if (file === null) throw new ReplicaFileError(paths.partial, 'there is nothing to seal');
  await usingFile(file, () => syncing(paths.partial, () => effect('replica.seal.fsync', () => file.sync())));
}

/**
 * The digest file comes with the last byte received; a damaged one is made anew from the image.
 * @throws {ReplicaFileError} when the layer was not received whole, or not as both sites agreed
 */
export async function ensureDigests(paths: LayerPaths, contentDigest: string): Promise<void> {
  if (await hasDigests(paths, contentDigest)) {
    try {
      await usingFile(await openRegular(paths.digests, 'r'), file =>
        effect('replica.seal.syncDigests', () => file.sync()),
      );
    } catch (error) {
      // The next attempt makes it anew from the image.
      await removeFile(paths.digests, 'replica.seal.unlinkDigests');
      throw error;
    }
  } else {
    await rebuildDigests(paths);
    await assertDigests(paths, contentDigest);
  }
  await syncDirectory(paths.directory, 'replica.seal.syncNames');
}

async function rebuildDigests(paths: LayerPaths): Promise<void> {
  const stored = await readMapFile(paths.map);
  if (stored === null) {
    throw new ReplicaFileError(paths.map, 'both the map and the digest file are missing or damaged');
  }
  const replica = await openPartial({
    directory: paths.directory,
    finalName: basename(paths.final),
    ...stored,
  });
  try {
    if (replica.durableBytes < stored.map.dataBytes) {
      throw new ReplicaFileError(paths.partial, 'it was not received whole');
    }
    await replica.finish();
  } finally {
    await replica.close();
  }
}

async function assertDigests(paths: LayerPaths, contentDigest: string): Promise<void> {
  const digests = await readDigestFile(paths.digests);
  if (toHex(digests.contentDigest) !== contentDigest) {
    throw new ReplicaFileError(paths.digests, 'the content is not what both sites agreed on');
  }
}

async function hasDigests(paths: LayerPaths, contentDigest: string): Promise<boolean> {
  try {
    await assertDigests(paths, contentDigest);
    return true;
  } catch (error) {
    if (error instanceof ReplicaFileError) return false;
    throw error;
  }
}

async function makeReadOnly(path: string): Promise<void> {
  await usingFile(await openRegular(path, 'r'), async file => {
    // A retry must not touch the file: its times are part of its proof. Who may read it the umask has decided.
    const mode = (await file.stat()).mode & 0o777;
    if ((mode & WRITE_BITS) !== 0) {
      await effect('replica.seal.chmod', () => file.chmod(mode & ~WRITE_BITS));
    }
    await effect('replica.seal.syncMode', () => file.sync());
  });
}

async function usingFile(file: FileHandle, work: (file: FileHandle) => Promise<void>): Promise<void> {
  try {
    await work(file);
  } finally {
    await file.close();
  }
}
