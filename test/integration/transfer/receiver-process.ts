/** A receiver as a process of its own, so that its memory can be measured; replicas are kept in memory. */
import { readFileSync } from 'node:fs';
import type { Epoch } from '../../../src/contract/fence.ts';
import type { NodeIdentity } from '../../../src/transfer/identity.ts';
import type { ReceiverLimits } from '../../../src/transfer/limits.ts';
import { createReceiver, type Receiver, type ReceiverCounts } from '../../../src/transfer/receiver.ts';
import { collectLog, MemoryDirectory } from './fakes.ts';

export interface StartReceiver {
  readonly identity: NodeIdentity;
  readonly host: string;
  readonly port: number;
  readonly limits: Partial<ReceiverLimits>;
}

export interface OpenSession {
  readonly diskTaskUuid: string;
  readonly epoch: Epoch;
  readonly senderFingerprint: string;
}

export interface ReceiverReport {
  readonly port: number;
  readonly rssBytes: number;
  readonly peakRssBytes: number;
  readonly counts: ReceiverCounts;
  /** Warnings by event and code. */
  readonly warnings: Readonly<Record<string, number>>;
  readonly disks: readonly {
    readonly diskTaskUuid: string;
    readonly state: string;
    readonly durableBytes: number;
    readonly contentDigest: string | null;
    readonly writtenBytes: number;
  }[];
}

export type Request =
  | { readonly start: StartReceiver }
  | { readonly open: OpenSession }
  | { readonly report: true };

const directory = new MemoryDirectory();
const { log, entries } = collectLog();
let receiver: Receiver | null = null;

function report(): ReceiverReport {
  if (receiver === null) throw new Error('it does not run yet');
  const warnings: Record<string, number> = {};
  for (const { level, fields } of entries) {
    if (level !== 'warn') continue;
    const kind = fields.code ?? fields.event ?? '';
    warnings[kind] = (warnings[kind] ?? 0) + 1;
  }
  const peakKib = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return {
    port: receiver.port,
    rssBytes: process.memoryUsage.rss(),
    peakRssBytes: Number(peakKib) * 1024,
    counts: receiver.counts(),
    warnings,
    disks: [...directory.sessions.values()].map(({ diskTaskUuid, state, received }) => {
      const replica = directory.replicas.get(diskTaskUuid);
      return {
        diskTaskUuid,
        state,
        durableBytes: replica?.durableBytes ?? 0,
        contentDigest: received?.contentDigest ?? null,
        writtenBytes: (replica?.writes ?? []).reduce((sum, { length }) => sum + length, 0),
      };
    }),
  };
}

async function answer(request: Request): Promise<ReceiverReport> {
  if ('start' in request) {
    const { identity, host, port, limits } = request.start;
    receiver = createReceiver({ identity, listen: { host, port }, directory, log, limits });
    await receiver.start();
  } else if ('open' in request) {
    const { diskTaskUuid, epoch, senderFingerprint } = request.open;
    directory.open(diskTaskUuid, epoch, senderFingerprint);
  }
  return report();
}

process.on('message', (request: Request) => {
  void answer(request).then(
    result => process.send?.(result),
    error => process.send?.({ error: String(error) }),
  );
});
process.on('disconnect', () => process.exit(0));
