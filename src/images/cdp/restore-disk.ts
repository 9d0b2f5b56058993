/** One disk as it was at a checkpoint of its journal: the replica's base and what the journal has beyond it. */
import { type ImageChain, type OpenChainOptions, openChain } from '../chain.ts';
import { JournalDamagedError, JournalInvalidError } from './errors.ts';
import { readHeader, segmentsOf } from './journal-reader.ts';
import type { ReadBase } from './payload-reader.ts';
import { readReplay, writeReplayImage } from './replay.ts';
import type { JournalIdentity } from './segment.ts';

export interface RestoreDiskInput {
  /** The new overlay; its directory must exist, and no file of this name. */
  readonly path: string;
  /** The journal's folder. */
  readonly directory: string;
  /** Whose journal it must be. */
  readonly identity: JournalIdentity;
  /** The sequence of the checkpoint. */
  readonly checkpoint: number;
  /** The image beneath, absolute. */
  readonly basePath: string;
  readonly chain: OpenChainOptions;
  readonly signal?: AbortSignal;
}

/**
 * Writes a thin overlay over the base, fsynced. Neither the base nor the journal is changed.
 * @throws {JournalDamagedError} when the journal is not whole up to the checkpoint
 * @throws {JournalInvalidError} when it is another one, or has no such checkpoint
 * @throws {ImageError} when the base cannot be read @throws {FileExistsError} @throws {DiskFullError}
 */
export async function restoreDisk(input: RestoreDiskInput): Promise<void> {
  const { path, directory, identity, checkpoint, basePath, signal } = input;
  await assertJournal(directory, identity);
  const base = await openChain(basePath, input.chain);
  try {
    const replay = await readWhole(directory, identity.virtualSizeBytes, checkpoint, signal);
    if (replay.checkpoint?.sequence !== checkpoint) {
      throw new JournalInvalidError(directory, `it has no checkpoint ${checkpoint}`);
    }
    await writeReplayImage({
      ...{ path, directory, index: replay.index, readBase: readerOf(base) },
      base: { name: basePath, format: 'qcow2' },
      ...(signal && { signal }),
    });
  } finally {
    await base.close();
  }
}

async function readWhole(
  directory: string,
  virtualSizeBytes: number,
  untilSequence: number,
  signal: AbortSignal | undefined,
) {
  try {
    return await readReplay(directory, { virtualSizeBytes, untilSequence, ...(signal && { signal }) });
  } catch (error) {
    // A write beyond the disk's end: no recorder makes one.
    if (error instanceof RangeError) throw new JournalInvalidError(directory, error.message);
    throw error;
  }
}

/** A journal is of use from its very first record on only. */
async function assertJournal(directory: string, identity: JournalIdentity): Promise<void> {
  const [segment] = await segmentsOf(directory).catch(error => {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
    throw new JournalInvalidError(directory, 'there is no journal');
  });
  const header = segment === undefined ? null : await readHeader(directory, segment);
  if (header === null) throw new JournalInvalidError(directory, 'there is no journal');
  if (header.segment !== 0) {
    const start = { segment: 0, hostOffset: 0, index: 0, sequence: 0, timeUs: header.timeUs };
    const { segment, firstIndex: index, sequence, timeUs } = header;
    throw new JournalDamagedError(directory, start, { segment, hostOffset: 0, index, sequence, timeUs });
  }
  const { epoch, host, disk, virtualSizeBytes } = identity;
  const isSame =
    header.epoch === epoch &&
    header.host === host &&
    header.disk === disk &&
    header.virtualSizeBytes === virtualSizeBytes;
  if (isSame) return;
  throw new JournalInvalidError(
    directory,
    `it is the journal of ${header.host} ${header.disk}, epoch ${header.epoch}, ${header.virtualSizeBytes} bytes`,
  );
}

/** The base may be shorter than the disk; beyond its end are zeros. */
function readerOf(base: ImageChain): ReadBase {
  return async (target, offset) => {
    const length = Math.max(0, Math.min(target.length, base.virtualSizeBytes - offset));
    target.fill(0, length);
    if (length > 0) await base.read(target.subarray(0, length), offset);
  };
}
