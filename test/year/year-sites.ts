/** A schedule that lives for a year of the server's time, and what is remembered of it. */
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/client';
import type { History } from '@temporalio/common/lib/proto-utils.js';
import type { PlannedRun, ScheduleSettings } from '../../src/contract/schedule.ts';
import { FakeSites, failure } from '../workflows/support/fake-sites.ts';
import type { TimeSkippingServer } from './time-skipping.ts';

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

/** Activities are scheduled at the server's time, which is the only one that passes as it does for the workflow. */
const nowMs = (): number => Context.current().info.currentAttemptScheduledTimestampMs;

export interface LifeOfRuns {
  /** Runs between two continue-as-new, the one that lasts among them. */
  readonly count: number;
  readonly mostEvents: number;
  /** The largest state that one run handed to the next. */
  readonly mostStateBytes: number;
}

export class YearSites extends FakeSites {
  /** What was told of each run that was planned, by the due time that it follows. */
  readonly plans = new Map<number | null, PlannedRun>();
  /** When tasks began. */
  readonly begunAtMs: number[] = [];
  /** Task uuids, each of which makes one task however often it is asked for. */
  readonly taskUuids = new Set<string>();
  readonly settings: ScheduleSettings;
  /** Until then the source cannot be reached. */
  silentUntilMs = 0;
  /** So many plans break, and so many tasks are cut short, from now on. */
  plansToBreak = 0;
  tasksToFail = 0;
  attempts = 0;

  constructor(server: TimeSkippingServer, settings: ScheduleSettings) {
    super({ address: server.address, nowMs });
    this.settings = settings;
    this.#remember();
    this.#receiveAtOnce();
  }

  async begin(): Promise<void> {
    await this.start();
    await this.startSchedule({ state: { settings: this.settings } });
  }

  #remember(): void {
    const { planNextRun, createEmptyTask, querySyncInfo, recordSyncInfo } = this.activities;
    Object.assign(this.activities, {
      planNextRun: async input => {
        const planned = await planNextRun(input);
        this.plans.set(input.afterMs, planned);
        return planned;
      },
      createEmptyTask: async input => {
        this.taskUuids.add(input.taskUuid);
        this.begunAtMs.push(nowMs());
        return createEmptyTask(input);
      },
      querySyncInfo: async query => {
        this.attempts += 1;
        if (nowMs() < this.silentUntilMs) throw ApplicationFailure.retryable('the database is away');
        if (this.tasksToFail > 0) {
          this.tasksToFail -= 1;
          throw failure('Superseded', 'a newer task began');
        }
        return querySyncInfo(query);
      },
      recordSyncInfo: async input => {
        if (this.plansToBreak === 0 || input.fence.plan > 1) return recordSyncInfo(input);
        this.plansToBreak -= 1;
        throw failure('PlanBroken', 'the base is not published here');
      },
    } satisfies Partial<typeof this.activities>);
  }

  /** Real time stands in the way: nothing here waits for it. */
  #receiveAtOnce(): void {
    const received = new Map<string, PromiseWithResolvers<void>>();
    const of = (uuid: string): PromiseWithResolvers<void> => {
      const known = received.get(uuid) ?? Promise.withResolvers<void>();
      received.set(uuid, known);
      return known;
    };
    Object.assign(this.activities, {
      sendDisk: async ({ diskTaskUuid }) => {
        of(diskTaskUuid).resolve();
        return { diskTaskUuid, durableBytes: 4096, totalBytes: 4096, note: null };
      },
      awaitReceived: async ({ diskTaskUuid }) => {
        await Promise.race([of(diskTaskUuid).promise, Context.current().cancelled]);
        received.delete(diskTaskUuid);
        await this.#untilSenderEnded();
        return { diskTaskUuid, totalBytes: 4096, contentDigest: '00' };
      },
    } satisfies Partial<typeof this.activities>);
  }

  /** The test server takes it amiss when an activity is cancelled that has ended just now. */
  async #untilSenderEnded(): Promise<void> {
    const { workflowExecution } = Context.current().info;
    const disk = this.client.workflow.getHandle(workflowExecution?.workflowId ?? '');
    for (;;) {
      const { raw } = await disk.describe();
      const pending = (raw.pendingActivities ?? []).map(({ activityType }) => activityType?.name);
      if (!pending.includes('sendDisk')) return;
    }
  }

  /** All runs of the schedule's workflow, the newest first. */
  async *histories(): AsyncGenerator<History> {
    let runId: string | null | undefined = (await this.handle.describe()).runId;
    while (runId) {
      const history: History = await this.client.workflow
        .getHandle(this.handle.workflowId, runId)
        .fetchHistory();
      yield history;
      runId = history.events?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId;
    }
  }

  async lifeOfRuns(): Promise<LifeOfRuns> {
    let count = 0;
    let mostEvents = 0;
    let mostStateBytes = 0;
    for await (const { events } of this.histories()) {
      count += 1;
      mostEvents = Math.max(mostEvents, events?.length ?? 0);
      const payloads = events?.at(-1)?.workflowExecutionContinuedAsNewEventAttributes?.input?.payloads;
      const sizes = (payloads ?? []).map(payload => payload.data?.length ?? 0);
      mostStateBytes = Math.max(mostStateBytes, ...sizes);
    }
    return { count, mostEvents, mostStateBytes };
  }
}
