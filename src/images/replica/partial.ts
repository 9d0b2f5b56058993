/** A replica file while it is received: laid out before the first byte, resumed by its durable prefix. */
import type { FileHandle } from 'node:fs/promises';
import { ContentDigester, mapDigest } from '../../domain/content-digest.ts';
import type { ExtentMap } from '../../domain/extent-map.ts';
import { createXxh128 } from '../../lib/digest.ts';
import { effect } from '../../lib/fault-points.ts';
import { type BackingFile, computeLayout, type Qcow2Layout } from '../qcow2/layout.ts';
import { copyStream, writeMetadata } from '../qcow2/writer.ts';
import { readDigestFile, storeDigestFile } from './digest-file.ts';
import {
  allocatedBytes,
  assertOwnFolders,
  makeDirectories,
  namingFullDisk,
  openOrCreate,
  openRegular,
  readFully,
  removeFile,
  statOrNull,
  syncDirectory,
  syncing,
  writeFully,
} from './durable-files.ts';
import { ReplicaFileError } from './errors.ts';
import { storeMapFile } from './map-file.ts';
import { type LayerPaths, layerPaths } from './names.ts';
import { ProgressFile } from './progress-file.ts';
import { FREE_SPACE_ONLY, type SpaceClaim, type SpaceKeeper } from './space.ts';

/** Called after each durable step; a test that throws or dies in it shows what a crash leaves. */
export type StepHook = (step: string) => void;

export interface OpenPartialInput {
  /** `<replica root>/<host>/<disk>`; made where it is missing. */
  readonly directory: string;
  /** As the catalog gives it: one name for one layout. */
  readonly finalName: string;
  /** The map that came, or the one that `readStoredMap` gave. */
  readonly map: ExtentMap;
  readonly backing: BackingFile | null;
  readonly onStep?: StepHook | undefined;
  /** Ends the hashing of the prefix with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Asked for room before anything is made; {@link FREE_SPACE_ONLY} by default. */
  readonly space?: SpaceKeeper | undefined;
}

/** One layer's file, open for the data stream. Calls must not overlap, but for `close`. */
export interface PartialReplica {
  /** The adopted durable prefix of the data stream, already hashed. */
  readonly durableBytes: number;
  /** The length of the whole data stream. */
  readonly dataBytes: number;
  /**
   * Appends to the data stream; `position` must be where the last write ended.
   * @throws {RangeError} elsewhere, or beyond the stream's end: nothing is written @throws {DiskFullError}
   */
  write(bytes: Buffer, position: number): Promise<void>;
  /** Makes all written bytes durable, then the progress. @returns the durable length of the stream */
  flush(): Promise<number>;
  /** Flushes, ends the digest and stores the digest file. @returns the content digest, 16 bytes */
  finish(): Promise<Uint8Array>;
  /**
   * Forgets what is durable, so that the next opening starts at zero: for a stream that came whole but whose
   * digest is not the sender's. @throws {ReplicaFileError} for a layer that is sealed already
   */
  discard(): Promise<void>;
  /** Waits for the call that runs and closes; what is durable stays. */
  close(): Promise<void>;
}

/**
 * Opens a layer's partial file, or makes it: the map first, fsynced with its directory, then the image with
 * its metadata. The durable prefix of an earlier session is read back and hashed, which takes as long as the
 * storage needs to read it. A layer that is sealed already opens as one whose stream is whole.
 * @throws {SyncFailedError} @throws {DiskFullError} when the file system has less room than the rest of the file needs: nothing is made then
 * @throws what else `input.space` throws
 * @throws {ReplicaFileError} when the name belongs to another layout, or a sealed file is damaged
 * @throws {LayoutError} when the map cannot become a qcow2 file
 */
export async function openPartial(input: OpenPartialInput): Promise<PartialReplica> {
  const { directory, finalName, map, backing } = input;
  const layout = computeLayout(map, backing);
  const paths = layerPaths(directory, finalName);
  await assertOwnFolders(directory);
  await makeDirectories(directory);
  if ((await statOrNull(paths.final)) !== null) return openSealed(paths, layout);

  const neededBytes = Math.max(0, layout.fileSizeBytes - (await allocatedBytes(paths.partial)));
  const claim = await (input.space ?? FREE_SPACE_ONLY).claim(paths.partial, neededBytes);
  try {
    return await namingFullDisk(
      paths.partial,
      () => neededBytes,
      () => openClaimed(input, paths, layout, claim),
    );
  } catch (error) {
    claim.release();
    throw error;
  }
}

