/** Small stand-ins of the three workflows: enough of their outside for the orchestrator and the command line. */
import {
  ApplicationFailure,
  condition,
  defineQuery,
  defineSignal,
  executeChild,
  proxyActivities,
  setHandler,
  uuid4,
} from '@temporalio/workflow';
import { diskWorkflowId, taskWorkflowId } from '../../../../src/contract/names.ts';
import type {
  DeleteScheduleRequest,
  PauseScheduleRequest,
  ScheduleRequest,
  ScheduleSpec,
  ScheduleState,
  ScheduleStatus,
  TaskStatus,
  TaskSummary,
  UpdateScheduleRequest,
} from '../../../../src/contract/schedule.ts';
import {
  deleteRequested,
  paused,
  resumed,
  runRequested,
  settingsChanged,
} from '../../../../src/domain/schedule-requests.ts';
import { statusOf } from '../../../../src/domain/schedule-status.ts';

interface StandInActivities {
  registerSchedule(spec: ScheduleSpec): Promise<void>;
  sendDisk(host: string): Promise<void>;
}

const { registerSchedule, sendDisk } = proxyActivities<StandInActivities>({
  startToCloseTimeout: '1 minute',
  heartbeatTimeout: '30 s',
  retry: {
    initialInterval: '200 ms',
    maximumInterval: '200 ms',
    nonRetryableErrorTypes: ['ScheduleConflict'],
  },
});
const nowhere = proxyActivities<{ awaitReceived(): Promise<void> }>({
  taskQueue: 'b.gone.control',
  startToCloseTimeout: '1 minute',
});

export async function remoteBackupSchedule(spec: ScheduleSpec, state: ScheduleState): Promise<void> {
  let running: { taskUuid: string } | null = null;
  setHandler(defineQuery<ScheduleStatus>('getStatus'), () => statusOf(spec, state, { running }));
  setHandler(defineSignal<[PauseScheduleRequest]>('pause'), ({ requestId, mode }) => {
    state = paused(state, requestId, mode);
  });
  setHandler(defineSignal<[UpdateScheduleRequest]>('updateSettings'), ({ requestId, settings }) => {
    state = settingsChanged(state, requestId, settings);
  });
  setHandler(defineSignal<[ScheduleRequest]>('resume'), ({ requestId }) => {
    state = resumed(state, requestId);
  });
  setHandler(defineSignal<[ScheduleRequest]>('runNow'), ({ requestId }) => {
    state = runRequested(state, requestId);
  });
  setHandler(defineSignal<[DeleteScheduleRequest]>('delete'), ({ requestId, purge }) => {
    state = deleteRequested(state, requestId, { purge });
  });
  await registerSchedule(spec);
  state = { ...state, registered: true };
  while (state.deleting === null) {
    await condition(() => state.deleting !== null || state.runRequested);
    if (state.deleting !== null) break;
    running = { taskUuid: uuid4() };
    state = { ...state, runRequested: false };
    const lastTask: TaskSummary = await executeChild(remoteBackupTask, {
      args: [running.taskUuid, spec.host],
      workflowId: taskWorkflowId(running.taskUuid),
    });
    running = null;
    state = { ...state, lastTask };
  }
}

export async function remoteBackupTask(taskUuid: string, host: string): Promise<TaskSummary> {
  const summary: TaskSummary = {
    taskUuid,
    generation: 1,
    outcome: null,
    reason: null,
    warnings: [],
    startedAtMs: Date.now(),
    finishedAtMs: null,
    hostSnapshot: null,
    disks: [{ disk: 'vda', method: 'full', reason: 'the first copy', bytesSent: 0, bytesTotal: 0 }],
  };
  const status: TaskStatus = { taskUuid, plan: 1, step: 'disk tasks', summary };
  setHandler(defineQuery<TaskStatus>('getTaskStatus'), () => status);
  await executeChild(remoteBackupDiskTask, { args: [host], workflowId: diskWorkflowId(taskUuid, 1, 'vda') });
  return { ...summary, outcome: 'published', finishedAtMs: Date.now() };
}

export async function remoteBackupDiskTask(host: string): Promise<void> {
  if (host === 'waits') void nowhere.awaitReceived().catch(() => undefined);
  if (host === 'broken') throw ApplicationFailure.nonRetryable('broken');
  await sendDisk(host);
}
