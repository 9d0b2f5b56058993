/** Strangers at the data port: their floods cost little, and transfers go on meanwhile. */
import { randomBytes, randomUUID } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { encodeHello, encodePiece } from '../../../src/transfer/messages.ts';
import { sendLayer } from '../../../src/transfer/sender.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import { tlsOptions } from '../../../src/transfer/tls.ts';
import {
  collectLog,
  EPOCH,
  MemorySource,
  MIB,
  makeIdentities,
  mixedMap,
  SHORT_SENDER,
  type TestIdentities,
} from './fakes.ts';
import { type ReceiverChild, startReceiverChild } from './receiver-child.ts';

const LIMITS = { handshakeMs: 1_500, helloMs: 1_500, pendingConnections: 32, pendingPerAddress: 8 };
/** What the receiver may grow by: 32 TLS connections, one being received, and what the collector leaves lying. */
const GROWTH_BYTES = 160 * MIB;

let ids: TestIdentities;
let receiver: ReceiverChild;
let sockets: Set<Socket>;

beforeAll(async () => {
  ids = await makeIdentities();
});
beforeEach(async () => {
  sockets = new Set();
  receiver = await startReceiverChild({ identity: ids.b, host: '0.0.0.0', port: 0, limits: LIMITS });
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await receiver?.stop();
});

function keep<S extends Socket>(socket: S): S {
  sockets.add(socket);
  socket.on('error', () => {});
  socket.on('close', () => sockets.delete(socket));
  return socket;
}

const tcp = (localAddress: string): Socket =>
  keep(connectTcp({ host: '127.0.0.1', port: receiver.port, localAddress }));

/** @param onOpen is called after the handshake, as a stranger's */
function tls(localAddress: string, onOpen: (socket: TLSSocket) => void = () => {}): TLSSocket {
  const options = { ...tlsOptions(ids.stranger), host: '127.0.0.1', port: receiver.port, localAddress };
  const socket = keep(connectTls(options));
  socket.once('secureConnect', () => onOpen(socket));
  return socket;
}

const strangersHello = (): Buffer =>
  encodeHello({ version: 1, diskTaskUuid: randomUUID(), epoch: EPOCH, attempt: 1, sentAtMs: 0 });

/** Each comes from an address of its own. */
const FLOODS: Record<string, (address: string) => void> = {
  'idle connections': address => void tcp(address),
  'handshakes and then silence': address => void tls(address),
  'hellos for any disk': address => void tls(address, socket => socket.write(strangersHello())),
  'random bytes': address => void tcp(address).write(randomBytes(600)),
  'random bytes within TLS': address => void tls(address, socket => socket.write(randomBytes(600))),
  'oversized frames': address =>
    void tls(address, socket => socket.write(encodePiece('data', 0, Buffer.alloc(MIB)))),
  'data before a hello': address =>
    void tls(address, socket => socket.write(encodePiece('data', 0, Buffer.alloc(4000)))),
  'a byte at a time': address => {
    const socket = tls(address);
    const hello = strangersHello();
    let at = 0;
    const drip = setInterval(() => socket.write(hello.subarray(at, ++at)), 300);
    socket.once('close', () => clearInterval(drip));
  },
};

function send(source: MemorySource, diskTaskUuid: string, bytesPerSecond: number | null) {
  return sendLayer({
    identity: ids.a,
    offer: { host: '127.0.0.1', port: receiver.port, fingerprint: ids.b.fingerprint, epoch: EPOCH },
    diskTaskUuid,
    attempt: 1,
    openSource: async () => source,
    throttle: createThrottle(bytesPerSecond),
    signal: new AbortController().signal,
    onProgress: () => {},
    log: collectLog().log,
    limits: { ...SHORT_SENDER, idleMs: 10_000, connectMs: 10_000, unreachableMs: 60_000 },
  });
}

async function openDisk(): Promise<string> {
  const diskTaskUuid = randomUUID();
  await receiver.open({ diskTaskUuid, epoch: EPOCH, senderFingerprint: ids.a.fingerprint });
  return diskTaskUuid;
}

