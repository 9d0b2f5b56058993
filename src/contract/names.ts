/** Names that both sites must spell alike: identifiers, workflow ids, task queues, lock types. */

/** The contract's version. Changes are additive; a reader accepts what it does not know. */
export const CONTRACT_VERSION = 1;

/** A site's or node's name: part of task queue names, so a strict set. */
export const SITE_NAME = /^[a-z][a-z0-9-]{0,31}$/;
/** A host's, disk's or schedule's ident. It becomes a file or folder name: no separator, no leading dot. */
export const IDENT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** A lower-case UUID in its usual form of 36 characters. */
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export const WORKFLOW_TYPES = {
  schedule: 'remoteBackupSchedule',
  task: 'remoteBackupTask',
  diskTask: 'remoteBackupDiskTask',
  release: 'remoteBackupRelease',
} as const;

/** What Temporal is searched by: names and types, registered once a namespace. All are of the schedules' workflows. */
export const SEARCH_ATTRIBUTES = {
  host: { name: 'OffsiteHost', type: 'KEYWORD' },
  schedule: { name: 'OffsiteSchedule', type: 'KEYWORD' },
  /** One of `ScheduleActivityState`. */
  state: { name: 'OffsiteState', type: 'KEYWORD' },
  /** Since when A has had something that B lacks; not set while B has everything. */
  behindSince: { name: 'OffsiteBehindSince', type: 'DATETIME' },
} as const;

/** The id of a schedule's workflow: one name a replica site. */
export const scheduleWorkflowId = (replicaSite: string, name: string): string =>
  `schedule/${replicaSite}/${name}`;

export const taskWorkflowId = (taskUuid: string): string => `task/${taskUuid}`;

export const diskWorkflowId = (taskUuid: string, plan: number, disk: string): string =>
  `disk/${taskUuid}/${plan}/${disk}`;

/** What is left of a schedule that was deleted by force: it ends when the source has released everything. */
export const releaseWorkflowId = (scheduleUuid: string): string => `release/${scheduleUuid}`;

/** What removes the replicas of a schedule that was deleted before without a purge: its deletion, once more. */
export const purgeWorkflowId = (scheduleUuid: string): string => `purge/${scheduleUuid}`;

/** What an operator reads of that workflow in a list. */
export const releaseSummary = ({ name, sourceSite }: { name: string; sourceSite: string }): string =>
  `${name}: what site ${sourceSite} still holds`;

/** Catalog work at a source site. */
export const sourceQueue = (site: string): string => `${site}.source`;
/** Workflows and catalog work at a replica site. */
export const replicaQueue = (site: string): string => `${site}.replica`;
/** What must never wait behind bytes, on the node that holds the file. */
export const controlQueue = (site: string, node: string): string => `${site}.${node}.control`;
/** Sending and hashing: few slots. */
export const transferQueue = (site: string, node: string): string => `${site}.${node}.transfer`;

/** Following open journals: slots of its own, since each is held for the whole of a window. */
export const followQueue = (site: string, node: string): string => `${site}.${node}.follow`;

/** The type that all locks of one schedule carry at the source. */
export const lockTypeOf = (scheduleUuid: string): string => `remote_schedule_${scheduleUuid}`;
