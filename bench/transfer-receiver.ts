/** The receiving process of bench/transfer.ts: a real receiver over real replica files, without a catalog. */
import { join } from 'node:path';
import { openPartial } from '../src/images/replica/partial.ts';
import type { Log } from '../src/lib/log.ts';
import { loadIdentity } from '../src/transfer/identity.ts';
import { createReceiver } from '../src/transfer/receiver.ts';

export const DISK_TASK = '00000000-0000-4000-8000-000000000001';
export const EPOCH = { generation: 1, plan: 1, openCount: 1 };
const nothing = () => {};
export const QUIET: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

export interface BenchOffer {
  readonly host: string;
  readonly port: number;
  readonly fingerprint: string;
}

if (process.send !== undefined) await serve(process.argv[2] ?? '', process.argv[3] ?? '');

async function serve(directory: string, senderFingerprint: string): Promise<void> {
  const identity = await loadIdentity(join(directory, 'identity'));
  const receiver = createReceiver({
    identity,
    listen: { host: '127.0.0.1', port: 0 },
    directory: {
      find: async diskTaskUuid => ({
        diskTaskUuid,
        epoch: EPOCH,
        senderFingerprint,
        state: 'open',
        received: null,
      }),
      openBase: async () => ({ none: 'nothing' }),
      resumeSink: async () => null,
      openSink: (_session, map) =>
        openPartial({
          directory: join(directory, 'replica'),
          finalName: '00000000-0000-4000-8000-000000000002.0123456789abcdef.qcow2',
          map,
          backing: null,
        }),
      openJournal: () => Promise.reject(new Error('not here')),
      markReceived: async () => {},
    },
    log: QUIET,
  });
  await receiver.start();
  const before = process.cpuUsage();
  process.on('message', () => {
    const { user, system } = process.cpuUsage(before);
    process.send?.((user + system) / 1e6);
  });
  process.send?.({ host: '127.0.0.1', port: receiver.port, fingerprint: identity.fingerprint });
}
