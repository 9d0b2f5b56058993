/**
 * A layer that comes as an increment and is sealed as a stand-alone image, so that chains do not grow without
 * bound. The increment is received like any other, under a name of its own; sealing copies what the guest sees
 * of it and its base into the layer's own file. docs/formats/replica-files.md.
 */
import { ContentDigester } from '../../domain/content-digest.ts';
import { PlanBrokenError } from '../../domain/errors.ts';
import type { ExtentMap } from '../../domain/extent-map.ts';
import { createXxh128, toHex } from '../../lib/digest.ts';
import { openChain } from '../chain.ts';
import { ImageError } from '../errors.ts';
import { guestDigestOf } from '../guest-digest.ts';
import { type ChainLayerSource, openLayerSource } from '../layer-source.ts';
import { proveChain } from '../proof.ts';
import { readDigestFile } from './digest-file.ts';
import { removeFile, statOrNull, syncDirectory } from './durable-files.ts';
import { ReplicaFileError } from './errors.ts';
import { readStoredMap } from './map-file.ts';
import { incrementName, layerPaths } from './names.ts';
import { type OpenPartialInput, openPartial, type PartialReplica, SealedReplica } from './partial.ts';
import { removeLayer } from './remove.ts';
import { ensureDigests, type SealInput, sealPartial } from './seal.ts';
import type { SpaceKeeper } from './space.ts';
import { verifiedLayer } from './verified-layer.ts';

const PIECE_BYTES = 1024 * 1024;
/** What an operator mends, or what passes. */
const UNREADABLE: ReadonlySet<string> = new Set(['ImageUnreadable', 'ImageOutsideRoots']);
const FLUSH_BYTES = 64 * PIECE_BYTES;

/**
 * Opens the increment of a stand-alone layer for its data stream. Of a layer that is sealed already the stream is
 * read out of the image, as far as the map has it, and hashed.
 * @param input.finalName the layer's own, sealed name; `input.backing` is what the increment stands on
 * @throws as `openPartial`, and {ImageError} when a sealed image cannot be read
 */
export async function openIncrement(
  input: OpenPartialInput & { readonly imageRoots: readonly string[] },
): Promise<PartialReplica> {
  const { directory, finalName, map, imageRoots } = input;
  const { final } = layerPaths(directory, finalName);
  if ((await statOrNull(final)) === null) {
    return openPartial({ ...input, finalName: incrementName(finalName) });
  }
  return new SealedReplica(final, map.dataBytes, await digestWithin(final, map, imageRoots));
}

/** The digest of a map's stream as the image's guest would read it. */
async function digestWithin(
  path: string,
  map: ExtentMap,
  imageRoots: readonly string[],
): Promise<Uint8Array> {
  const digester = new ContentDigester(map, createXxh128);
  const chain = await openChain(path, { imageRoots });
  try {
    const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, map.dataBytes));
    for (const { offset, length, kind } of map) {
      if (kind !== 'data') continue;
      for (let at = offset; at < offset + length; at += buffer.length) {
        const piece = buffer.subarray(0, Math.min(buffer.length, offset + length - at));
        await chain.read(piece, at);
        digester.update(piece);
      }
    }
    return digester.finish();
  } finally {
    await chain.close();
  }
}

export interface SealStandAloneInput extends SealInput {
  /** The folders below which increment and base lie. */
  readonly imageRoots: readonly string[];
  /** Called before anything is copied: throws when the base is not what it was. */
  readonly proveBase?: (() => Promise<void>) | undefined;
  /** What the whole disk must be as its guest sees it, hexadecimal; null or absent where nobody said. */
  readonly guestDigest?: string | null;
  /** Asked for room for the copy; by default the file system is looked at once. */
  readonly space?: SpaceKeeper | undefined;
  /** Ends the copying with its reason; what is durable stays. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((copiedBytes: number, totalBytes: number) => void) | undefined;
  /** Called before each write: throws when another attempt has sealed the file since this one began. */
  readonly assertUnsealed?: (() => Promise<void>) | undefined;
}

/**
 * Seals a received increment as a stand-alone image: what the guest sees is copied into the layer's own partial
 * file, resumed by its durable prefix; that file is sealed in the order of {@link sealPartial}; then the
 * increment goes. Any step may be the last before a crash: the next call goes on from what it finds.
 * @param input.contentDigest what both sites agreed on: the increment's. The image has a digest of its own,
 * which its digest file tells
 * @throws {ReplicaFileError} as {@link sealPartial}, and naming the layer whose bytes are not those that were sealed:
 * each block is hashed before a byte of it is copied
 * @throws {DiskFullError} @throws {ImageError} @throws {PlanBrokenError} when a layer of the base changed meanwhile
 */
