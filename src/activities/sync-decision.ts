/** Brings the pure decision together with the proofs of the files. */
import type { LayerProof, SyncAnswer, SyncQuery } from '../contract/sync.ts';
import { answerOf, decide, proofDoubt } from '../domain/decision.ts';
import { find, imagesOf } from '../domain/decision-input.ts';
import { OffsiteError } from '../domain/errors.ts';
import type { HostView } from '../domain/host-view.ts';
import type { SourceImages, SyncContext } from './source-ports.ts';

/** Answers the query over this catalog's rows and files. @throws the image's fault when the target cannot be read */
export async function decideSync(
  images: SourceImages,
  query: SyncQuery,
  { view, prevLocked, nodeFingerprints }: SyncContext,
): Promise<SyncAnswer> {
  const prevDoubts = await proveAgain(images, query, view);
  const decision = decide({ query, view, prevDoubts, prevLocked });
  const proofs = new Map<string, readonly LayerProof[]>();
  for (const { disk, path } of decision.target?.disks ?? []) proofs.set(disk, await images.prove(path));
  return answerOf(decision, nodeFingerprints, proofs);
}

/** Looks whether the files of prev are still those that were sent. A file that cannot be read is a doubt. */
async function proveAgain(
  images: SourceImages,
  { prev }: SyncQuery,
  view: HostView | null,
): Promise<Map<string, string | null>> {
  const doubts = new Map<string, string | null>();
  const snapshots = view?.snapshots ?? [];
  const snapshot = prev === null ? undefined : find(snapshots, prev.hostSnapshot);
  const disks = (snapshot === undefined ? null : imagesOf(snapshots, snapshot))?.disks ?? [];
  for (const { disk, path } of disks) {
    const sent = prev?.proofs.find(proof => proof.disk === disk)?.layers ?? [];
    try {
      doubts.set(disk, proofDoubt(sent, await images.prove(path)));
    } catch (error) {
      if (!(error instanceof OffsiteError)) throw error;
      doubts.set(disk, error.message);
    }
  }
  return doubts;
}
