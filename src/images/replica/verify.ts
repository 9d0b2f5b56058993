/** A sealed layer at rest: is every byte of its file still what both sites agreed on? */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { BLOCK_BYTES } from '../../domain/content-digest.ts';
import type { ExtentMap } from '../../domain/extent-map.ts';
import type { SealedFile } from '../../domain/sealed-file.ts';
import { createXxh128, toHex } from '../../lib/digest.ts';
import { ChainCache } from '../chain-cache.ts';
import { ImageFile, type OpenImage } from '../chain-file.ts';
import { ImageError, ImageUnreadableError } from '../errors.ts';
import { fileStateOf } from '../proof.ts';
import { computeLayout, metadataChunks } from '../qcow2/layout.ts';
import { Qcow2Layer } from '../qcow2/qcow2-layer.ts';
import { errorCode } from './durable-files.ts';
import { ReplicaFileError } from './errors.ts';
import { type SealedParts, sealedPartsOf } from './sealed-parts.ts';

export interface VerifyOptions {
  /** The folders below which the file must lie. */
  readonly imageRoots: readonly string[];
  /** What was recorded when it was sealed: its size and content are compared; left out, the digest file alone counts. */
  readonly sealed?: Pick<SealedFile, 'sizeBytes' | 'contentDigest'>;
  /** The base's file name as the catalog knows it, null for none; left out, what the header says is taken. */
  readonly baseName?: string | null;
  /** Called before each read, with its size: waits as long as it likes. */
  readonly take?: (sizeBytes: number) => Promise<void>;
}

export interface VerifyResult {
  /** What is wrong, in words; null when the file is what was sealed. */
  readonly damage: string | null;
  /** Guest offsets divided by 1 MiB, rising: blocks whose bytes differ or cannot be read. */
  readonly damagedBlocks: readonly number[];
  /** Bytes of the file that were read and compared. */
  readonly checkedBytes: number;
  /** What the file is now; null when it cannot be looked at. */
  readonly file: SealedFile | null;
}

/**
 * Reads a sealed layer whole: its digest file against itself and what was recorded; its header and tables against
 * those that its map gives, byte by byte; its data against the digest of each block.
 * @param path the final path; the digest file lies beside it
 * @throws what says nothing about the file: no permission to read it, too many open files, what `take` throws
 */
export async function verifySealed(path: string, options: VerifyOptions): Promise<VerifyResult> {
  const verifier = new Verifier(path, options);
  let damage: string | null;
  try {
    damage = await verifier.run();
  } catch (error) {
    damage = faultOf(error);
    if (damage === null) throw error;
  }
  const { damagedBlocks, checkedBytes, file } = verifier;
  return { damage, damagedBlocks, checkedBytes, file };
}

class Verifier {
  readonly damagedBlocks: number[] = [];
  checkedBytes = 0;
  file: SealedFile | null = null;
  readonly #path: string;
  readonly #options: VerifyOptions;

  constructor(path: string, options: VerifyOptions) {
    this.#path = path;
    this.#options = options;
  }

