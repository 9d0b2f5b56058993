/** Looks at the operator's own images before anything is started: what cannot be read is told at once. */
import { openChain } from '../images/chain.ts';
import { assertNotInUse } from '../images/in-use.ts';

/** @throws {ImageError} of the first image that cannot be replicated, or that something writes to */
export async function inspectDisks(
  disks: readonly { readonly path: string }[],
  imageRoots: readonly string[],
): Promise<void> {
  for (const { path } of disks) {
    const chain = await openChain(path, { imageRoots });
    try {
      for (const layer of chain.layers) await assertNotInUse(layer);
    } finally {
      await chain.close();
    }
  }
}
