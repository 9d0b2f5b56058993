/** The data plane over a cable that is pulled out in mid-transfer: packets vanish, and nobody is told. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { EPOCH, MIB, makeIdentities } from '../integration/transfer/fakes.ts';
import { type ReceiverChild, startReceiverChild } from '../integration/transfer/receiver-child.ts';
import type { SenderWord, StartSender } from '../integration/transfer/sender-process.ts';
import { awaiting, sleep } from '../support/e2e-faults.ts';
import { type JoinedNamespaces, joinNamespaces } from '../support/network-namespaces.ts';

const SENDER = fileURLToPath(new URL('../integration/transfer/sender-process.ts', import.meta.url));
const DATA_BYTES = 48 * MIB;
const IDLE_MS = 2_000;

let net: JoinedNamespaces | undefined;
let receiver: ReceiverChild | undefined;
let sender: ChildProcess | undefined;

afterEach(async () => {
  sender?.kill('SIGKILL');
  await receiver?.stop();
  await net?.remove();
});

test('a transfer survives a cable that is out for a while, and sends nothing twice that was acknowledged', async () => {
  const ids = await makeIdentities();
  net = await joinNamespaces();
  const limits = { idleMs: IDLE_MS, keepAliveMs: 200, flushBytes: MIB };
  const listen = { host: net.address.b, port: 7070 };
  receiver = await startReceiverChild({ identity: ids.b, ...listen, limits }, { prefix: net.prefix.b });
  const diskTaskUuid = randomUUID();
  await receiver.open({ diskTaskUuid, epoch: EPOCH, senderFingerprint: ids.a.fingerprint });

  const words: SenderWord[] = [];
  const [command = '', ...rest] = net.prefix.a;
  sender = spawn(command, [...rest, process.execPath, SENDER], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'json',
  });
  sender.on('message', word => words.push(word as SenderWord));
  const start: StartSender = {
    identity: ids.a,
    offer: { ...listen, fingerprint: ids.b.fingerprint, epoch: EPOCH },
    diskTaskUuid,
    dataBytes: DATA_BYTES,
    bytesPerSecond: 8 * MIB,
    limits: { idleMs: IDLE_MS, keepAliveMs: 200, connectMs: 2_000, backoffMinMs: 100, backoffMaxMs: 1_000 },
  };
  sender.send(start);
  const durable = (): number =>
    words.reduce((most, word) => ('durableBytes' in word ? Math.max(most, word.durableBytes) : most), 0);
  const notes = (): string => words.map(word => ('note' in word ? (word.note ?? '') : '')).join('\n');

  await awaiting('a third of the data', () => durable() > DATA_BYTES / 3);
  await net.plug(false);
  // Both ends notice by themselves: nothing comes, and nothing says so.
  await awaiting('the sender to notice', () =>
    /waits for the receiver at .*: nothing came for/.test(notes()),
  );
  const { disks, counts } = await receiver.report();
  const heldBytes = disks[0]?.durableBytes ?? 0;
  expect(heldBytes).toBeLessThan(DATA_BYTES);
  await awaiting('the receiver to notice', async () => (await receiver?.report())?.counts.admitted === 0);
  expect(counts.displaced + counts.throttled).toBe(0);
  await awaiting('an attempt that finds nobody', () => /no connection within|cannot connect/.test(notes()));
  const attempts = () => notes().split('connects to the receiver').length;
  const before = attempts();
  await sleep(6_000);
  // Each attempt waits its two seconds and backs off: no busy loop.
  expect(attempts() - before).toBeLessThanOrEqual(6);
  const sentBytes = await net.sentBytes();
  await net.plug(true);
  await awaiting('the end', () => words.some(word => 'ended' in word), 90_000);

  const end = words.find(word => 'ended' in word);
  expect(end).toMatchObject({ ended: { connections: expect.any(Number) } });
  const after = await receiver.report();
  expect(after.disks[0]).toMatchObject({ state: 'received', durableBytes: DATA_BYTES });
  const overheadBytes = 0.06 * DATA_BYTES;
  expect((await net.sentBytes()) - sentBytes, 'what B held did not come again').toBeLessThan(
    DATA_BYTES - heldBytes + overheadBytes,
  );
}, 300_000);
