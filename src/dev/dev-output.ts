/** What `offsite dev` tells while it runs; src/cli/render/ says it in words. */
import type { TaskSummary } from '../contract/schedule.ts';
import type { ScheduleProgress } from '../orchestration/orchestrator.ts';
import type { DevSites } from './dev-layout.ts';
import type { Verification } from './verify.ts';

export interface DevOutput {
  /** A line about what happens. */
  say(text: string): void;
  /** Both sites run. @param pids by process name */
  started(sites: DevSites, pids: Readonly<Record<string, number>>): void;
  imported(snapshot: {
    readonly host: string;
    readonly snapshot: string;
    readonly created: boolean;
    readonly disks: readonly { readonly disk: string; readonly path: string }[];
  }): void;
  /** Called a few times a second while a task runs. */
  progress(progress: ScheduleProgress): void;
  finished(task: TaskSummary): void;
  verified(disk: string, replicaPath: string, result: Verification): void;
  /** The main job is done and the sites stay up: what to type next. */
  next(sites: DevSites, host: string): void;
}
