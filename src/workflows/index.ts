/** All workflows: what a worker bundles. */
export { remoteBackupDiskTask } from './remote-backup-disk-task.ts';
export { remoteBackupRelease } from './remote-backup-release.ts';
export { remoteBackupSchedule } from './remote-backup-schedule.ts';
export { remoteBackupTask } from './remote-backup-task.ts';
