/** Two sites as plain objects behind the real Temporal server: they record what the workflows ask of them. */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity';
import { Client, Connection, type WorkflowHandle } from '@temporalio/client';
import type { History } from '@temporalio/common/lib/proto-utils.js';
import {
  bundleWorkflowCode,
  DefaultLogger,
  NativeConnection,
  Runtime,
  Worker,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import { inject } from 'vitest';
import {
  CONTRACT_VERSION,
  controlQueue,
  lockTypeOf,
  replicaQueue,
  scheduleWorkflowId,
  sourceQueue,
  taskWorkflowId,
  transferQueue,
  WORKFLOW_TYPES,
} from '../../../src/contract/names.ts';
import type {
  ReplicaActivities,
  ReplicaControlActivities,
} from '../../../src/contract/replica-activities.ts';
import {
  QUERIES,
  type ScheduleSettings,
  type ScheduleSpec,
  type ScheduleState,
  type ScheduleStatus,
  SIGNALS,
  type TaskStatus,
  type TaskSummary,
} from '../../../src/contract/schedule.ts';
import type {
  SourceActivities,
  SourceControlActivities,
  SourceTransferActivities,
} from '../../../src/contract/source-activities.ts';
import type { Cursor, ScheduleType, SyncAnswer } from '../../../src/contract/sync.ts';
import { blackoutHours } from '../../../src/domain/blackout.ts';
import { nextRun } from '../../../src/domain/due.ts';
import { initialScheduleState } from '../../../src/domain/schedule-state.ts';

export type Activities = ReplicaActivities &
  ReplicaControlActivities &
  SourceActivities &
  SourceTransferActivities &
  SourceControlActivities;
type Name = keyof Activities;

export interface Call {
  readonly name: Name;
  // The test that looks knows which activity it is.
  // biome-ignore lint/suspicious/noExplicitAny: inputs of all activities
  readonly input: any;
}

export const SETTINGS: ScheduleSettings = {
  type: 'interval',
  everyMs: 3_600_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

/** Stands in recorded histories instead of a process and a machine. */
const IDENTITY = 'test';
const NODE_A = 'na';
const NODE_B = 'nb';
const DISKS = ['vda', 'vdb'];

/** As in Temporal's WorkflowTaskFailedCause. */
const UNHANDLED_COMMAND = 1;

const logger = new DefaultLogger('ERROR');
Runtime.install({ logger });

let bundle: Promise<WorkflowBundleWithSourceMap> | null = null;
const workflowsPath = fileURLToPath(new URL('../../../src/workflows/index.ts', import.meta.url));

/** A permanent failure as the activities' interceptor makes it. */
export const failure = (code: string, message = code): ApplicationFailure =>
  ApplicationFailure.create({ type: code, message, nonRetryable: true });

export interface FakeSitesOptions {
  /** Of the Temporal server; that of the test run by default. */
  readonly address?: string;
  /** What the activities take for now: a server that skips time has a clock of its own. */
  readonly nowMs?: () => number;
}

/** One schedule's world: names of its own, so many fit on one server. */
export class FakeSites {
  spec: ScheduleSpec;
  readonly calls: Call[] = [];
  /** Replace one to change what a site does. */
  readonly activities: Activities;
  /** How many host snapshots A has. */
  snapshots = 1;
  published: Cursor | null = null;
  unfinished: { hostSnapshot: string } | null = null;
  rowPaused = false;
  rowDeleted = false;
  readonly received = new Set<string>();
  #generation = 0;
  #target: string | null = null;
  readonly #holds = new Map<Name, Hold>();
  #client: Client | null = null;
  readonly #closers: (() => Promise<unknown>)[] = [];

  readonly #address: string;
  readonly #nowMs: () => number;

  constructor({ address, nowMs = Date.now }: FakeSitesOptions = {}) {
    this.#address = address ?? inject('temporalAddress');
    this.#nowMs = nowMs;
    const id = randomUUID().slice(0, 8);
    this.spec = {
      contractVersion: CONTRACT_VERSION,
      uuid: randomUUID(),
      name: `nightly-${id}`,
      replicaSite: `b-${id}`,
      sourceSite: `a-${id}`,
      host: 'web-1',
    };
    this.activities = this.#wellBehaved();
  }

  /** Goes on with a schedule of another name: the one before has ended. */
  renew(): void {
    this.spec = { ...this.spec, uuid: randomUUID(), name: `nightly-${randomUUID().slice(0, 8)}` };
    this.calls.length = 0;
    this.received.clear();
    this.published = null;
    this.unfinished = null;
    this.rowPaused = false;
    this.rowDeleted = false;
    this.#generation = 0;
  }

  /** From now on the activity waits before it does anything, until it is released or cancelled. */
  hold(name: Name): Hold {
    const hold = createHold(HEARTBEATING.has(name));
    this.#holds.set(name, hold);
    return hold;
  }

  /** Starts all workers, or those named. */
  async start(roles: readonly Role[] = ROLES): Promise<void> {
    const address = this.#address;
    const connection = await NativeConnection.connect({ address });
    bundle ??= bundleWorkflowCode({ workflowsPath, logger });
    const workflowBundle = await bundle;
    const workers = await Promise.all(
      roles.map(role =>
        Worker.create({
          connection,
          identity: IDENTITY,
          taskQueue: this.#queueOf(role),
          activities: this.#recorded(),
          maxHeartbeatThrottleInterval: 50,
          defaultHeartbeatThrottleInterval: 50,
          ...(role === 'replica' ? { workflowBundle, maxCachedWorkflows: 20 } : {}),
        }),
      ),
    );
    const runs = workers.map(worker => worker.run());
    this.#closers.push(async () => {
      for (const worker of workers) worker.shutdown();
      await Promise.all(runs);
      await connection.close();
    });
    if (this.#client !== null) return;
    const clientConnection = await Connection.connect({ address });
    this.#client = new Client({ connection: clientConnection, identity: IDENTITY });
    this.#closers.unshift(() => clientConnection.close());
  }

  async stop(): Promise<void> {
    try {
      await this.handle.terminate('the test is over');
    } catch {
      // It ended by itself.
    }
    for (const close of this.#closers.splice(0).reverse()) await close();
  }

  get client(): Client {
    if (this.#client === null) throw new Error('not started');
    return this.#client;
  }

  get handle(): WorkflowHandle {
    return this.client.workflow.getHandle(scheduleWorkflowId(this.spec.replicaSite, this.spec.name));
  }

  async startSchedule(options: { paused?: boolean; state?: Partial<ScheduleState> } = {}): Promise<void> {
    const state = {
      ...initialScheduleState(SETTINGS, { paused: options.paused ?? false }),
      ...options.state,
    };
    await this.client.workflow.start(WORKFLOW_TYPES.schedule, {
      workflowId: scheduleWorkflowId(this.spec.replicaSite, this.spec.name),
      taskQueue: replicaQueue(this.spec.replicaSite),
      args: [this.spec, state],
    });
  }

  status(): Promise<ScheduleStatus> {
    return this.handle.query<ScheduleStatus>(QUERIES.status);
  }

  taskStatus(taskUuid: string): Promise<TaskStatus> {
    return this.client.workflow.getHandle(taskWorkflowId(taskUuid)).query<TaskStatus>(QUERIES.taskStatus);
  }

  /** Sends a request and waits until the schedule has answered it. */
  async request(signal: keyof typeof SIGNALS, extra: object = {}, requestId: string = randomUUID()) {
    await this.handle.signal(SIGNALS[signal], { requestId, ...extra });
    return until(`the answer to ${signal}`, async () =>
      (await this.status()).requests.find(request => request.requestId === requestId),
    );
  }

  /** Waits until the status has these values. */
  async untilStatus(wanted: Partial<ScheduleStatus>): Promise<ScheduleStatus> {
    let last: ScheduleStatus | null = null;
    try {
      return await until('the status', async () => {
        last = await this.status();
        const keys = Object.keys(wanted) as (keyof ScheduleStatus)[];
        return keys.every(key => last?.[key] === wanted[key]) ? last : null;
      });
    } catch {
      throw new Error(`never saw ${JSON.stringify(wanted)} but ${JSON.stringify(last)}`);
    }
  }

  /** True when the server once refused the end of a run because a signal had come. */
  async sawSignalBetweenRuns(): Promise<boolean> {
    const histories = await this.scheduleHistories();
    const events = histories.flatMap(history => history.events ?? []);
    return events.some(event => event.workflowTaskFailedEventAttributes?.cause === UNHANDLED_COMMAND);
  }

  /** The histories of all runs of the schedule's workflow, oldest first. */
  async scheduleHistories(): Promise<History[]> {
    const { workflowId } = this.handle;
    const histories: History[] = [];
    let runId = (await this.handle.describe()).raw.workflowExecutionInfo?.firstRunId;
    while (runId) {
      const history: History = await this.client.workflow.getHandle(workflowId, runId).fetchHistory();
      histories.push(history);
      const last = history.events?.at(-1);
      runId = last?.workflowExecutionContinuedAsNewEventAttributes?.newExecutionRunId;
    }
    return histories;
  }

  async untilTaskEnds(generation: number): Promise<TaskSummary> {
    return until(`the end of task ${generation}`, async () => {
      const { lastTask } = await this.status();
      return (lastTask?.generation ?? 0) >= generation ? lastTask : null;
    });
  }

  untilCalled(name: Name, times = 1): Promise<Call> {
    return until(`call ${times} of ${name}`, async () => this.callsOf(name)[times - 1]);
  }

  callsOf(name: Name): Call[] {
    return this.calls.filter(call => call.name === name);
  }

  /** The activities called so far, in order; those of parallel disks count once a disk. */
  get order(): Name[] {
    return this.calls.map(({ name }) => name);
  }

  #queueOf(role: Role): string {
    const { replicaSite, sourceSite } = this.spec;
    switch (role) {
      case 'replica':
        return replicaQueue(replicaSite);
      case 'replicaControl':
        return controlQueue(replicaSite, NODE_B);
      case 'source':
        return sourceQueue(sourceSite);
      case 'sourceControl':
        return controlQueue(sourceSite, NODE_A);
      case 'transfer':
        return transferQueue(sourceSite, NODE_A);
    }
  }

  /** Looks each activity up when it is called, so that a test may replace it at any time. */
  #recorded(): Record<string, (input: unknown) => Promise<unknown>> {
    const names = Object.keys(this.activities) as Name[];
    return Object.fromEntries(
      names.map(name => [
        name,
        async (input: unknown) => {
          this.calls.push({ name, input });
          await this.#holds.get(name)?.wait();
          const activity = this.activities[name] as (input: unknown) => Promise<unknown>;
          return activity(input);
        },
      ]),
    );
  }

  #wellBehaved(): Activities {
    return { ...this.#replica(), ...this.#replicaControl(), ...this.#source() };
  }

  #replica(): ReplicaActivities {
    return {
      registerSchedule: async ({ settings, paused }) => {
        this.rowPaused = paused;
        return {
          uuid: this.spec.uuid,
          settings,
          paused,
          draining: false,
          releasing: false,
          revision: 0,
          nextRunAtMs: null,
        };
      },
      planNextRun: async ({ settings, afterMs, lastRun }) =>
        nextRun(settings, afterMs, this.#nowMs(), lastRun),
      findBlackout: async ({ settings }) =>
        blackoutHours(settings.notBetween ?? [], settings.timeZone).at(this.#nowMs()),
      recordPaused: async ({ paused }) => {
        this.rowPaused = paused;
      },
      recordSettings: async () => {},
      closeSessions: async () => {},
      giveUpUnfinished: async ({ scheduleUuid }) => {
        this.unfinished = null;
        return {
          fence: { scheduleUuid, generation: this.#generation + 1, plan: 0 },
          lockType: lockTypeOf(scheduleUuid),
          keepGeneration: 0,
          keepTaskUuids: this.published === null ? [] : [this.published.taskUuid],
        };
      },
      createEmptyTask: async ({ taskUuid }) => {
        this.#generation += 1;
        return {
          taskUuid,
          taskId: this.#generation,
          generation: this.#generation,
          plan: 1,
          lockType: lockTypeOf(this.spec.uuid),
          startedAtMs: this.#nowMs(),
          prev: this.published,
          unfinished: this.unfinished,
          replicaHoldsHost: false,
          replicaDoubts: [],
        };
      },
      raisePlan: async ({ fence }) => ({ plan: fence.plan + 1 }),
      recordSyncInfo: async ({ taskUuid, answer }) => {
        const hostSnapshot = answer.target?.hostSnapshot ?? '';
        this.#target = hostSnapshot;
        this.unfinished = { hostSnapshot };
        return {
          disks: DISKS.map(disk => ({ diskTaskUuid: `${taskUuid}/${disk}`, disk, node: NODE_B })),
        };
      },
      finishTask: async ({ fence, taskUuid }) => {
        const hostSnapshot = this.#target ?? '';
        this.published = { hostSnapshot, taskUuid, position: null, proofs: [] };
        this.unfinished = null;
        return this.#summary(fence.generation, taskUuid, 'published', null, hostSnapshot);
      },
      endTask: async ({ fence, taskUuid, outcome, reason }) =>
        this.#summary(fence.generation, taskUuid, this.rowDeleted ? 'stopped' : outcome, reason, null),
      beginDelete: async () => {
        this.rowDeleted = true;
      },
      finishDelete: async () => ({ droppedFiles: 0 }),
      checkScheduleValid: async () =>
        this.rowPaused || this.rowDeleted
          ? { valid: false, reason: 'the schedule is paused' }
          : { valid: true, reason: null },
    };
  }

  #replicaControl(): ReplicaControlActivities {
    return {
      openReceiver: async ({ epoch }) => ({ host: '127.0.0.1', port: 7070, fingerprint: 'ff', epoch }),
      awaitReceived: async ({ diskTaskUuid }) => {
        while (!this.received.has(diskTaskUuid)) await beat();
        return { diskTaskUuid, totalBytes: 4096, contentDigest: '00' };
      },
      finishDiskTask: async ({ diskTaskUuid }) => ({ path: `/replicas/${diskTaskUuid}` }),
    };
  }

  #source(): SourceActivities & SourceTransferActivities & SourceControlActivities {
    return {
      stopPreviousDiskTasks: async () => ({ stopped: 0 }),
      querySyncInfo: async ({ type }) => this.#answer(type),
      releaseOtherLocks: async () => ({ released: 0 }),
      releaseUnfinished: async () => ({ released: 1 }),
      setRate: async () => {},
      retireSchedule: async () => ({ released: 1 }),
      sendDisk: async ({ diskTaskUuid }) => {
        this.received.add(diskTaskUuid);
        return { diskTaskUuid, durableBytes: 4096, totalBytes: 4096, note: null };
      },
      stopSender: async () => ({ stopped: 0 }),
    };
  }

  #answer(type: ScheduleType): SyncAnswer {
    const before = Number(this.published?.hostSnapshot.split('-')[1] ?? 0);
    // A continuous schedule takes each in turn, but begins with the newest.
    const sequence =
      type === 'continuous' && before > 0 ? Math.min(before + 1, this.snapshots) : this.snapshots;
    const newest = `snapshot-${sequence}`;
    const none = { skipped: [], skippedCount: 0, warnings: [], waiting: false };
    if (this.published?.hostSnapshot === newest) {
      return { ...none, result: 'none', target: null, row: 7, reason: `nothing is newer than ${newest}` };
    }
    const base = this.published?.hostSnapshot ?? null;
    return {
      ...none,
      result: 'create',
      row: base === null ? 3 : 6,
      reason: `${newest} is the newest`,
      target: {
        hostSnapshot: newest,
        originSite: this.spec.sourceSite,
        sourceSequence: sequence,
        takenAtMs: 1_000 * sequence,
        position: null,
        disks: DISKS.map(disk => ({
          disk,
          method: base === null ? 'full' : 'incremental',
          baseSnapshot: base,
          reason: base === null ? 'first copy' : 'on the same chain',
          virtualSizeBytes: 1 << 20,
          sourceNode: NODE_A,
          senderFingerprint: 'aa',
          proof: [],
        })),
      },
    };
  }

  #summary(
    generation: number,
    taskUuid: string,
    outcome: TaskSummary['outcome'],
    reason: string | null,
    hostSnapshot: string | null,
  ): TaskSummary {
    return {
      taskUuid,
      generation,
      outcome,
      reason,
      warnings: [],
      startedAtMs: this.#nowMs(),
      finishedAtMs: this.#nowMs(),
      hostSnapshot,
      disks: [],
    };
  }
}