async function openClaimed(
  input: OpenPartialInput,
  paths: LayerPaths,
  layout: Qcow2Layout,
  claim: SpaceClaim,
): Promise<PartialReplica> {
  const { map, backing } = input;
  const digest = mapDigest(map, createXxh128);
  await storeMapFile(paths, { map, backing });
  input.onStep?.('map-stored');

  const file = await openOrCreate(paths.partial, 'replica.partial.create');
  let progress: ProgressFile | null = null;
  try {
    progress = await ProgressFile.open(paths.progress, digest);
    await syncDirectory(paths.directory, 'replica.partial.syncDirectory');
    input.onStep?.('files-created');
    const durableBytes = await adoptableBytes(file, progress, layout);
    if (durableBytes === 0) {
      // Metadata is durable since the first flush; before that, writing it again heals a torn one.
      await writeMetadata('replica.partial.metadata', file, layout);
      input.onStep?.('metadata-written');
    }
    const digester = await hashPrefix(file, paths.partial, layout, durableBytes, input.signal);
    claim.keep(restBytes(layout, durableBytes));
    return new OpenReplica({
      ...{ paths, layout, mapDigest: digest, file, progress, digester, claim },
      onStep: input.onStep,
    });
  } catch (error) {
    await progress?.close();
    await file.close();
    throw error;
  }
}

const restBytes = (layout: Qcow2Layout, writtenBytes: number): number =>
  Math.max(0, layout.fileSizeBytes - layout.dataStart - writtenBytes);

/** The durable progress, unless the image is too short for it: then the image was replaced, and it starts anew. */
async function adoptableBytes(
  file: FileHandle,
  progress: ProgressFile,
  { map, dataStart }: Qcow2Layout,
): Promise<number> {
  const durableBytes = await progress.durableBytes();
  if (durableBytes === 0) return 0;
  const { size } = await file.stat();
  if (durableBytes <= map.dataBytes && size >= dataStart + durableBytes) {
    await progress.store(durableBytes, true);
    return durableBytes;
  }
  await progress.reset();
  return 0;
}

/** A sealed layer of this very layout: all of it is there, and is hashed again. */
async function openSealed(paths: LayerPaths, layout: Qcow2Layout): Promise<PartialReplica> {
  const digests = await readDigestFile(paths.digests);
  const file = await openRegular(paths.final, 'r');
  try {
    const digester = await hashPrefix(file, paths.final, layout, layout.map.dataBytes);
    const contentDigest = digester.finish();
    if (!Buffer.from(contentDigest).equals(digests.contentDigest)) {
      throw new ReplicaFileError(paths.final, 'the sealed file is damaged: its digest file tells otherwise');
    }
    return new SealedReplica(paths.final, layout.map.dataBytes, contentDigest);
  } finally {
    await file.close();
  }
}

async function hashPrefix(
  file: FileHandle,
  path: string,
  { map, dataStart }: Qcow2Layout,
  bytes: number,
  signal?: AbortSignal,
): Promise<ContentDigester> {
  const digester = new ContentDigester(map, createXxh128);
  await copyStream(
    async (target, position) => {
      signal?.throwIfAborted();
      if ((await readFully(file, target, dataStart + position)) < target.length) {
        throw new ReplicaFileError(path, 'the file is shorter than what it should hold');
      }
    },
    bytes,
    async piece => digester.update(piece),
  );
  return digester;
}

interface OpenReplicaParts {
  readonly paths: LayerPaths;
  readonly layout: Qcow2Layout;
  readonly mapDigest: Uint8Array;
  readonly file: FileHandle;
  readonly progress: ProgressFile;
  readonly digester: ContentDigester;
  readonly claim: SpaceClaim;
  readonly onStep: StepHook | undefined;
}

class OpenReplica implements PartialReplica {
  readonly #parts: OpenReplicaParts;
  #durableBytes: number;
  #writtenBytes: number;
  #contentDigest: Uint8Array | null = null;
  #running: Promise<unknown> = Promise.resolve();
  #state: 'open' | 'failed' | 'closed' = 'open';

  constructor(parts: OpenReplicaParts) {
    this.#parts = parts;
    this.#durableBytes = parts.digester.taken;
    this.#writtenBytes = parts.digester.taken;
  }

  get durableBytes(): number {
    return this.#durableBytes;
  }

