/** What a replica site does for its workflows: rows, sessions, seals, publication. */
import { Context } from '@temporalio/activity';
import type { ReplicaActivities, ReplicaControlActivities } from '../contract/replica-activities.ts';
import type { OpenReceiverInput } from '../contract/transfer.ts';
import { blackoutHours } from '../domain/blackout.ts';
import { dueTime, plannedRun } from '../domain/due.ts';
import { OffsiteError, ReopenNeededError } from '../domain/errors.ts';
import { compareEpochs } from '../domain/fences.ts';
import { formatSize } from '../lib/sizes.ts';
import { keptReason, keptSeen } from './checks/endings.ts';
import { checkedAnswer } from './checks/sync-answer.ts';
import { heartbeatingTransfer, sleepUnlessCancelled } from './heartbeat.ts';
import { sealReceived } from './received-layer.ts';
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

  async function closeSessions(scheduleUuid: string): Promise<void> {
    const diskTaskUuids = await catalog.closeSessions(scheduleUuid);
    await Promise.all(diskTaskUuids.map(uuid => receiver.cut(uuid, null)));
  }

  /** What speaks against the newest published point as a base. Rows first: then no older task publishes any more. */
  const doubtsOf = async (scheduleUuid: string) =>
    ports.files.doubts(await catalog.cursorChains(scheduleUuid));

  /** Due times are waited for by Temporal's clock, so they are planned by it; this site's may be another. */
  const workflowNow = (toldMs: number | undefined): number =>
    toldMs === undefined
      ? ports.clock()
      : Math.max(toldMs, Context.current().info.currentAttemptScheduledTimestampMs);

  return {
    registerSchedule: input => catalog.registerSchedule(input),

    async planNextRun({ scheduleUuid, revision, settings, afterMs, lastRun = null, nowMs: toldMs }) {
      const nowMs = workflowNow(toldMs);
      const nextRunAtMs = dueTime(settings, afterMs, nowMs);
      // What an earlier attempt stored wins, so what is told is about that.
      const stored = await catalog.storeNextRun({ scheduleUuid, afterMs, nextRunAtMs, revision });
      const planned = plannedRun(settings, { ...stored, afterMs, nowMs, lastRun });
      return { ...planned, siteNowMs: ports.clock() };
    },

    async findBlackout({ settings, nowMs }) {
      return blackoutHours(settings.notBetween ?? [], settings.timeZone).at(workflowNow(nowMs));
    },

    async recordPaused(input) {
      const isNewest = await catalog.recordPaused(input);
      if (input.paused && isNewest) await closeSessions(input.scheduleUuid);
    },

    recordSettings: input => catalog.recordSettings(input),
    closeSessions: ({ scheduleUuid }) => closeSessions(scheduleUuid),

    async giveUpUnfinished(input) {
      const { files, givenUp } = await catalog.beginGivingUp(input);
      await closeSessions(input.scheduleUuid);
      await ports.files.remove(files);
      await catalog.finishGivingUp(input);
      return givenUp;
    },

    async createEmptyTask(input) {
      const task = await catalog.createEmptyTask(input);
      const [replicaDoubts, comparable] = await Promise.all([
        doubtsOf(input.scheduleUuid),
        catalog.comparableDisks(input.scheduleUuid),
      ]);
      return { ...task, replicaDoubts, comparable, canAppend: true };
    },

    async raisePlan(input) {
      const plan = await catalog.raisePlan({ ...input, reason: keptReason(input.reason) });
      return { plan, replicaDoubts: await doubtsOf(input.fence.scheduleUuid) };
    },

    async recordSyncInfo(input) {
      const answer = checkedAnswer(input.answer);
      return { disks: await catalog.recordSyncInfo({ ...input, answer, node: ports.node }) };
    },

    finishTask: async input => ({ ...(await catalog.finishTask(input)), siteNowMs: ports.clock() }),
    async endTask({ seen: told, ...input }) {
      const seen = keptSeen(told);
      const reason = input.reason === null ? null : keptReason(input.reason);
      const summary = await catalog.endTask({ ...input, reason, ...(seen !== undefined && { seen }) });
      return { ...summary, siteNowMs: ports.clock() };
    },

    checkScheduleValid: input => catalog.taskValidity(input),

    async beginDelete(input) {
      await catalog.beginDelete(input);
      await closeSessions(input.scheduleUuid);
    },

    async finishDelete(input) {
      const files = await catalog.filesToDrop(input);
      const droppedFiles = await ports.files.remove(files);
      await catalog.finishDelete(input);
      return { droppedFiles };
    },

    async openReceiver({ fence, diskTaskUuid, epoch, senderFingerprint }) {
      const older = await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint });
      await Promise.all([receiver.cut(diskTaskUuid, epoch), ...older.map(uuid => receiver.cut(uuid, null))]);
      return { ...receiver.offer, epoch };
    },

    awaitReceived: input =>
      heartbeatingTransfer<Awaited<ReturnType<ReplicaControlActivities['awaitReceived']>>>(
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
      const journal = await catalog.markAppended({ fence, diskTaskUuid });
      if (journal !== null) return journal;
      if (session?.received == null) throw new NotReceivedError(diskTaskUuid);
      const { received } = session;
      const whole = { diskTaskUuid, durableBytes: received.totalBytes, totalBytes: received.totalBytes };
      return heartbeatingTransfer<{ path: string }>(
        { ...whole, note: 'is being sealed' },
        async (beat, signal) => {
          const onProgress = (copiedBytes: number, totalBytes: number) => {
            const copied = `${formatSize(copiedBytes)} of ${formatSize(totalBytes)}`;
            beat({ ...whole, note: `starts a new chain: copied ${copied} from its base` });
          };
          const which = { fence, diskTaskUuid };
          const sealed = await sealReceived(ports, which, received, { signal, onProgress });
          await catalog.markSealed({ ...which, ...sealed });
          return { path: sealed.path };
        },
      );
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
