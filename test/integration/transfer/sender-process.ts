/** A sender as a process of its own; what it sends is made by the seed. */

import type { ReceiverOffer } from '../../../src/contract/transfer.ts';
import type { NodeIdentity } from '../../../src/transfer/identity.ts';
import type { SenderLimits } from '../../../src/transfer/limits.ts';
import { sendLayer } from '../../../src/transfer/sender.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import { collectLog, MemorySource, mixedMap } from './fakes.ts';

export interface StartSender {
  readonly identity: NodeIdentity;
  readonly offer: ReceiverOffer;
  readonly diskTaskUuid: string;
  readonly dataBytes: number;
  readonly bytesPerSecond: number;
  readonly limits: Partial<SenderLimits>;
}

/** Told at each step, and once with how it ended. */
export type SenderWord =
  | { readonly durableBytes: number; readonly note: string | null }
  | {
      readonly ended:
        | { readonly bytesSent: number; readonly connections: number }
        | { readonly error: string };
    };

const say = (word: SenderWord): void => void process.send?.(word);

process.once('message', (start: StartSender) => {
  const { identity, offer, diskTaskUuid, dataBytes, bytesPerSecond, limits } = start;
  const source = new MemorySource(mixedMap(dataBytes));
  void sendLayer({
    identity,
    offer,
    diskTaskUuid,
    attempt: 1,
    openSource: async () => source,
    throttle: createThrottle(bytesPerSecond),
    signal: new AbortController().signal,
    onProgress: ({ durableBytes, note }) => say({ durableBytes, note }),
    log: collectLog().log,
    limits,
  }).then(
    ({ bytesSent, connections }) => say({ ended: { bytesSent, connections } }),
    error => say({ ended: { error: String(error) } }),
  );
});
process.on('disconnect', () => process.exit(0));
