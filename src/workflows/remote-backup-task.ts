/** One run of a schedule: decides what to sync, has every disk sent, publishes the recovery point. */
import {
  ApplicationFailure,
  CancellationScope,
  defineQuery,
  executeChild,
  isCancellation,
  ParentClosePolicy,
  setCurrentDetails,
  setHandler,
  sleep,
  TemporalFailure,
} from '@temporalio/workflow';
import type { Fence, SeenFence } from '../contract/fence.ts';
import { diskWorkflowId, replicaQueue } from '../contract/names.ts';
import type { DiskTask, EmptyTask } from '../contract/replica-activities.ts';
import { QUERIES, type TaskOutcome, type TaskStatus, type TaskSummary } from '../contract/schedule.ts';
import type { DiskPlan, SyncAnswer, SyncTarget } from '../contract/sync.ts';
import type { JournalWindow } from '../contract/transfer.ts';
import type { DiskTaskResult, TaskInput, TaskResult } from '../contract/workflows.ts';
import { backoffMs } from '../domain/backoff.ts';
import { AnswerInvalidError } from '../domain/errors.ts';
import { plainWords } from '../domain/plain-words.ts';
import { usableAnswer } from '../domain/usable-answer.ts';
import { replicaCatalog, sourceCatalog, sourceStops } from './activity-proxies.ts';
import { failureCode, failureReason, seenFence } from './failure-codes.ts';
import { remoteBackupDiskTask } from './remote-backup-disk-task.ts';
import { searchAttributesOf } from './schedule-search.ts';
import { taskDetails } from './task-details.ts';

/** So long one task follows an open journal; then another one takes over. */
const FOLLOW_MS = 15 * 60_000;

export const taskStatusQuery = defineQuery<TaskStatus>(QUERIES.taskStatus);

/**
 * Runs one task in the order of the architecture's section on workflows. Where the ground changed it plans anew.
 * Being cancelled (a pause, a delete) is one of its outcomes: it waits until no disk runs any more, and says so.
 */
export async function remoteBackupTask(input: TaskInput): Promise<TaskResult> {
  const run = new TaskRun(input);
  setHandler(taskStatusQuery, () => run.status());
  try {
    return await run.toEnd();
  } catch (error) {
    // A bug fails the workflow's own task instead: it is tried again and heals with the next version.
    if (!(error instanceof TemporalFailure || error instanceof StoppedSignal)) throw error;
    const [outcome, reason] = endingOf(error);
    const seen = outcome === 'superseded' ? seenFence(error) : null;
    return await CancellationScope.nonCancellable(() => run.end(outcome, reason, seen));
  }
}

/** How a task ends that could not go on. */
function endingOf(error: unknown): [Exclude<TaskOutcome, 'published'>, string | null] {
  if (isCancellation(error)) return ['paused', null];
  if (error instanceof StoppedSignal) return ['stopped', error.message];
  if (failureCode(error) === 'Superseded') return ['superseded', failureReason(error)];
  return ['stopped', failureReason(error)];
}

/** A plan that broke, and an answer that cannot be: the source is asked again, after a while. */
const PLANNED_ANEW: readonly (string | null)[] = ['PlanBroken', 'AnswerInvalid'];

/** What the workflow itself relies on, before any activity sees it. Its failure is the task's, not the code's. */
function usable(answer: unknown): SyncAnswer {
  try {
    return usableAnswer(answer);
  } catch (error) {
    if (!(error instanceof AnswerInvalidError)) throw error;
    throw ApplicationFailure.nonRetryable(`${error.message}. ${error.hint}`, error.code);
  }
}

/** Thrown inside a task when a disk found that the schedule does not want it any more. */
class StoppedSignal extends Error {}

class TaskRun {
  readonly #input: TaskInput;
  #task: EmptyTask | null = null;
  #plan = 1;
  #step = 'createEmptyTask';
  #answer: SyncAnswer | null = null;
  /** Why the plan before was given up; null once there is another answer. */
  #anewBecause: string | null = null;
  #isEnded = false;
  readonly #sealedBytes = new Map<string, number>();
  readonly #startedAtMs = Date.now();

  constructor(input: TaskInput) {
    this.#input = input;
  }

  async toEnd(): Promise<TaskResult> {
    const { spec, taskUuid } = this.#input;
    this.#at('createEmptyTask', 'makes its row');
    // Without its generation a task cannot even be ended, so this step is not cut short.
    let task = await CancellationScope.nonCancellable(() =>
      replicaCatalog(spec.replicaSite, 'make the task').createEmptyTask({
        scheduleUuid: spec.uuid,
        taskUuid,
      }),
    );
    this.#task = task;
    this.#plan = task.plan;
    for (let broken = 1; ; broken++) {
      try {
        return await this.#runPlan(task);
      } catch (error) {
        if (!PLANNED_ANEW.includes(failureCode(error))) throw error;
        task = await this.#planAnew(task, failureReason(error), broken);
      }
    }
  }

