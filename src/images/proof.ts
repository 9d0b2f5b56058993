/** Evidence that the files of a chain are still the ones that were seen. */
import type { LayerProof } from '../contract/sync.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import { type ImageChain, openChain } from './chain.ts';

const HEADER_BYTES = 64 * 1024;

/** Proves every layer of a disk, the top first. @throws {ImageError} of its fault */
export async function proveChain(
  topPath: string,
  options: { imageRoots: readonly string[] },
): Promise<LayerProof[]> {
  const chain = await openChain(topPath, options);
  try {
    return await proofsOf(chain);
  } finally {
    await chain.close();
  }
}

/** The proofs of an opened chain, as its files were when it was opened. */
export async function proofsOf(chain: ImageChain): Promise<LayerProof[]> {
  const proofs: LayerProof[] = [];
  for (const index of chain.layers.keys()) {
    const hasher = createXxh128();
    hasher.update(await chain.readFileStart(index, HEADER_BYTES));
    proofs.push({ ...fileStateOf(chain.fileStats(index)), headerDigest: toHex(hasher.digest()) });
  }
  return proofs;
}

/** What the file system says of a file, as a proof has it. */
export function fileStateOf(stats: {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}): Omit<LayerProof, 'headerDigest'> {
  return {
    device: String(stats.dev),
    inode: String(stats.ino),
    sizeBytes: Number(stats.size),
    mtimeNs: String(stats.mtimeNs),
    ctimeNs: String(stats.ctimeNs),
  };
}

/** @returns the first doubt in words, null when both show the same files */
export function compareProofs(before: readonly LayerProof[], after: readonly LayerProof[]): string | null {
  if (before.length !== after.length)
    return `the chain has ${after.length} layers instead of ${before.length}`;
  for (const [index, proof] of before.entries()) {
    const now = after[index];
    const doubt = now === undefined ? 'it is missing' : compareFiles(proof, now);
    if (doubt !== null) return `layer ${index} of the chain (0 is the top): ${doubt}`;
  }
  return null;
}

/** The device is not compared: docs/decisions/0024. */
function compareFiles(before: LayerProof, after: LayerProof): string | null {
  if (before.inode !== after.inode) {
    return `another file (device ${after.device}, inode ${after.inode}) took its place`;
  }
  if (before.sizeBytes !== after.sizeBytes) {
    return `its file has ${after.sizeBytes} bytes instead of ${before.sizeBytes}`;
  }
  if (before.headerDigest !== after.headerDigest) return 'its header was edited';
  if (before.mtimeNs !== after.mtimeNs) return 'its file was written to';
  if (before.ctimeNs !== after.ctimeNs)
    return 'its file was written to, or its owner, mode or links were changed';
  return null;
}
