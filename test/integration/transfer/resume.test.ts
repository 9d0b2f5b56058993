import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import {
  EPOCH,
  KIB,
  MemorySource,
  MIB,
  makeIdentities,
  makeMap,
  mixedMap,
  Rig,
  type TestIdentities,
  until,
} from './fakes.ts';

describe('a layer on its way from A to B', () => {
  let ids: TestIdentities;
  let rig: Rig;
  beforeAll(async () => {
    ids = await makeIdentities();
  });
  beforeEach(async () => {
    rig = await Rig.start(ids);
  });
  afterEach(() => rig.stop());

  test('arrives whole, with less than 2 % on the line besides it', async () => {
    const disk = rig.openSession();
    const source = new MemorySource(mixedMap(16 * MIB + 300));
    const { done, progress } = rig.send(disk, source);
    const sent = await done;
    const replica = rig.directory.replica(disk);
    expect(replica.bytes.equals(source.content)).toBe(true);
    expect(rig.directory.sessions.get(disk)).toMatchObject({
      state: 'received',
      received: { totalBytes: source.map.dataBytes, contentDigest: sent.contentDigest },
    });
    expect(sent).toMatchObject({
      bytesSent: source.map.dataBytes,
      durableBytes: source.map.dataBytes,
      connections: 1,
    });
    expect(source.readBytes).toBe(source.map.dataBytes);
    expect(source.mostReading).toBeGreaterThan(1);
    expect(source.isClosed).toBe(true);
    expect(rig.proxy.bytes.up).toBeGreaterThan(source.map.dataBytes);
    expect(rig.proxy.bytes.up + rig.proxy.bytes.down).toBeLessThan(source.map.dataBytes * 1.02);
    const durable = progress.map(({ durableBytes }) => durableBytes);
    expect(durable).toEqual([...durable].sort((left, right) => left - right));
    expect(new Set(durable).size).toBeGreaterThan(5);
    expect(Math.abs(sent.clock?.offsetMs ?? Number.NaN)).toBeLessThan(1000);
    expect(rig.receiver.progress(disk)).toMatchObject({ durableBytes: source.map.dataBytes, note: null });
    expect(rig.warnings).toEqual([]);
  });

  test.each([
    ['no data at all', makeMap([['hole', 8 * MIB]])],
    ['a size of zero', makeMap([])],
    ['one cluster', makeMap([['data', 512]], 512)],
    [
      'many small extents',
      makeMap(
        Array.from({ length: 3000 }, (_, at) => [at % 2 ? 'data' : 'hole', 4096] as const),
        4096,
      ),
    ],
  ])('arrives whole with %s', async (_, map) => {
    const disk = rig.openSession();
    const source = new MemorySource(map);
    expect(await rig.send(disk, source).done).toMatchObject({ totalBytes: map.dataBytes });
    expect(rig.directory.replica(disk).bytes.equals(source.content)).toBe(true);
  });

  test('is not cut into frames along its extents', async () => {
    const disk = rig.openSession();
    const extents = Array.from({ length: 512 }, (_, at) => [at % 2 ? 'data' : 'hole', 16 * KIB] as const);
    await rig.send(disk, new MemorySource(makeMap(extents, 16 * KIB))).done;
    expect(rig.directory.replica(disk).writes).toHaveLength(4);
  });

  test('is told as received at once when B has it, and its source is not even opened', async () => {
    const disk = rig.openSession();
    const first = await rig.send(disk, new MemorySource(mixedMap(2 * MIB))).done;
    await rig.restartReceiver();
    const openSource = (): never => {
      throw new Error('it is not needed');
    };
    const again = await rig.send(disk, new MemorySource(mixedMap(0)), { openSource, attempt: 1 }).done;
    expect(again).toMatchObject({ contentDigest: first.contentDigest, bytesSent: 0, totalBytes: 2 * MIB });
  });

  test('goes on behind what was acknowledged, wherever and however often the line is cut', async () => {
    const disk = rig.openSession();
    const source = new MemorySource(mixedMap(24 * MIB));
    const cuts = 12;
    let seed = 7;
    const cutSomewhere = (): void => {
      seed = (seed * 48271) % 2147483647;
      rig.proxy.cutAfter(20 * KIB + (seed % (4 * MIB)));
    };
    cutSomewhere();
    const watch = setInterval(() => {
      if (rig.proxy.cuts < cuts && rig.proxy.cuts === rig.proxy.connections) cutSomewhere();
    }, 1);
    source.onRead = () => new Promise(resolve => setTimeout(resolve, 2));
    const { done, progress } = rig.send(disk, source);
    const sent = await done.finally(() => clearInterval(watch));
    const replica = rig.directory.replica(disk);
    expect(rig.proxy.cuts).toBeGreaterThanOrEqual(5);
    expect(sent.connections).toBeGreaterThan(rig.proxy.cuts);
    expect(replica.bytes.equals(source.content)).toBe(true);
    expect(replica.mostOpenSinks).toBe(1);
    // The sinks' positions never go back: what was written once was made durable before the next connection.
    const positions = replica.writes.map(({ position }) => position);
    expect(positions).toEqual([...new Set(positions)].sort((left, right) => left - right));
    const durable = progress.map(({ durableBytes }) => durableBytes);
    expect(durable).toEqual([...durable].sort((left, right) => left - right));
    // Each cut costs at most what was in flight: the sender's four pieces, the queue, and the sockets' buffers.
    expect(sent.bytesSent - source.map.dataBytes).toBeLessThan(rig.proxy.cuts * 12 * MIB);
    // Nothing is read again but what is sent again.
    expect(source.readBytes).toBeLessThanOrEqual(sent.bytesSent + rig.proxy.cuts * 4 * MIB);
  });

  test('goes on with a new sender process, which hashes the prefix itself, and a restarted receiver', async () => {
    const disk = rig.openSession();
    const map = mixedMap(8 * MIB);
    const first = new MemorySource(map);
    const blocked = Promise.withResolvers<void>();
    first.onRead = position => (position >= 5 * MIB ? blocked.promise : undefined);
    const sending = rig.send(disk, first);
    await until(() => (sending.progress.at(-1)?.durableBytes ?? 0) >= 4 * MIB);
    sending.stop(new Error('its process died'));
    blocked.resolve();
    await expect(sending.done).rejects.toThrow('its process died');
    await rig.restartReceiver();
    const { durableBytes } = rig.directory.replica(disk);
    const second = new MemorySource(map);
    const sent = await rig.send(disk, second, { attempt: 2_000_000 }).done;
    expect(sent.bytesSent).toBe(map.dataBytes - durableBytes);
    expect(second.readBytes).toBe(map.dataBytes);
    expect(rig.directory.replica(disk).bytes.equals(first.content)).toBe(true);
  });

  test('runs beside another on the same receiver', async () => {
    const disks = [1, 2].map(seed => ({
      disk: rig.openSession(),
      source: new MemorySource(mixedMap(6 * MIB), seed),
    }));
    await Promise.all(disks.map(({ disk, source }) => rig.send(disk, source).done));
    for (const { disk, source } of disks) {
      expect(rig.directory.replica(disk).bytes.equals(source.content)).toBe(true);
    }
  });

  test('keeps to a rate that is changed on the way', async () => {
    const disk = rig.openSession();
    const source = new MemorySource(mixedMap(4 * MIB));
    const throttle = createThrottle(64 * KIB);
    const { done } = rig.send(disk, source, { throttle });
    await until(() => (rig.directory.replicas.get(disk)?.writes.length ?? 0) >= 4);
    const { writes } = rig.directory.replica(disk);
    // At this rate the whole would take a minute; pieces are a tenth of a second's worth.
    expect(Math.max(...writes.map(({ length }) => length))).toBeLessThanOrEqual(7 * KIB);
    throttle.setRate(null);
    await done;
    expect(rig.directory.replica(disk).bytes.equals(source.content)).toBe(true);
  });

  test('waits for a receiver that comes up late, and says so', async () => {
    const disk = rig.openSession();
    rig.proxy.refuse(true);
    const sending = rig.send(disk, new MemorySource(mixedMap(MIB)));
    await until(() =>
      sending.progress.some(({ note }) => note?.startsWith('waits for the receiver at 127.0.0.1')),
    );
    rig.proxy.refuse(false);
    expect(await sending.done).toMatchObject({ totalBytes: MIB });
  });

  test('goes to the epoch that is open and to no other', async () => {
    const disk = rig.openSession();
    const offer = { host: '127.0.0.1', port: rig.proxy.port, fingerprint: ids.b.fingerprint };
    const source = new MemorySource(mixedMap(MIB));
    const send = (epoch: typeof EPOCH) => rig.send(disk, source, { offer: { ...offer, epoch } }).done;
    await expect(send({ ...EPOCH, plan: 1, openCount: 9 })).rejects.toMatchObject({ code: 'Superseded' });
    await expect(send({ ...EPOCH, openCount: 2 })).rejects.toMatchObject({ code: 'ReopenNeeded' });
    expect(rig.directory.replicas.size).toBe(0);
    expect(rig.warnings).toEqual(['Superseded', 'ReopenNeeded']);
    await send(EPOCH);
  });
});
