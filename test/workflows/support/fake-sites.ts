/** Two sites as plain objects behind the real Temporal server: they record what the workflows ask of them. */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity';
import { Client, Connection, type WorkflowHandle } from '@temporalio/client';
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
import type { Cursor, SyncAnswer } from '../../../src/contract/sync.ts';
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

const logger = new DefaultLogger('ERROR');
Runtime.install({ logger });

let bundle: Promise<WorkflowBundleWithSourceMap> | null = null;
const workflowsPath = fileURLToPath(new URL('../../../src/workflows/index.ts', import.meta.url));

/** A permanent failure as the activities' interceptor makes it. */
export const failure = (code: string, message = code): ApplicationFailure =>
  ApplicationFailure.create({ type: code, message, nonRetryable: true });

/** One schedule's world: names of its own, so many fit on one server. */
export class FakeSites {
  readonly spec: ScheduleSpec;
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
  #client: Client | null = null;
  readonly #closers: (() => Promise<unknown>)[] = [];

  constructor() {
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

  /** Starts all workers, or those named. */
  async start(roles: readonly Role[] = ROLES): Promise<void> {
    const address = inject('temporalAddress');
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
        (input: unknown) => {
          this.calls.push({ name, input });
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
    const { spec } = this;
    return {
      registerSchedule: async ({ settings, paused }) => {
        this.rowPaused = paused;
        return {
          uuid: spec.uuid,
          settings,
          paused,
          draining: false,
          releasing: false,
          revision: 0,
          nextRunAtMs: null,
        };
      },
      planNextRun: async ({ settings, afterMs }) => nextRun(settings, afterMs, Date.now()),
      findBlackout: async ({ settings }) =>
        blackoutHours(settings.notBetween ?? [], settings.timeZone).at(Date.now()),
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
          lockType: lockTypeOf(spec.uuid),
          startedAtMs: Date.now(),
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
      querySyncInfo: async () => this.#answer(),
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

  #answer(): SyncAnswer {
    const newest = `snapshot-${this.snapshots}`;
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
        sourceSequence: this.snapshots,
        takenAtMs: 1_000 * this.snapshots,
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
      startedAtMs: Date.now(),
      finishedAtMs: Date.now(),
      hostSnapshot,
      disks: [],
    };
  }
}

const ROLES = ['replica', 'replicaControl', 'source', 'sourceControl', 'transfer'] as const;
export type Role = (typeof ROLES)[number];
/** All but the given roles, for a site that is not there. */
export const allBut = (...missing: Role[]): Role[] => ROLES.filter(role => !missing.includes(role));

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