  /** Steps 2 to 7 under one plan. */
  async #runPlan(task: EmptyTask): Promise<TaskResult> {
    const { spec } = this.#input;
    const fence = this.#fence();
    this.#at('stopPreviousDiskTasks', 'waits until the senders of earlier tasks have ended');
    await sourceStops(spec.sourceSite, 'stop earlier senders').stopPreviousDiskTasks({ fence });

    const answer = await this.#query(task, fence);
    await this.#releaseOtherLocks(task, fence);
    if (answer.target === null) return this.end(answer.waiting ? 'waiting' : 'upToDate', answer.reason);

    this.#at('recordSyncInfo', 'records what is to come');
    const { disks } = await replicaCatalog(spec.replicaSite, 'record what is to come').recordSyncInfo({
      fence,
      taskUuid: task.taskUuid,
      answer,
    });
    this.#at('diskTasks', `sends ${disks.length} ${disks.length === 1 ? 'disk' : 'disks'}`);
    await this.#runDisks(fence, answer.target, disks);
    return this.#publish(task, fence);
  }

  async #query(task: EmptyTask, fence: Fence): Promise<SyncAnswer> {
    const { spec, type } = this.#input;
    this.#at('querySyncInfo', `asks site ${spec.sourceSite} what to sync`);
    const answer: unknown = await sourceCatalog(
      spec.sourceSite,
      'decide what to sync, and lock it',
    ).querySyncInfo({
      fence,
      replicaSite: spec.replicaSite,
      scheduleName: spec.name,
      host: spec.host,
      type,
      taskUuid: task.taskUuid,
      lockType: task.lockType,
      prev: task.prev,
      unfinished: task.unfinished,
      replicaHoldsHost: task.replicaHoldsHost,
      replicaDoubts: task.replicaDoubts,
      ...(task.comparable !== undefined && { comparable: task.comparable }),
      ...(task.canAppend !== undefined && { canAppend: task.canAppend }),
    });
    this.#answer = usable(answer);
    this.#anewBecause = null;
    this.#sealedBytes.clear();
    return this.#answer;
  }

  async #releaseOtherLocks(task: EmptyTask, fence: Fence): Promise<void> {
    this.#at('releaseOtherLocks', 'releases the locks of earlier tasks');
    const keepTaskUuids = task.prev === null ? [task.taskUuid] : [task.prev.taskUuid, task.taskUuid];
    const source = sourceCatalog(this.#input.spec.sourceSite, 'release locks of earlier tasks');
    await source.releaseOtherLocks({ fence, lockType: task.lockType, keepTaskUuids });
  }

  /** All disks side by side. The first failure stops the others, and none runs any more when this returns. */
  async #runDisks(fence: Fence, target: SyncTarget, disks: readonly DiskTask[]): Promise<void> {
    const scope = new CancellationScope();
    let children: readonly Promise<void>[] = [];
    try {
      await scope.run(() => {
        children = disks.map(disk => this.#runDisk(fence, target, disk));
        return Promise.all(children);
      });
    } catch (error) {
      scope.cancel();
      await CancellationScope.nonCancellable(() => Promise.allSettled(children));
      throw error;
    }
  }

  async #runDisk(fence: Fence, target: SyncTarget, { disk, diskTaskUuid, node }: DiskTask): Promise<void> {
    const { spec, bandwidthBytesPerSecond, taskUuid } = this.#input;
    const plan = target.disks.find(candidate => candidate.disk === disk);
    if (plan === undefined) throw new StoppedSignal(`disk ${disk} was recorded but not planned`);
    const result: DiskTaskResult = await executeChild(remoteBackupDiskTask, {
      workflowId: diskWorkflowId(taskUuid, fence.plan, disk),
      taskQueue: replicaQueue(spec.replicaSite),
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      staticSummary: plainWords(`${spec.host} ${disk}: ${plan.method}, ${plan.reason}`, MAX_SUMMARY_LENGTH),
      ...searchAttributesOf(this.#input),
      args: [
        {
          fence,
          sourceSite: spec.sourceSite,
          replicaSite: spec.replicaSite,
          host: spec.host,
          taskUuid,
          diskTaskUuid,
          hostSnapshot: target.hostSnapshot,
          plan,
          replicaNode: node,
          bandwidthBytesPerSecond,
          ...this.#journalWindow(target, plan),
        },
      ],
    });
    if (result.outcome === 'stopped') throw new StoppedSignal(result.reason ?? 'the schedule stopped it');
    this.#sealedBytes.set(disk, result.totalBytes);
    this.#tell(`has ${this.#sealedBytes.size} of ${target.disks.length} disks sealed`);
  }

  /** A continuous schedule follows what is still written; any other takes what there was. */
  #journalWindow({ position }: SyncTarget, { method }: DiskPlan): { journal?: JournalWindow } {
    if (method !== 'append' || position === null) return {};
    const followMs = this.#input.type === 'continuous' ? FOLLOW_MS : null;
    return { journal: { checkpoint: position.checkpoint, followMs } };
  }

  /** What is whole is published even when a pause comes now: it is one transaction at B. */
  async #publish(task: EmptyTask, fence: Fence): Promise<TaskResult> {
    this.#at('finishTask', 'publishes the recovery point');
    const { replicaSite } = this.#input.spec;
    const { taskUuid } = task;
    const summary = await CancellationScope.nonCancellable(() =>
      replicaCatalog(replicaSite, 'publish the recovery point').finishTask({ fence, taskUuid }),
    );
    return this.#done(summary);
  }

  /** @returns the task with what B found out about its files meanwhile */
  async #planAnew(task: EmptyTask, reason: string, broken: number): Promise<EmptyTask> {
    const { spec, taskUuid } = this.#input;
    this.#anewBecause = reason;
    this.#at('raisePlan', `plans anew: ${reason}`);
    const { plan, replicaDoubts } = await replicaCatalog(spec.replicaSite, 'plan anew').raisePlan({
      fence: this.#fence(),
      taskUuid,
      reason,
    });
    this.#plan = plan;
    await sleep(backoffMs(broken), { summary: plainWords(`plans anew: ${reason}`, MAX_SUMMARY_LENGTH) });
    return { ...task, replicaDoubts: replicaDoubts ?? task.replicaDoubts };
  }

  /** Ends the task without publishing. What B's row says counts more: it may have been deleted meanwhile. */
  async end(
    outcome: Exclude<TaskOutcome, 'published'>,
    reason: string | null,
    seen: SeenFence | null = null,
  ): Promise<TaskResult> {
    const { spec, taskUuid } = this.#input;
    if (this.#task === null) return this.#done(this.#summary(outcome, reason));
    this.#at('endTask', `ends as ${outcome}`);
    try {
      const catalog = replicaCatalog(spec.replicaSite, `end the task as ${outcome}`);
      const told = seen === null ? {} : { seen };
      return this.#done(await catalog.endTask({ fence: this.#fence(), taskUuid, outcome, reason, ...told }));
    } catch (error) {
      if (isCancellation(error)) throw error;
      const isSuperseded = failureCode(error) === 'Superseded';
      return this.#done(this.#summary(isSuperseded ? 'superseded' : outcome, failureReason(error)));
    }
  }

  status(): TaskStatus {
    return {
      taskUuid: this.#input.taskUuid,
      plan: this.#plan,
      step: this.#step,
      summary: this.#summary(null, this.#anewBecause),
    };
  }

  #done(summary: TaskSummary): TaskResult {
    const reason = summary.outcome === 'published' || summary.reason === null ? '' : `: ${summary.reason}`;
    this.#isEnded = true;
    this.#at(`ended as ${summary.outcome}`, `ended as ${summary.outcome}${reason}`);
    const target = this.#answer?.target ?? null;
    // An age is right whatever the source's clock says; without one its word is all there is.
    const takenAtMs = summary.targetAgeMs == null ? target?.takenAtMs : Date.now() - summary.targetAgeMs;
    return {
      summary,
      targetTakenAtMs: takenAtMs ?? null,
      ...(summary.siteNowMs !== undefined && { siteOffsetMs: summary.siteNowMs - Date.now() }),
      answeredSequence: target?.sourceSequence ?? this.#answer?.newestSequence ?? null,
      ...(summary.outcome === 'published' && this.#answer?.continues === true && { continues: true }),
    };
  }

  #fence(): Fence {
    return {
      scheduleUuid: this.#input.spec.uuid,
      generation: this.#task?.generation ?? 0,
      plan: this.#plan,
    };
  }

  /** What the task itself knows; B's row has the last word. */
  #summary(outcome: TaskOutcome | null, reason: string | null): TaskSummary {
    return {
      taskUuid: this.#input.taskUuid,
      generation: this.#task?.generation ?? 0,
      outcome,
      reason,
      warnings: this.#answer?.warnings ?? [],
      startedAtMs: this.#task?.startedAtMs ?? this.#startedAtMs,
      finishedAtMs: outcome === null ? null : Date.now(),
      hostSnapshot: this.#answer?.target?.hostSnapshot ?? null,
      disks: (this.#answer?.target?.disks ?? []).map(({ disk, method, reason: why }) => ({
        disk,
        method,
        reason: why,
        bytesSent: this.#sealedBytes.get(disk) ?? 0,
        bytesTotal: this.#sealedBytes.get(disk) ?? 0,
      })),
    };
  }

  #at(step: string, what: string): void {
    this.#step = step;
    this.#tell(what);
  }

  #tell(what: string): void {
    setCurrentDetails(
      taskDetails({
        spec: this.#input.spec,
        generation: this.#task?.generation ?? null,
        plan: this.#plan,
        taskUuid: this.#input.taskUuid,
        what,
        isEnded: this.#isEnded,
        answer: this.#answer,
        sealed: [...this.#sealedBytes.keys()],
      }),
    );
  }
}

const MAX_SUMMARY_LENGTH = 200;
