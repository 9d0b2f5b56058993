/** What a source site does for the workflows: decide, lock, send, release. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import type {
  SourceActivities,
  SourceControlActivities,
  SourceTransferActivities,
} from '../contract/source-activities.ts';
import type { SendDiskInput, TransferProgress } from '../contract/transfer.ts';
import { PlanBrokenError, SupersededError } from '../domain/errors.ts';
import { withCheckedRequests } from './checks/source-inputs.ts';
import { heartbeatingTransfer, sleepUnlessCancelled } from './heartbeat.ts';
import type {
  DiskSender,
  RunningSenders,
  SenderControl,
  SourceAccess,
  SourceCatalog,
  SourceImages,
  SourceNotices,
} from './source-ports.ts';
import { decideSync } from './sync-decision.ts';

export interface SourcePorts {
  readonly node: string;
  readonly catalog: SourceCatalog;
  readonly images: SourceImages;
  readonly access: SourceAccess;
  readonly sender: DiskSender;
  readonly running: RunningSenders;
  readonly notices: SourceNotices;
}

const STOP_POLL_MS = 200;
/** So long a new rate may take to reach a running sender. */
const RATE_LOOK_MS = 1_000;
/** Room for the sender's own reconnections within one activity attempt. */
const ATTEMPTS_PER_ACTIVITY = 1_000_000;

/** Binds site A's activities to what they need. Called once, by sites/source-site.ts. */
export function createSourceActivities(
  ports: SourcePorts,
): SourceActivities & SourceControlActivities & SourceTransferActivities {
  const { catalog, access } = ports;

  async function untilStopped(scheduleUuid: string, diskTaskUuid: string | null): Promise<number> {
    let most = 0;
    for (;;) {
      const senders = (await catalog.stoppingSenders(scheduleUuid)).filter(
        sender => diskTaskUuid === null || sender.diskTaskUuid === diskTaskUuid,
      );
      most = Math.max(most, senders.length);
      if (senders.length === 0) return most;
      Context.current().heartbeat({
        note: `waits for ${senders.length} sender(s) on ${[...new Set(senders.map(sender => sender.node))].join(', ')}`,
      });
      await sleepUnlessCancelled(STOP_POLL_MS);
    }
  }

  /** Looks for a new rate until the sender has ended; a look that fails is made again. */
  async function follow(
    taskUuid: string,
    setRate: (bytesPerSecond: number | null) => void,
    ended: AbortSignal,
  ): Promise<void> {
    for (let told: number | null | undefined; !ended.aborted; ) {
      const rate = await catalog.taskRate(taskUuid).catch(() => null);
      if (rate !== null && rate.bandwidthBytesPerSecond !== told && !ended.aborted) {
        told = rate.bandwidthBytesPerSecond;
        setRate(told);
      }
      await sleep(RATE_LOOK_MS, undefined, { signal: ended }).catch(() => undefined);
    }
  }

  /** What is to be sent, found before a sender is noted. @throws {PlanBrokenError} */
  async function sendingOf(
    input: SendDiskInput,
  ): Promise<(control: SenderControl) => Promise<TransferProgress>> {
    if (input.method === 'append') {
      const window = input.journal;
      if (window === undefined) throw new PlanBrokenError('how far the journal is to be sent was not said');
      const { directory } = found(input, await catalog.findJournal(input));
      const epochState = async () => found(input, await catalog.findJournal(input));
      return control => ports.sender.sendJournal(input, { directory, window, epochState }, control);
    }
    const layers = found(input, await catalog.findSource(input));
    return control => ports.sender.send(input, layers, control);
  }

  return withCheckedRequests({
    async stopPreviousDiskTasks({ fence }) {
      await catalog.requestStop(fence);
      return { stopped: await untilStopped(fence.scheduleUuid, null) };
    },

    async querySyncInfo(query) {
      access.assertMayHave(query.replicaSite, query.host);
      return catalog.answerSync(query, async context => {
        const answer = await decideSync(ports.images, query, context);
        const notice = ports.notices.warning();
        return notice === null ? answer : { ...answer, warnings: [...answer.warnings, notice] };
      });
    },

    async releaseOtherLocks(input) {
      return { released: await catalog.releaseOtherLocks(input) };
    },

    async releaseUnfinished(input) {
      await catalog.requestStop(input.fence);
      await untilStopped(input.fence.scheduleUuid, null);
      return { released: await catalog.releaseGivenUp(input) };
    },

    setRate: input => catalog.setTaskRate(input),

    async retireSchedule(input) {
      await catalog.entomb(input);
      await untilStopped(input.scheduleUuid, null);
      return { released: await catalog.releaseAll(input) };
    },

    async stopSender({ fence, diskTaskUuid }) {
      await catalog.requestStopOf(fence, diskTaskUuid);
      return { stopped: await untilStopped(fence.scheduleUuid, diskTaskUuid) };
    },

    async sendDisk(input) {
      access.assertMayHave(input.replicaSite, input.host);
      await access.assertReceiver(input.replicaSite, input.receiver);
      const send = await sendingOf(input);
      const { diskTaskUuid } = input;
      const stop = new AbortController();
      const ended = new AbortController();
      const unregister = ports.running.register(diskTaskUuid, stop);
      let begun: string | null = null;
      try {
        begun = await catalog.beginSender({ fence: input.fence, diskTaskUuid, node: ports.node });
        const context = Context.current();
        const first: TransferProgress = { diskTaskUuid, durableBytes: 0, totalBytes: null, note: 'connects' };
        return await heartbeatingTransfer(first, beat =>
          send({
            signal: AbortSignal.any([context.cancellationSignal, stop.signal]),
            attempt: context.info.attempt * ATTEMPTS_PER_ACTIVITY,
            onProgress: beat,
            onStart: setRate => follow(input.taskUuid, setRate, ended.signal),
          }),
        );
      } catch (error) {
        if (stop.signal.aborted) throw new SupersededError(`the sender of ${input.disk} was told to stop`);
        throw error;
      } finally {
        ended.abort();
        unregister();
        // Should it not be noted now, it is when somebody asks the sender to stop.
        if (begun !== null) await catalog.endSender(diskTaskUuid, begun).catch(() => {});
      }
    },
  });
}

function found<T>({ disk, hostSnapshot }: SendDiskInput, source: T | null): T {
  if (source !== null) return source;
  throw new PlanBrokenError(`disk ${disk} of snapshot ${hostSnapshot} is no longer in the catalog`);
}
