/** Is a replica what its source is? Both are hashed whole, and QEMU is asked where it is installed. */

import { openChain } from '../images/chain.ts';
import { hashContent } from '../images/chain-hash.ts';
import { qemuCheck, qemuCompare } from './verify-qemu.ts';

export interface VerifyReplicaOptions {
  /** The top layers' files. */
  readonly sourceTop: string;
  readonly replicaTop: string;
  /** The folders under which all layers must lie. */
  readonly imageRootsSource: readonly string[];
  readonly imageRootsReplica: readonly string[];
  readonly signal?: AbortSignal;
}

export interface Verification {
  /** True when the hashes are equal and QEMU, where it is there, finds neither difference nor fault. */
  readonly equal: boolean;
  /** SHA-256 of the whole guest content, hexadecimal. */
  readonly sourceSha256: string;
  readonly replicaSha256: string;
  /** `qemu-img compare` of both. */
  readonly qemuImg: 'identical' | 'different' | 'not installed';
  /** `qemu-img check` of the replica's top layer. */
  readonly qemuImgCheck: 'clean' | 'faulty' | 'not installed';
}

/** @throws {ImageError} when a file cannot be read as an image @throws {QemuImgError} when qemu-img fails to judge */
export async function verifyReplica(options: VerifyReplicaOptions): Promise<Verification> {
  const { sourceTop, replicaTop, signal } = options;
  const [sourceSha256, replicaSha256] = await Promise.all([
    hashImage(sourceTop, options.imageRootsSource, signal),
    hashImage(replicaTop, options.imageRootsReplica, signal),
  ]);
  const qemuImg = await qemuCompare(sourceTop, replicaTop);
  const qemuImgCheck = await qemuCheck(replicaTop);
  const equal = sourceSha256 === replicaSha256 && qemuImg !== 'different' && qemuImgCheck !== 'faulty';
  return { equal, sourceSha256, replicaSha256, qemuImg, qemuImgCheck };
}

async function hashImage(
  path: string,
  imageRoots: readonly string[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const chain = await openChain(path, { imageRoots });
  try {
    return await hashContent(chain, signal);
  } finally {
    await chain.close();
  }
}
