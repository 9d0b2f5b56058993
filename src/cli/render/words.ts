/** Words for what the workflows do: their steps, their activities, their outcomes. */
import type { TaskOutcome } from '../../contract/schedule.ts';

const STEPS: Readonly<Record<string, string>> = {
  createEmptyTask: 'preparing the task',
  stopPreviousDiskTasks: 'waiting until earlier transfers have ended',
  querySyncInfo: 'asking the source what there is to send',
  releaseOtherLocks: "releasing earlier tasks' locks at the source",
  recordSyncInfo: 'preparing the disks',
  finishTask: 'publishing the recovery point',
  raisePlan: 'planning anew',
  endTask: 'ending the task',
};

/** Where there are more, the bars or rows below tell them. */
const DISKS_TOLD = 4;

/**
 * The step at which a task stands, in words: `sending vda, vdb`.
 * @param step as the task's workflow names it
 */
export function stepWords(step: string, disks: readonly string[]): string {
  if (step === 'diskTasks') {
    if (disks.length === 0) return 'sending the disks';
    return `sending ${disks.length > DISKS_TOLD ? `${disks.length} disks` : disks.join(', ')}`;
  }
  return STEPS[step] ?? inWords(step);
}

const ACTIVITIES: Readonly<Record<string, string>> = {
  ...STEPS,
  registerSchedule: 'registering the schedule',
  planNextRun: 'planning the next run',
  recordPaused: 'noting the pause',
  recordPause: 'noting the pause',
  recordSettings: 'noting the settings',
  beginDelete: 'closing the schedule down',
  retireSchedule: "releasing the schedule's locks at the source",
  releaseUnfinished: 'releasing at the source what was begun',
  giveUpUnfinished: 'dropping what was begun',
  finishDelete: 'dropping what was never published',
  setRate: 'changing the rate',
  remoteBackupSchedule: 'running the schedule',
  remoteBackupTask: 'running the task',
};

const DISK_ACTIVITIES: Readonly<Record<string, (disk: string) => string>> = {
  checkScheduleValid: disk => `asking whether ${disk} is still wanted`,
  openReceiver: disk => `opening the receiver of ${disk}`,
  sendDisk: disk => `sending ${disk}`,
  awaitReceived: disk => `receiving ${disk}`,
  stopSender: disk => `stopping the sender of ${disk}`,
  finishDiskTask: disk => `sealing ${disk}`,
  remoteBackupDiskTask: disk => `replicating ${disk}`,
};

/** What an activity does, in words: `sending vda`. @param disk null above the level of disks */
export function activityWords(activity: string, disk: string | null): string {
  if (disk === null) return ACTIVITIES[activity] ?? inWords(activity);
  return DISK_ACTIVITIES[activity]?.(disk) ?? `${inWords(activity)} of ${disk}`;
}

/** What a newer version calls by a name that is not known here: `giveUpUnfinished` as `give up unfinished`. */
const inWords = (name: string): string =>
  name.replaceAll(/(?<=[a-z])[A-Z]/g, found => ` ${found.toLowerCase()}`);

const OUTCOMES: Readonly<Record<TaskOutcome, string>> = {
  published: 'published',
  upToDate: 'up to date',
  waiting: 'nothing to send yet',
  paused: 'paused',
  stopped: 'stopped',
  superseded: 'superseded',
};

/** How a task ended, in words; `running` while it has not. */
export const outcomeWords = (outcome: TaskOutcome | null): string =>
  outcome === null ? 'running' : (OUTCOMES[outcome] ?? inWords(outcome));

/** How many recovery points of a host are damaged, and where to look. */
export function damageWords(
  host: string,
  damage: { readonly points: number; readonly newest: boolean },
): string {
  const count = damage.points === 1 ? 'a recovery point is' : `${damage.points} recovery points are`;
  const newest = damage.newest ? ', the newest too: the next task sends it again' : ', not the newest';
  return `${count} damaged or in doubt${newest} ('offsite replica list ${host}')`;
}
