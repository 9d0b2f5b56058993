/** The end of a received layer: sealed, or given up where its bytes are not those that came. */
import type { Fence } from '../contract/fence.ts';
import { OffsiteError, PlanBrokenError } from '../domain/errors.ts';
import type { ReplicaCatalog, ReplicaFiles } from './replica-ports.ts';

/**
 * Of these trying again is of no use: what the storage may have lost would seem to be there the next time, and what
 * it damaged stays so.
 */
const LOST: readonly string[] = ['SyncFailed', 'ReplicaFileInvalid'];

/**
 * Seals what a disk task received. A layer whose own bytes were lost or damaged meanwhile is removed, and its task
 * plans anew: it is sent again.
 * @param options as those of {@link ReplicaFiles.seal}
 * @throws {PlanBrokenError} with what is wrong with the file @throws what sealing throws besides
 */
export async function sealReceived(
  { catalog, files }: { catalog: Pick<ReplicaCatalog, 'rejectReceived'>; files: ReplicaFiles },
  { fence, diskTaskUuid }: { fence: Fence; diskTaskUuid: string },
  ...[received, options]: [Parameters<ReplicaFiles['seal']>[1], Parameters<ReplicaFiles['seal']>[2]]
): ReturnType<ReplicaFiles['seal']> {
  try {
    return await files.seal(diskTaskUuid, received, options);
  } catch (error) {
    if (!(error instanceof OffsiteError) || !LOST.includes(error.code)) throw error;
    const file = await catalog.rejectReceived({ fence, diskTaskUuid });
    if (file === null) throw error;
    await files.remove([file]);
    throw new PlanBrokenError(`what was received is not relied upon and is sent again: ${error.message}`, {
      cause: error,
    });
  }
}
