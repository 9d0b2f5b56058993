/** What a replica site does for its workflows: rows, sessions, seals, publication. */
import type { ReplicaActivities, ReplicaControlActivities } from '../contract/replica-activities.ts';
import type { OpenReceiverInput, TransferProgress } from '../contract/transfer.ts';
import { nextRun } from '../domain/due.ts';
import { OffsiteError, ReopenNeededError } from '../domain/errors.ts';
import { compareEpochs } from '../domain/fences.ts';
import { heartbeating, sleepUnlessCancelled } from './heartbeat.ts';
import type { ReceiverPort, ReplicaCatalog, ReplicaFiles } from './replica-ports.ts';

export interface ReplicaPorts {
  readonly site: string;
  readonly node: string;
  readonly catalog: ReplicaCatalog;
  readonly receiver: ReceiverPort;
  readonly files: ReplicaFiles;
  readonly clock: () => number;
}

const RECEIVED_POLL_MS = 300;

class NotReceivedError extends OffsiteError {
  constructor(diskTaskUuid: string) {
    super('InvalidInput', `disk task ${diskTaskUuid} was to be sealed before its bytes were received`);
  }
}

/** Binds site B's activities to what they need. Called once, by sites/replica-site.ts. */
export function createReplicaActivities(ports: ReplicaPorts): ReplicaActivities & ReplicaControlActivities {
  const { catalog, receiver } = ports;

  async function cutAll(diskTaskUuids: readonly string[]): Promise<void> {
    await Promise.all(diskTaskUuids.map(uuid => receiver.cut(uuid, null)));
  }

  return {
    registerSchedule: input => catalog.registerSchedule(input),

    async planNextRun({ scheduleUuid, settings, afterMs }) {
      const { nextRunAtMs, skippedRuns } = nextRun(settings, afterMs, ports.clock());
      const stored = await catalog.storeNextRun({ scheduleUuid, afterMs, nextRunAtMs });
      return { nextRunAtMs: stored.nextRunAtMs, skippedRuns };
    },

    async recordPaused({ scheduleUuid, paused }) {
      await catalog.recordPaused(scheduleUuid, paused);
      if (paused) await cutAll(await catalog.closeSessions(scheduleUuid));
    },

    createEmptyTask: input => catalog.createEmptyTask(input),

    async raisePlan(input) {
      return { plan: await catalog.raisePlan(input) };
    },

    async recordSyncInfo(input) {
      return { disks: await catalog.recordSyncInfo({ ...input, node: ports.node }) };
    },

    finishTask: input => catalog.finishTask(input),
    endTask: input => catalog.endTask(input),
    checkScheduleValid: input => catalog.taskValidity(input),

    async beginDelete(input) {
      await catalog.beginDelete(input);
      await cutAll(await catalog.closeSessions(input.scheduleUuid));
    },

    async finishDelete(input) {
      const paths = await catalog.filesToDrop(input);
      const droppedFiles = await ports.files.remove(paths);
      await catalog.finishDelete(input);
      return { droppedFiles };
    },

    async openReceiver({ fence, diskTaskUuid, epoch, senderFingerprint }) {
      await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint });
      await receiver.cut(diskTaskUuid, epoch);
      return { ...receiver.offer, epoch };
    },

    awaitReceived: input =>
      heartbeating<TransferProgress, Awaited<ReturnType<ReplicaControlActivities['awaitReceived']>>>(
        { diskTaskUuid: input.diskTaskUuid, durableBytes: 0, totalBytes: null, note: 'waits for the sender' },
        async beat => {
          for (;;) {
            const received = await receivedUnlessClosed(catalog, input);
            if (received !== null) return { diskTaskUuid: input.diskTaskUuid, ...received };
            const progress = receiver.progress(input.diskTaskUuid);
            if (progress !== null) beat(progress);
            await sleepUnlessCancelled(RECEIVED_POLL_MS);
          }
        },
      ),

    async finishDiskTask({ fence, diskTaskUuid }) {
      const session = await catalog.findSession(diskTaskUuid);
      if (session?.received == null) throw new NotReceivedError(diskTaskUuid);
      const { path } = await ports.files.seal(diskTaskUuid, session.received);
      await catalog.markSealed({ fence, diskTaskUuid, path });
      return { path };
    },
  };
}

/** @returns what was received, or null while bytes are awaited @throws {ReopenNeededError} */
async function receivedUnlessClosed(catalog: ReplicaCatalog, { diskTaskUuid, epoch }: OpenReceiverInput) {
  const session = await catalog.findSession(diskTaskUuid);
  if (session === null) throw new ReopenNeededError(`no receiver session of disk task ${diskTaskUuid}`);
  if (session.received !== null) return session.received;
  if (session.state === 'closed') throw new ReopenNeededError('the receiver session was closed');
  if (compareEpochs(session.epoch, epoch) !== 0) throw new ReopenNeededError('a newer receiver was opened');
  return null;
}