export async function sealStandAlone(input: SealStandAloneInput): Promise<{ path: string }> {
  const { directory, finalName, onStep } = input;
  const paths = layerPaths(directory, finalName);
  if ((await statOrNull(paths.final)) === null) {
    await input.proveBase?.();
    await copyWhole(input);
  }
  const { contentDigest } = await readDigestFile(paths.digests);
  const sealed = await sealPartial({ directory, finalName, contentDigest: toHex(contentDigest), onStep });
  await removeLayer(layerPaths(directory, incrementName(finalName)));
  onStep?.('increment-removed');
  await syncDirectory(directory, 'replica.standAlone.syncDirectory');
  return sealed;
}

async function copyWhole(input: SealStandAloneInput): Promise<void> {
  const { directory, finalName, contentDigest, imageRoots, onStep, signal } = input;
  const increment = layerPaths(directory, incrementName(finalName));
  await ensureDigests(increment, contentDigest);
  onStep?.('increment-checked');
  const topPath = increment.partial;
  const proof = await proveChain(topPath, { imageRoots }).catch(error => namingIncrement(topPath, error));
  // The copy gets digests of its own: what it is made of must be what was sealed, byte by byte. Of a base that was not
  // proven the outcome is.
  const isBaseProven = input.proveBase !== undefined || input.guestDigest == null;
  const source = await openLayerSource({
    ...{ topPath, basePath: null, imageRoots, proof },
    ...(isBaseProven && { wrapLayer: verifiedLayer }),
  }).catch(error => namingIncrement(topPath, error));
  try {
    await forgetOtherMap(directory, finalName, source.map);
    const target = await openPartial({
      ...{ directory, finalName, map: source.map, backing: null, onStep, signal, space: input.space },
    });
    try {
      await copyRest(source, target, input);
      await source.assertUnchanged();
      await input.assertUnsealed?.();
      await target.finish();
    } finally {
      await target.close();
    }
    await assertGuestContent(input);
  } finally {
    await source.close();
  }
}

/** An increment that is no image any more was one when its bytes came: our own file is damaged. */
function namingIncrement(path: string, error: unknown): never {
  const isDamage = error instanceof ImageError && error.path === path && !UNREADABLE.has(error.code);
  throw isDamage ? new ReplicaFileError(path, error.fault, { cause: error }) : error;
}

/**
 * Where the base was not proven, what was made of it is: read back as the guest sees it. If it is not what the sender
 * read, the base changed since it was hashed, and the copy is of no use.
 * @throws {PlanBrokenError}
 */
async function assertGuestContent(input: SealStandAloneInput): Promise<void> {
  const { directory, finalName, guestDigest, imageRoots, signal, assertUnsealed } = input;
  if (guestDigest == null) return;
  const chain = await openChain(layerPaths(directory, finalName).partial, { imageRoots });
  let found: string;
  try {
    found = await guestDigestOf(chain, signal);
  } finally {
    await chain.close();
  }
  if (found === guestDigest) return;
  await assertUnsealed?.();
  await forgetCopy(directory, finalName);
  throw new PlanBrokenError('what the disk was compared with changed since: the copy of it is another disk');
}

/** An earlier attempt of another version may have mapped the same chain otherwise: its copy is of no use. */
async function forgetOtherMap(directory: string, finalName: string, map: ExtentMap): Promise<void> {
  const stored = await readStoredMap(directory, finalName);
  if (stored === null) return;
  const isSame =
    stored.clusterSizeBytes === map.clusterSizeBytes &&
    stored.virtualSizeBytes === map.virtualSizeBytes &&
    Buffer.from(stored.encoded).equals(map.encoded);
  if (isSame) return;
  await forgetCopy(directory, finalName);
}

/** Never the sealed file: another attempt may have got there meanwhile. */
async function forgetCopy(directory: string, finalName: string): Promise<void> {
  const { partial, progress, digests, map } = layerPaths(directory, finalName);
  for (const path of [partial, progress, digests, map]) {
    await removeFile(path, 'replica.standAlone.unlinkOther');
  }
}

async function copyRest(
  source: ChainLayerSource,
  target: PartialReplica,
  { signal, onProgress, assertUnsealed }: SealStandAloneInput,
): Promise<void> {
  const { dataBytes } = source.map;
  const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, dataBytes));
  for (let position = target.durableBytes; position < dataBytes; ) {
    await assertUnsealed?.();
    if (signal?.aborted) await target.flush();
    signal?.throwIfAborted();
    const piece = buffer.subarray(0, Math.min(buffer.length, dataBytes - position));
    await source.readStream(piece, position);
    await target.write(piece, position);
    position += piece.length;
    if (position - target.durableBytes >= FLUSH_BYTES) await target.flush();
    onProgress?.(position, dataBytes);
  }
}