const ROLES = ['replica', 'replicaControl', 'source', 'sourceControl', 'transfer'] as const;
export type Role = (typeof ROLES)[number];
/** All but the given roles, for a site that is not there. */
export const allBut = (...missing: Role[]): Role[] => ROLES.filter(role => !missing.includes(role));

/** An activity that was told to wait. */
export interface Hold {
  /** Resolves when the activity was called. */
  readonly reached: Promise<void>;
  wait(): Promise<void>;
  release(): void;
}

/** Those that hear of their cancellation; the others go on until they are done. */
const HEARTBEATING = new Set<Name>([
  'stopPreviousDiskTasks',
  'releaseUnfinished',
  'retireSchedule',
  'sendDisk',
  'stopSender',
  'awaitReceived',
]);

function createHold(hears: boolean): Hold {
  let isReleased = false;
  const reached = Promise.withResolvers<void>();
  return {
    reached: reached.promise,
    async wait() {
      reached.resolve();
      while (!isReleased) {
        if (hears) await beat();
        else await new Promise(resolve => setTimeout(resolve, 20));
      }
    },
    release() {
      isReleased = true;
    },
  };
}

/** One heartbeat and a short pause. @throws CancelledFailure when the activity was cancelled */
export async function beat(): Promise<void> {
  Context.current().heartbeat();
  await Context.current().sleep(20);
}

/** Beats until cancelled, then takes its time to clean up. */
export async function hangUntilCancelled(cleanUp: () => Promise<void> = async () => {}): Promise<never> {
  try {
    for (;;) await beat();
  } catch (error) {
    if (error instanceof CancelledFailure) await cleanUp();
    throw error;
  }
}

/** Looks until something is there. @throws when it takes far too long */
export async function until<T>(what: string, look: () => Promise<T | null | undefined>): Promise<T> {
  const deadline = Date.now() + 40_000;
  for (;;) {
    const found = await look();
    if (found !== null && found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`waited too long for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 30));
  }
}
