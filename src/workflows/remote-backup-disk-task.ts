/** One disk of one plan: opens a receiver, has the disk sent, seals the file. */
import {
  CancellationScope,
  isCancellation,
  setCurrentDetails,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { Epoch } from '../contract/fence.ts';
import { taskWorkflowId } from '../contract/names.ts';
import type { ReceivedDisk, ReceiverOffer } from '../contract/transfer.ts';
import type { DiskTaskInput, DiskTaskResult } from '../contract/workflows.ts';
import { backoffMs } from '../domain/backoff.ts';
import {
  following,
  receiverOpening,
  receiverWatch,
  replicaCatalog,
  sealing,
  senderStop,
  sending,
} from './activity-proxies.ts';
import { failureCode, failureReason } from './failure-codes.ts';
import * as markdown from './markdown.ts';
import { untilServed } from './node-queue.ts';

/** So long B may still say that it has everything after the sender gave up. */
const LAST_WORD_MS = 2_000;
/** So long an attempt that was given up is waited for; its epoch is fenced off in any case. */
const LEAVE_MS = 10_000;

/**
 * Brings one disk to the replica site. Ends with the disk sealed, or stopped when the schedule no longer wants it.
 * Fails with `PlanBroken`, `Superseded` or `ScheduleDeleted`: its task decides what follows.
 */
export async function remoteBackupDiskTask(input: DiskTaskInput): Promise<DiskTaskResult> {
  const { fence, taskUuid, plan, replicaSite } = input;
  for (let openCount = 1; ; openCount++) {
    tell(input, openCount, 'asks whether the schedule still wants it');
    const validity = await replicaCatalog(replicaSite, `${plan.disk}: still wanted?`).checkScheduleValid({
      fence,
      taskUuid,
    });
    if (!validity.valid) return { outcome: 'stopped', reason: validity.reason, totalBytes: 0 };

    const attempt = await transferOnce(input, openCount);
    if ('received' in attempt) {
      await stopSender(input);
      await seal(input, openCount);
      return { outcome: 'sealed', reason: null, totalBytes: attempt.received.totalBytes };
    }
    tell(input, openCount, `opens a new receiver soon: ${attempt.reopen}`);
    await sleep(backoffMs(openCount), { summary: `${plan.disk}: ${attempt.reopen}` });
  }
}

type Attempt = { readonly received: ReceivedDisk } | { readonly reopen: string };

/** One receiver and one sender. B's word decides; `ReopenNeeded` from either end asks for another attempt. */
async function transferOnce(input: DiskTaskInput, openCount: number): Promise<Attempt> {
  const epoch: Epoch = { generation: input.fence.generation, plan: input.fence.plan, openCount };
  try {
    const offer = await openReceiver(input, epoch);
    return { received: await receive(input, epoch, offer) };
  } catch (error) {
    if (failureCode(error) !== 'ReopenNeeded') throw error;
    return { reopen: failureReason(error) };
  }
}

async function openReceiver(input: DiskTaskInput, epoch: Epoch): Promise<ReceiverOffer> {
  const { replicaSite, replicaNode, plan } = input;
  tell(input, epoch.openCount, 'opens the receiver');
  return untilServed(
    () =>
      receiverOpening(
        replicaSite,
        replicaNode,
        `${plan.disk}: open receiver ${epoch.openCount}`,
      ).openReceiver(receiverInput(input, epoch)),
    sinceMs => tellSilence(input, epoch.openCount, sinceMs),
  );
}

/** Runs sender and watcher side by side until B has everything. Both have been told to end when it returns. */
async function receive(input: DiskTaskInput, epoch: Epoch, offer: ReceiverOffer): Promise<ReceivedDisk> {
  const { replicaSite, replicaNode, sourceSite, plan } = input;
  tell(input, epoch.openCount, 'is being sent');
  const scope = new CancellationScope();
  return scope.run(async () => {
    const received = untilServed(
      () =>
        receiverWatch(replicaSite, replicaNode, `${plan.disk}: watch the receiver`).awaitReceived(
          receiverInput(input, epoch),
        ),
      sinceMs => tellSilence(input, epoch.openCount, sinceMs),
    );
    const isFollowing = input.journal?.followMs != null;
    const sender = isFollowing ? following : sending;
    const sent = sender(sourceSite, plan.sourceNode, `${plan.disk}: ${plan.method}`).sendDisk({
      fence: input.fence,
      replicaSite,
      host: input.host,
      disk: plan.disk,
      taskUuid: input.taskUuid,
      diskTaskUuid: input.diskTaskUuid,
      hostSnapshot: input.hostSnapshot,
      method: plan.method,
      baseSnapshot: plan.baseSnapshot,
      proof: plan.proof,
      receiver: offer,
      bandwidthBytesPerSecond: input.bandwidthBytesPerSecond,
      ...(input.journal !== undefined && { journal: input.journal }),
    });
    try {
      return await decided(received, sent);
    } catch (error) {
      scope.cancel();
      throw await leave(error, received, sent);
    } finally {
      scope.cancel();
    }
  });
}

/** B's word, or the failure of either end; a sender's success says nothing. */
async function decided(received: Promise<ReceivedDisk>, sent: Promise<unknown>): Promise<ReceivedDisk> {
  const senderFailed = sent.then(
    () => never(),
    (error: unknown) => ({ error }),
  );
  const first = await Promise.race([received, senderFailed]);
  if (!('error' in first)) return first;
  if (isCancellation(first.error)) throw first.error;
  const nothing = () => undefined;
  const lastWord = await Promise.race([received.catch(nothing), sleep(LAST_WORD_MS)]);
  if (lastWord === undefined) throw first.error;
  return lastWord;
}

/**
 * Waits for both ends, which have been told to stop: a pause until nothing runs any more, a new attempt only a
 * while, since its epoch cuts the old one off.
 * @returns the failure to go on with: a broken plan is more than a receiver that has to be opened anew
 */
async function leave(failure: unknown, received: Promise<unknown>, sent: Promise<unknown>): Promise<unknown> {
  const ends = Promise.allSettled([received, sent]);
  const settled = await CancellationScope.nonCancellable(() =>
    isCancellation(failure) ? ends : Promise.race([ends, sleep(LEAVE_MS)]),
  );
  if (failureCode(failure) !== 'ReopenNeeded') return failure;
  const stronger = (settled ?? []).find(
    end => end.status === 'rejected' && failureCode(end.reason) === 'PlanBroken',
  );
  return stronger?.status === 'rejected' ? stronger.reason : failure;
}

const never = (): Promise<never> => new Promise<never>(() => {});

/** B has everything, so nothing that A does or leaves undone matters here. */
async function stopSender(input: DiskTaskInput): Promise<void> {
  const { sourceSite, plan, fence, diskTaskUuid } = input;
  try {
    await senderStop(sourceSite, plan.sourceNode, `${plan.disk}: stop the sender`).stopSender({
      fence,
      diskTaskUuid,
    });
  } catch (error) {
    if (isCancellation(error)) throw error;
  }
}

async function seal(input: DiskTaskInput, openCount: number): Promise<void> {
  const { replicaSite, replicaNode, plan, fence, diskTaskUuid } = input;
  tell(input, openCount, 'is being sealed');
  await untilServed(
    () =>
      sealing(replicaSite, replicaNode, `${plan.disk}: seal the file`).finishDiskTask({
        fence,
        diskTaskUuid,
      }),
    sinceMs => tellSilence(input, openCount, sinceMs),
  );
  tell(input, openCount, 'is sealed');
}

const receiverInput = (input: DiskTaskInput, epoch: Epoch) => ({
  fence: input.fence,
  taskUuid: input.taskUuid,
  diskTaskUuid: input.diskTaskUuid,
  epoch,
  senderFingerprint: input.plan.senderFingerprint,
});

function tellSilence(input: DiskTaskInput, openCount: number, sinceMs: number | null): void {
  const node = input.replicaNode;
  tell(
    input,
    openCount,
    sinceMs === null
      ? `node ${node} answers again`
      : `no worker on node ${node} since ${new Date(sinceMs).toISOString()}`,
  );
}

function tell(input: DiskTaskInput, openCount: number, what: string): void {
  const { host, plan, hostSnapshot, sourceSite, replicaSite, replicaNode } = input;
  setCurrentDetails(
    [
      `**${host} ${plan.disk}** ${markdown.plain(what)}, since ${markdown.time(Date.now())}`,
      '',
      `- bytes, failures and the next attempt: ${markdown.pendingLink()}`,
      `- method: ${plan.method} (${markdown.plain(plan.reason)})`,
      `- host snapshot: \`${hostSnapshot}\``,
      `- from node ${plan.sourceNode} of site ${sourceSite} to node ${replicaNode} of site ${replicaSite}`,
      ...(openCount > 1 ? [`- attempt: its receiver was opened ${openCount} times`] : []),
      `- task: ${markdown.workflowLink(workflowInfo().namespace, taskWorkflowId(input.taskUuid))}`,
    ].join('\n'),
  );
}
