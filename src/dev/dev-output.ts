/** What `offsite dev` tells while it runs; src/cli/render/ says it in words. */
import type { TaskSummary } from '../contract/schedule.ts';
import type { OffsiteError } from '../domain/errors.ts';
import type { ScheduleProgress } from '../orchestration/orchestrator.ts';
import type { DevSites } from './dev-layout.ts';
import type { Verification } from './verify.ts';

/** One disk of a recovery point at site b, and whether it was found equal to its source. */
export interface ReplicatedDisk {
  readonly disk: string;
  /** The replica's top layer. */
  readonly path: string;
  readonly virtualSizeBytes: number;
  readonly equal: boolean;
}

/** What the main job has brought about. */
export interface MainJobResult {
  readonly host: string;
  /** The host snapshot that was replicated, and its recovery point. */
  readonly snapshot: string;
  readonly takenAt: string;
  /** Recovery points of the host at site b. */
  readonly points: number;
  readonly disks: readonly ReplicatedDisk[];
  /** True when every disk is there and equal. */
  readonly verified: boolean;
}

export interface DevOutput {
  /** A line about what happens. */
  say(text: string): void;
  /** Both sites run, and their workers ask for work. */
  started(started: {
    readonly sites: DevSites;
    readonly dataDir: string;
    /** The folder holds what an earlier start has left. */
    readonly isOld: boolean;
    /** By the service's name. */
    readonly pids: Readonly<Record<string, number>>;
  }): void;
  imported(snapshot: {
    readonly host: string;
    readonly snapshot: string;
    readonly created: boolean;
    readonly disks: readonly { readonly disk: string; readonly path: string }[];
    readonly warnings: readonly string[];
  }): void;
  /** Called a few times a second while a task runs. */
  progress(progress: ScheduleProgress): void;
  /** Temporal does not answer just now; it is asked again. */
  silence(error: OffsiteError): void;
  finished(task: TaskSummary): void;
  verified(disk: string, replicaPath: string, result: Verification): void;
  /** The replica has no disk of this name. */
  missing(disk: string): void;
  result(result: MainJobResult): void;
  /** The sites stay up: what to type next. @param host null when there is none yet */
  next(sites: DevSites, host: string | null): void;
}
