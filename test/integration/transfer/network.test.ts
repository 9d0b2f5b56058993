/** A bad line between the two ends: progress, nothing acknowledged comes twice, and no busy loop. */
import { afterEach, beforeAll, expect, test } from 'vitest';
import type { Epoch } from '../../../src/contract/fence.ts';
import { backoffMs } from '../../../src/domain/backoff.ts';
import { ReopenNeededError } from '../../../src/domain/errors.ts';
import type { ReceiverLimits, SenderLimits } from '../../../src/transfer/limits.ts';
import { SENDER_LIMITS } from '../../../src/transfer/limits.ts';
import type { SentLayer } from '../../../src/transfer/sender.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import { Random } from '../../hostile/random.ts';
import {
  EPOCH,
  KIB,
  MemorySource,
  MIB,
  makeIdentities,
  mixedMap,
  Rig,
  type TestIdentities,
  until,
} from './fakes.ts';

let ids: TestIdentities;
let rig: Rig | null = null;
beforeAll(async () => {
  ids = await makeIdentities();
});
afterEach(async () => {
  await rig?.stop();
  rig = null;
});

const startRig = async (limits: Partial<ReceiverLimits> = {}): Promise<Rig> => {
  rig = await Rig.start(ids, { newConnectionsPerSecond: 10_000, ...limits });
  return rig;
};

/** What may be under way without an acknowledgement, and so comes again after a cut. */
const WINDOW_BYTES = 12 * MIB;

/** Each byte is written once but for what was not durable, and no sink begins before what was acknowledged. */
function expectWhole({ directory }: Rig, disk: string, source: MemorySource): void {
  const replica = directory.replica(disk);
  expect(replica.bytes.equals(source.content)).toBe(true);
  expect(replica.mostOpenSinks).toBe(1);
  expect(replica.starts).toEqual([...replica.starts].sort((left, right) => left - right));
  expect(directory.sessions.get(disk)?.state).toBe('received');
}

const rises = (values: readonly number[]): boolean =>
  values.every((value, at) => at === 0 || value >= (values[at - 1] ?? 0));

test.each([1, 2, 3, 4])('is cut at random bytes in either direction, seed %i', async seed => {
  const here = await startRig({ flushBytes: 256 * KIB, keepAliveMs: 10 });
  const random = new Random(seed, 0);
  const disk = here.openSession();
  const source = new MemorySource(mixedMap(12 * MIB), seed);
  source.onRead = () => new Promise(resolve => setTimeout(resolve, 2));
  const cutSomewhere = (): void => {
    // Some fall into the handshake, the hello or the map; the way back carries only small frames.
    if (random.oneIn(2)) here.proxy.cutAfter(random.below(random.oneIn(3) ? 6 * KIB : 2 * MIB), 'up');
    else here.proxy.cutAfter(random.below(2 * KIB), 'down');
  };
  cutSomewhere();
  let planned = here.proxy.connections;
  const watch = setInterval(() => {
    if (here.proxy.cuts >= 15 || here.proxy.connections === planned) return;
    planned = here.proxy.connections;
    cutSomewhere();
  }, 1);
  const { done, progress } = here.send(disk, source, {
    throttle: createThrottle(12 * MIB),
    limits: { unreachableMs: 60_000, keepAliveMs: 10 },
  });
  const sent = await done.finally(() => clearInterval(watch));
  expect(here.proxy.cuts).toBeGreaterThanOrEqual(4);
  expectWhole(here, disk, source);
  expect(rises(progress.map(({ durableBytes }) => durableBytes))).toBe(true);
  const { cuts } = here.proxy;
  expect(sent.bytesSent - source.map.dataBytes).toBeLessThanOrEqual(cuts * WINDOW_BYTES);
  expect(here.proxy.bytes.up).toBeLessThanOrEqual(sent.bytesSent * 1.03 + (cuts + 1) * 64 * KIB);
});

test('A vanishes from its connection and comes back: B does not wait for the old one', async () => {
  const here = await startRig({ idleMs: 600_000 });
  const disk = here.openSession();
  const source = new MemorySource(mixedMap(8 * MIB));
  const sending = here.send(disk, source, { throttle: createThrottle(8 * MIB) });
  await until(() => (here.directory.replicas.get(disk)?.writes.length ?? 0) > 1);
  expect(here.proxy.abandon('client')).toBe(1);
  const sent = await sending.done;
  expect(sent.connections).toBe(2);
  expectWhole(here, disk, source);
  await until(() => here.receiver.counts().admitted === 0);
});

test('B vanishes from its connection without a word: A notices the silence and connects again', async () => {
  const here = await startRig();
  const disk = here.openSession();
  const source = new MemorySource(mixedMap(8 * MIB));
  const sending = here.send(disk, source, { throttle: createThrottle(8 * MIB) });
  await until(() => (here.directory.replicas.get(disk)?.writes.length ?? 0) > 1);
  expect(here.proxy.abandon('server')).toBe(1);
  const sent = await sending.done;
  expect(sent.connections).toBe(2);
  expect(sending.progress.some(({ note }) => note?.includes('nothing came for'))).toBe(true);
  expectWhole(here, disk, source);
});