  get dataBytes(): number {
    return this.#parts.layout.map.dataBytes;
  }

  async write(bytes: Buffer, position: number): Promise<void> {
    const { file, layout, digester, claim } = this.#parts;
    if (position !== this.#writtenBytes) {
      throw new RangeError(`data for position ${position} came where ${this.#writtenBytes} was due`);
    }
    if (position + bytes.length > layout.map.dataBytes) {
      throw new RangeError('more data than the extent map has');
    }
    await this.#exclusively(async () => {
      // All that was written is acknowledged at such a moment, so that what is refused here need not come twice.
      if (this.#writtenBytes === this.#durableBytes) await claim.assertStillFree();
      await writeFully('replica.partial.write', file, bytes, layout.dataStart + position);
      digester.update(bytes);
      this.#writtenBytes += bytes.length;
    });
  }

  async flush(): Promise<number> {
    await this.#exclusively(() => this.#flush());
    return this.#durableBytes;
  }

  async finish(): Promise<Uint8Array> {
    if (this.#contentDigest !== null) return this.#contentDigest;
    return this.#exclusively(async () => {
      const { paths, layout, mapDigest, file, digester } = this.#parts;
      const contentDigest = digester.finish();
      // Every writer of this layout ends with the same size, so this cuts nothing.
      await effect('replica.partial.truncate', () => file.truncate(layout.fileSizeBytes));
      await this.#flush();
      const { virtualSizeBytes, clusterSizeBytes, dataBytes } = layout.map;
      const head = { virtualSizeBytes, clusterSizeBytes, dataBytes, mapDigest, contentDigest };
      await storeDigestFile(paths.digests, head, digester.entries);
      await syncDirectory(paths.directory, 'replica.digests.syncDirectory');
      this.#step('digests-stored');
      this.#contentDigest = contentDigest;
      return contentDigest;
    });
  }

  async discard(): Promise<void> {
    await this.#exclusively(async () => {
      const { progress, paths } = this.#parts;
      await progress.reset();
      this.#step('progress-reset');
      await removeFile(paths.digests, 'replica.discard.unlinkDigests');
      await syncDirectory(paths.directory, 'replica.discard.syncDirectory');
      this.#durableBytes = 0;
      this.#state = 'failed';
    });
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    await this.#running.catch(() => undefined);
    this.#parts.claim.release();
    await this.#parts.progress.close();
    await this.#parts.file.close();
  }

  async #flush(): Promise<void> {
    const { paths, file, progress, layout, claim } = this.#parts;
    await syncing(paths.partial, () => effect('replica.partial.fdatasync', () => file.datasync()));
    this.#step('data-flushed');
    await progress.store(this.#writtenBytes);
    this.#step('progress-stored');
    this.#durableBytes = this.#writtenBytes;
    claim.keep(restBytes(layout, this.#durableBytes));
  }

  /** After a failure the digest no longer follows the file, so nothing more is taken: open it again. */
  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state !== 'open') {
      throw new ReplicaFileError(this.#parts.paths.partial, `the file is ${this.#state}; open it again`);
    }
    const { layout, paths } = this.#parts;
    const running = namingFullDisk(paths.partial, () => restBytes(layout, this.#writtenBytes), work);
    this.#running = running;
    try {
      return await running;
    } catch (error) {
      if (this.#state === 'open') this.#state = 'failed';
      throw error;
    }
  }

  #step(step: string): void {
    this.#parts.onStep?.(step);
  }
}

/** A layer that is sealed already, for a session that finds all of it there. */
export class SealedReplica implements PartialReplica {
  readonly durableBytes: number;
  readonly dataBytes: number;
  readonly #path: string;
  readonly #contentDigest: Uint8Array;

  constructor(path: string, dataBytes: number, contentDigest: Uint8Array) {
    this.durableBytes = dataBytes;
    this.dataBytes = dataBytes;
    this.#path = path;
    this.#contentDigest = contentDigest;
  }

  async write(bytes: Buffer): Promise<void> {
    if (bytes.length > 0) throw new RangeError('more data than the extent map has');
  }

  async flush(): Promise<number> {
    return this.durableBytes;
  }

  async finish(): Promise<Uint8Array> {
    return this.#contentDigest;
  }

  async discard(): Promise<void> {
    throw new ReplicaFileError(this.#path, 'this layout was sealed before, with other content');
  }

  async close(): Promise<void> {}
}
