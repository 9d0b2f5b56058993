/** What a disk's chain of frozen layers is, before it is registered. */
import type { RegisterDisk } from '../catalog/register-snapshot.ts';
import { OffsiteError } from '../domain/errors.ts';
import { openChain } from '../images/chain.ts';
import { assertNotInUse } from '../images/in-use.ts';
import { proofsOf } from '../images/proof.ts';

interface DiskPath {
  readonly disk: string;
  readonly path: string;
}

/**
 * Opens the whole chain as hostile input: what cannot be sent is refused here and not at the first run.
 * @param options.mayBeInUse for layers that QEMU has open, of which it is known otherwise whether it writes to them
 */
export async function inspectDisk(
  { disk, path }: DiskPath,
  node: string,
  imageRoots: readonly string[],
  { mayBeInUse = false }: { readonly mayBeInUse?: boolean } = {},
): Promise<{ disk: RegisterDisk; warnings: readonly string[] }> {
  const chain = await openChain(path, { imageRoots });
  try {
    if (!mayBeInUse) for (const layer of chain.layers) await assertNotInUse(layer);
    const proofs = await proofsOf(chain);
    const [top, ...beneath] = chain.layers.map(({ realPath, identity }, index) => {
      const proof = proofs[index];
      return {
        path: realPath,
        device: identity.device,
        inode: identity.inode,
        ...(proof !== undefined && { proof }),
      };
    });
    if (top === undefined) throw new OffsiteError('InvalidInput', `${path} has no layers`);
    return {
      disk: {
        ...top,
        disk,
        node,
        format: 'qcow2',
        virtualSizeBytes: chain.virtualSizeBytes,
        chain: beneath,
      },
      warnings: chain.warnings,
    };
  } finally {
    await chain.close();
  }
}
