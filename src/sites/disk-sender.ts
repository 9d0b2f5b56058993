/** Brings a chain of images, or a journal, and a data connection together. */
import type { DiskSender } from '../activities/source-ports.ts';
import { openJournalSource } from '../images/cdp/journal-source.ts';
import { openLayerSource } from '../images/layer-source.ts';
import type { Log } from '../lib/log.ts';
import type { NodeIdentity } from '../transfer/identity.ts';
import { sendJournal } from '../transfer/journal-sender.ts';
import { sendLayer } from '../transfer/sender.ts';
import { journalFolder } from './journal-directory.ts';
import { createScheduleThrottles } from './schedule-throttles.ts';

/** One hash decides one cluster; smaller ones would make the list of hashes longer than a fifth of a percent. */
const COMPARED_CLUSTER_BYTES = 16 * 1024;

export function createDiskSender(parts: {
  identity: NodeIdentity;
  imageRoots: readonly string[];
  /** The folder of all journals of this node. */
  journalRoot: string;
  log: Log;
}): DiskSender {
  const { identity, imageRoots, journalRoot, log } = parts;
  const throttles = createScheduleThrottles();
  return {
    async send(input, { topPath, basePath }, { signal, attempt, onProgress, onStart }) {
      const { throttle, leave } = throttles.join(input.fence.scheduleUuid, input.bandwidthBytesPerSecond);
      const isComparison = input.method === 'compare';
      onStart(bytesPerSecond => throttle.setRate(bytesPerSecond));
      try {
        return await sendLayer({
          identity,
          offer: input.receiver,
          diskTaskUuid: input.diskTaskUuid,
          attempt,
          openSource: () =>
            openLayerSource({
              ...{ topPath, basePath, imageRoots, proof: input.proof },
              ...(isComparison && { leastClusterBytes: COMPARED_CLUSTER_BYTES }),
            }),
          compare: isComparison,
          throttle,
          signal,
          onProgress,
          log,
        });
      } finally {
        leave();
      }
    },

    async sendJournal(input, { directory, window, epochState }, { signal, attempt, onProgress, onStart }) {
      const { throttle, leave } = throttles.join(input.fence.scheduleUuid, input.bandwidthBytesPerSecond);
      const { host, disk, hostSnapshot: epochUuid, diskTaskUuid } = input;
      onStart(bytesPerSecond => throttle.setRate(bytesPerSecond));
      try {
        return await sendJournal({
          ...{ identity, offer: input.receiver, diskTaskUuid, attempt, throttle, signal, onProgress, log },
          openSource: async () => {
            const folder = await journalFolder(directory, journalRoot);
            return openJournalSource({ directory: folder, epochUuid, host, disk, window, epochState });
          },
        });
      } finally {
        leave();
      }
    },
  };
}