test('a line of 300 ms that jitters, stalls for seconds and is narrow needs no second connection', async () => {
  const here = await startRig({ idleMs: 20_000, handshakeMs: 20_000, helloMs: 20_000 });
  const random = new Random(7, 0);
  here.proxy.latency({ delayMs: 300, jitterMs: 150, random: () => random.u32() / 2 ** 32 });
  here.proxy.limit(4 * MIB);
  here.proxy.stallAfter(3 * MIB, 2_500, 'up');
  const disk = here.openSession();
  const source = new MemorySource(mixedMap(10 * MIB));
  const sending = here.send(disk, source, { limits: { idleMs: 20_000, connectMs: 20_000 } });
  await until(() => here.proxy.stalls === 1);
  here.proxy.stallAfter(0, 2_500, 'down');
  const sent = await sending.done;
  expect(here.proxy.stalls).toBe(2);
  expect(sent).toMatchObject({ connections: 1, bytesSent: source.map.dataBytes });
  expect(here.proxy.bytes.up).toBeLessThan(source.map.dataBytes * 1.03);
  expect(
    Math.abs(sent.clock?.offsetMs ?? Number.NaN),
    'the same clock, as far as the line lets see',
  ).toBeLessThan(sent.clock?.roundTripMs ?? 0);
  expectWhole(here, disk, source);
});

test.each(['up', 'down'] as const)(
  'bits that flip on the way %s are caught, and nothing wrong is written',
  async direction => {
    const here = await startRig({ flushBytes: 256 * KIB });
    const random = new Random(11, direction === 'up' ? 0 : 1);
    const disk = here.openSession();
    const source = new MemorySource(mixedMap(8 * MIB));
    source.onRead = () => new Promise(resolve => setTimeout(resolve, 5));
    const flip = (): void =>
      here.proxy.corruptAfter(
        direction === 'up' ? random.below(2 * MIB) : random.below(2 * KIB) + (random.oneIn(2) ? 2 * KIB : 0),
        direction,
      );
    flip();
    let seen = 0;
    const watch = setInterval(() => {
      if (here.proxy.corruptions >= 6 || here.proxy.corruptions === seen) return;
      seen = here.proxy.corruptions;
      flip();
    }, 1);
    const sent = await here
      .send(disk, source, { throttle: createThrottle(8 * MIB), limits: { unreachableMs: 60_000 } })
      .done.finally(() => clearInterval(watch));
    expect(here.proxy.corruptions).toBeGreaterThanOrEqual(2);
    // A bit that flips in what a broken connection still carries costs no connection of its own.
    expect(here.proxy.connections).toBeGreaterThan(1);
    expect(sent.durableBytes).toBe(source.map.dataBytes);
    expectWhole(here, disk, source);
    expect(
      here.directory.replica(disk).writes.reduce((sum, { length }) => sum + length, 0),
    ).toBeGreaterThanOrEqual(source.map.dataBytes);
  },
);

/** All time-outs of a sender a hundred times shorter. */
const SCALE = 100;
const SCALED: Partial<SenderLimits> = {
  idleMs: SENDER_LIMITS.idleMs / SCALE,
  keepAliveMs: SENDER_LIMITS.keepAliveMs / SCALE,
  connectMs: 2_000,
  unreachableMs: SENDER_LIMITS.unreachableMs / SCALE,
  backoffMinMs: SENDER_LIMITS.backoffMinMs / SCALE,
  backoffMaxMs: SENDER_LIMITS.backoffMaxMs / SCALE,
};

test('an outage of ten minutes, a hundred times shorter: attempts back off, new receivers are opened, nothing comes twice', async () => {
  const here = await startRig({ flushBytes: 256 * KIB });
  const disk = here.openSession();
  const source = new MemorySource(mixedMap(8 * MIB));
  const outageMs = (10 * 60_000) / SCALE;
  const notes = new Set<string>();
  let reopened = 0;
  let bytesSent = 0;
  let outageBeganMs = 0;
  let durableBefore = 0;

  /** What the disk's workflow does: another receiver for each attempt that is given up. */
  const transfer = async (): Promise<SentLayer> => {
    for (let openCount = 1; ; openCount += 1) {
      const epoch: Epoch = { ...EPOCH, openCount };
      here.directory.open(disk, epoch, ids.a.fingerprint);
      await here.receiver.cut(disk, epoch);
      const sending = here.send(disk, new MemorySource(source.map), {
        offer: { host: '127.0.0.1', port: here.proxy.port, fingerprint: ids.b.fingerprint, epoch },
        throttle: createThrottle(4 * MIB),
        limits: SCALED,
        onProgress: ({ note }) => void notes.add((note ?? '').slice(0, 21)),
      });
      try {
        const sent = await sending.done;
        bytesSent += sent.bytesSent;
        return sent;
      } catch (error) {
        if (!(error instanceof ReopenNeededError)) throw error;
        reopened += 1;
        await new Promise(resolve => setTimeout(resolve, backoffMs(openCount) / SCALE));
      }
    }
  };
  const done = transfer();
  done.catch(() => {});
  await until(() => (here.directory.replicas.get(disk)?.durableBytes ?? 0) > MIB);
  here.proxy.refuse(true);
  here.proxy.cutNow();
  outageBeganMs = performance.now();
  await until(() => performance.now() - outageBeganMs >= outageMs);
  durableBefore = here.directory.replica(disk).durableBytes;
  const { refusals } = here.proxy;
  const upBytes = here.proxy.bytes.up;
  here.proxy.refuse(false);
  await done;

  expectWhole(here, disk, source);
  expect(reopened, 'two minutes without a word open a new receiver').toBeGreaterThanOrEqual(2);
  expect([...notes]).toContain('waits for the receive');
  // At the longest back-off, 50 ms less a quarter, there are 160 attempts; the short ones at each beginning add some.
  expect(refusals).toBeGreaterThan(10);
  expect(refusals).toBeLessThanOrEqual(outageMs / (0.75 * (SCALED.backoffMaxMs ?? 1)) + 8 * (reopened + 1));
  expect(here.proxy.bytes.up - upBytes, 'what was durable does not come again').toBeLessThan(
    (source.map.dataBytes - durableBefore) * 1.03 + 64 * KIB,
  );
  expect(bytesSent).toBe(source.map.dataBytes - durableBefore);
});