const sleep = (delayMs: number): Promise<void> => new Promise(resolve => setTimeout(resolve, delayMs));

test('a transfer goes on, and another begins, while strangers flood the port in every way', async () => {
  const source = new MemorySource(mixedMap(24 * MIB));
  const disk = await openDisk();
  const running = send(source, disk, 3 * MIB);
  const before = await receiver.report();
  let isFlooding = true;
  let opened = 0;
  let mostPending = 0;
  const flooding = (async () => {
    while (isFlooding) {
      for (const [at, flood] of Object.values(FLOODS).entries()) {
        for (let count = 0; count < 4; count += 1) flood(`127.0.1.${at + 1}`);
        opened += 4;
      }
      mostPending = Math.max(mostPending, (await receiver.report()).counts.pending);
      await sleep(50);
    }
  })();
  const newcomer = new MemorySource(mixedMap(4 * MIB), 2);
  await sleep(1_000);
  await send(newcomer, await openDisk(), null);
  const sent = await running.finally(() => {
    isFlooding = false;
  });
  await flooding;
  expect(sent, 'the running transfer was not even cut').toMatchObject({
    connections: 1,
    bytesSent: 24 * MIB,
  });

  const after = await receiver.report();
  expect(after.disks.map(({ state }) => state)).toEqual(['received', 'received']);
  expect(opened).toBeGreaterThan(500);
  expect(after.counts.displaced + after.counts.throttled).toBeGreaterThan(100);
  expect(mostPending).toBeLessThanOrEqual(LIMITS.pendingConnections);
  // Of thousands of faults a few lines were written.
  for (const [kind, count] of Object.entries(after.warnings)) expect(count, kind).toBeLessThanOrEqual(5);
  expect(after.peakRssBytes - before.rssBytes).toBeLessThan(GROWTH_BYTES);
});

test('thousands of idle connections from one address hold eight places, for the time of a handshake', async () => {
  const before = await receiver.report();
  for (let count = 0; count < 3_000; count += 1) {
    tcp('127.0.2.1');
    if (count % 50 === 0) await sleep(5);
  }
  const during = await receiver.report();
  expect(during.counts.pending).toBeLessThanOrEqual(LIMITS.pendingPerAddress);
  expect(during.counts.throttled).toBeGreaterThan(500);
  await expect.poll(async () => (await receiver.report()).counts.pending, { timeout: 30_000 }).toBe(0);
  expect(during.peakRssBytes - before.rssBytes).toBeLessThan(GROWTH_BYTES);
  const disk = await openDisk();
  await send(new MemorySource(mixedMap(MIB)), disk, null);
});

test('every address that is full gives its oldest place to its newest connection', async () => {
  const old = Array.from({ length: LIMITS.pendingPerAddress }, () => tcp('127.0.3.1'));
  await expect.poll(async () => (await receiver.report()).counts.pending).toBe(LIMITS.pendingPerAddress);
  const other = tcp('127.0.3.2');
  const young = tcp('127.0.3.1');
  await expect.poll(() => old.filter(socket => socket.destroyed).length).toBe(1);
  expect(old[0]?.destroyed).toBe(true);
  expect(young.destroyed).toBe(false);
  expect(other.destroyed).toBe(false);
});

test('a TLS session is never resumed: each connection proves its key anew', async () => {
  const session = await new Promise<Buffer | null>(resolve => {
    const first = tls('127.0.4.1', socket => {
      socket.write(strangersHello());
      setTimeout(() => resolve(socket.getSession() ?? null), 500);
    });
    first.once('session', resolve);
  });
  const again = keep(
    connectTls({
      ...tlsOptions(ids.stranger),
      host: '127.0.0.1',
      port: receiver.port,
      ...(session === null ? {} : { session }),
    }),
  );
  await new Promise(resolve => again.once('secureConnect', resolve));
  expect(again.isSessionReused()).toBe(false);
});
