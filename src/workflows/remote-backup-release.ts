/** What is left of a schedule that was deleted by force: its source still holds locks for it. */
import { setCurrentDetails } from '@temporalio/workflow';
import { lockTypeOf } from '../contract/names.ts';
import type { ReleaseInput } from '../contract/workflows.ts';
import { sourceStops } from './activity-proxies.ts';

/** Ends when the source has stopped every sender, released every lock and left the tombstone. */
export async function remoteBackupRelease({ spec }: ReleaseInput): Promise<void> {
  const { uuid, name, host, sourceSite } = spec;
  const what = `what site ${sourceSite} holds for ${host}`;
  setCurrentDetails(`**${name}** was deleted by force. Until this ends, ${what} is not released.`);
  await sourceStops(sourceSite, `release ${what}`).retireSchedule({
    scheduleUuid: uuid,
    lockType: lockTypeOf(uuid),
  });
  setCurrentDetails(`**${name}** was deleted by force; ${what} is released.`);
}
