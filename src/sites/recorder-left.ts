/** Ends what a recorder that died left open. */
import type { Checkpoint, OpenEpoch } from '../catalog/source-epochs.ts';
import { newestCheckpoint } from '../images/cdp/newest-checkpoint.ts';
import type { Log } from '../lib/log.ts';
import type { RecorderSettings } from './recorder-settings.ts';

const REASON = 'its recorder ended without a word';

/** Each ends at the newest checkpoint that every disk's journal has. */
export async function endLeftEpochs(
  epochs: RecorderSettings['epochs'],
  host: string,
  log: Log,
): Promise<void> {
  for (const left of await epochs.openEpochs(host)) {
    const newest = await commonCheckpoint(left).catch(error => {
      // What was noted before was durable; the journal itself is judged where it is read.
      log.error(
        { error, epoch: left.uuid },
        'a journal cannot be read: its epoch ends where it was noted last',
      );
      return null;
    });
    await epochs.endEpoch({ uuid: left.uuid, reason: REASON, checkpoint: newest });
    log.info({ epoch: left.uuid, ...(newest ?? {}) }, 'an epoch that was left open was ended');
  }
}

/** Checkpoints are set in all journals at once: the least of the newest is in all of them. */
async function commonCheckpoint({ journals }: OpenEpoch): Promise<Checkpoint | null> {
  let least: Checkpoint | null = null;
  for (const { directory } of journals) {
    const newest = await newestCheckpoint(directory);
    if (newest === null) return null;
    if (least === null || newest.sequence < least.sequence) {
      least = { sequence: newest.sequence, atMs: Math.floor(newest.timeUs / 1000) };
    }
  }
  return least;
}
