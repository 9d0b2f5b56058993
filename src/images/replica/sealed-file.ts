/** Looks whether a sealed file is still the one that was sealed, without reading its data. */
import { lstat } from 'node:fs/promises';
import { type SealedFile, sealedFileDoubt } from '../../domain/sealed-file.ts';
import { toHex } from '../../lib/digest.ts';
import { fileStateOf } from '../proof.ts';
import { readDigestHead } from './digest-file.ts';
import { errorCode } from './durable-files.ts';
import { ReplicaFileError } from './errors.ts';

/**
 * What the catalog is to keep of a sealed file: to be asked after its last change.
 * @throws {ReplicaFileError} when the file is none, or its digest file is missing or no digest file
 */
export async function sealedFileOf(path: string): Promise<SealedFile> {
  const stats = await lstat(path, { bigint: true });
  if (!stats.isFile()) throw new ReplicaFileError(path, 'not a regular file');
  const { contentDigest } = await readDigestHead(`${path}.digests`);
  return { ...fileStateOf(stats), contentDigest: toHex(contentDigest) };
}

/**
 * Compares a file with what was recorded when it was sealed. Cheap: names, times, sizes and the head of the
 * digest file; a byte that the storage lost is found by `verifySealed` only.
 * @returns the doubt in words, null for none; a file that cannot be looked at is in doubt
 */
export async function doubtSealedFile(path: string, sealed: SealedFile | null): Promise<string | null> {
  if (sealed === null) return 'nothing was recorded of its file';
  try {
    return sealedFileDoubt(sealed, await sealedFileOf(path));
  } catch (error) {
    if (error instanceof ReplicaFileError) return error.fault;
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return 'its file is missing (is its folder mounted?)';
    // Too many open files say nothing of this one.
    if (code === null || code === 'EMFILE' || code === 'ENFILE') throw error;
    return `its file cannot be looked at (${code})`;
  }
}