  /** @returns what is wrong, null for nothing */
  async run(): Promise<string | null> {
    const file = await ImageFile.open(this.#path, this.#options.imageRoots);
    try {
      const { sealed } = this.#options;
      if (sealed !== undefined && file.sizeBytes !== sealed.sizeBytes) {
        return `its file has ${file.sizeBytes} bytes instead of ${sealed.sizeBytes}`;
      }
      const layer = await Qcow2Layer.open(file, new ChainCache(), 0);
      const parts = await sealedPartsOf(layer, `${this.#path}.digests`);
      const contentDigest = toHex(parts.digests.contentDigest);
      this.file = { ...fileStateOf(file.stats), contentDigest };
      if (sealed !== undefined && contentDigest !== sealed.contentDigest) {
        return 'its digest file tells of another content';
      }
      return (
        (await this.#compareTables(layer, parts)) ??
        (await this.#compareBlocks(file, parts)) ??
        (await this.#changedMeanwhile(file))
      );
    } finally {
      await file.close();
    }
  }

  /** Every byte before the data follows from the map and the base's name. */
  async #compareTables({ header, file }: Qcow2Layer, { map }: SealedParts): Promise<string | null> {
    const { backingName: name, backingFormat } = header;
    const { baseName } = this.#options;
    if (baseName !== undefined && (name === null ? null : basename(name)) !== baseName) {
      return `its header names the base ${JSON.stringify(name)} instead of ${JSON.stringify(baseName)}`;
    }
    const backing =
      name === null ? null : ({ name, format: backingFormat === 'raw' ? backingFormat : 'qcow2' } as const);
    const layout = computeLayout(map, backing);
    if (file.sizeBytes !== layout.fileSizeBytes) {
      return `its file has ${file.sizeBytes} bytes instead of the ${layout.fileSizeBytes} of its layout`;
    }
    let at = 0;
    for (const expected of metadataChunks(layout)) {
      const found = Buffer.allocUnsafe(expected.length);
      await this.#read(file, found, at);
      if (!found.equals(expected))
        return `its header or tables differ within ${expected.length} bytes from ${at} on`;
      at += expected.length;
    }
    return null;
  }

  async #compareBlocks(file: OpenImage, { map, digests, dataStart }: SealedParts): Promise<string | null> {
    const buffer = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, map.dataBytes));
    let index = 0;
    for (const { block, position, length } of streamBlocks(map)) {
      const bytes = buffer.subarray(0, length);
      const expected = index < digests.blockCount ? digests.entry(index) : null;
      const isRight =
        (await this.#canRead(file, bytes, dataStart + position)) &&
        expected?.block === block &&
        xxh128(bytes).equals(expected.digest);
      if (!isRight) this.damagedBlocks.push(block);
      index += 1;
    }
    const [first] = this.damagedBlocks;
    if (first === undefined) return null;
    return `${this.damagedBlocks.length} of its ${index} blocks of 1 MiB differ, the first at guest MiB ${first}`;
  }

  async #changedMeanwhile({ stats }: OpenImage): Promise<string | null> {
    const now = await stat(this.#path, { bigint: true });
    const isSame = now.ino === stats.ino && now.mtimeNs === stats.mtimeNs && now.size === stats.size;
    return isSame ? null : 'it was written to or replaced while it was read';
  }

  /** A block that the storage no longer gives counts as damaged, and the rest is still checked. */
  async #canRead(file: OpenImage, target: Buffer, hostOffset: number): Promise<boolean> {
    await this.#options.take?.(target.length);
    try {
      await file.read(target, hostOffset);
    } catch (error) {
      if (error instanceof ImageError) return false;
      throw error;
    }
    this.checkedBytes += target.length;
    return true;
  }

  async #read(file: OpenImage, target: Buffer, hostOffset: number): Promise<void> {
    await this.#options.take?.(target.length);
    await file.read(target, hostOffset);
    this.checkedBytes += target.length;
  }
}

/** Causes that tell of the reader or the machine, and not of the file. */
const NOT_THE_FILE = new Set(['EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOMEM']);

/** What an error says of the file, in words; null when it says nothing of it. */
function faultOf(error: unknown): string | null {
  const code = errorCode(error instanceof ImageUnreadableError ? error.cause : error);
  if (code !== null && NOT_THE_FILE.has(code)) return null;
  if (error instanceof ImageUnreadableError) return error.fault;
  if (error instanceof ImageError || error instanceof ReplicaFileError) return error.fault;
  return code === 'EIO' ? 'its digest file cannot be read (EIO)' : null;
}

/** Where each guest block's data lies in the stream. A block without data has no place. */
export function* streamBlocks(
  map: ExtentMap,
): Generator<{ block: number; position: number; length: number }, undefined> {
  let block = -1;
  let start = 0;
  let position = 0;
  for (const { offset, length, kind } of map) {
    if (kind !== 'data') continue;
    let at = offset;
    while (at < offset + length) {
      const here = Math.floor(at / BLOCK_BYTES);
      if (here !== block) {
        if (position > start) yield { block, position: start, length: position - start };
        block = here;
        start = position;
      }
      const until = Math.min(offset + length, (here + 1) * BLOCK_BYTES);
      position += until - at;
      at = until;
    }
  }
  if (position > start) yield { block, position: start, length: position - start };
}

function xxh128(bytes: Uint8Array): Buffer {
  const hasher = createXxh128();
  hasher.update(bytes);
  return Buffer.from(hasher.digest());
}
