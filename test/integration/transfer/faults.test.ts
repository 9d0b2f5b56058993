import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { OffsiteError, PlanBrokenError } from '../../../src/domain/errors.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
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

describe('a transfer under faults', () => {
  let ids: TestIdentities;
  let rig: Rig;
  let disk: string;
  beforeAll(async () => {
    ids = await makeIdentities();
  });
  beforeEach(async () => {
    rig = await Rig.start(ids);
    disk = rig.openSession();
  });
  afterEach(() => rig.stop());

  const hold = () => Promise.withResolvers<void>();

  test('a higher attempt cuts the lower one and writes only after its write has ended', async () => {
    const gate = hold();
    rig.directory.onNewReplica = replica => {
      replica.onWrite = position => (position >= 2 * MIB ? gate.promise : undefined);
    };
    const map = mixedMap(8 * MIB);
    const old = new MemorySource(map);
    const lower = rig.send(disk, old, { attempt: 1_000_000 });
    await until(() => (rig.directory.replicas.get(disk)?.writes.length ?? 0) === 2);
    const source = new MemorySource(map);
    const higher = rig.send(disk, source, { attempt: 2_000_000 });
    // The lower one comes back by itself and is told that it is the old one.
    await expect(lower.done).rejects.toMatchObject({ code: 'StaleAttempt' });
    expect(old.isClosed).toBe(true);
    const replica = rig.directory.replica(disk);
    expect(replica.starts).toEqual([0]);
    gate.resolve();
    await higher.done;
    expect(replica.mostOpenSinks).toBe(1);
    // The write that hung was made durable; what stood in the queue behind it came again.
    expect(replica.starts).toEqual([0, 3 * MIB]);
    expect(replica.bytes.equals(source.content)).toBe(true);
  });

  test('cut ends lower epochs, after their writes, and leaves the others', async () => {
    const gate = hold();
    let isWriting = false;
    rig.directory.onNewReplica = replica => {
      replica.onWrite = () => {
        isWriting = true;
        return gate.promise;
      };
    };
    const sending = rig.send(disk, new MemorySource(mixedMap(2 * MIB)));
    await until(() => isWriting);
    await rig.receiver.cut(disk, EPOCH);
    expect(rig.proxy.connections).toBe(1);
    const next = { ...EPOCH, openCount: 2 };
    rig.directory.open(disk, next, ids.a.fingerprint);
    let isCut = false;
    const cut = rig.receiver.cut(disk, next).then(() => {
      isCut = true;
    });
    await expect(sending.done).rejects.toMatchObject({ code: 'Superseded' });
    expect(isCut).toBe(false);
    gate.resolve();
    await cut;
    expect(rig.directory.replica(disk).openSinks).toBe(0);
  });

  test('cut of all stops what flows, and a closed session stays closed', async () => {
    const sending = rig.send(disk, new MemorySource(mixedMap(8 * MIB)), { throttle: createThrottle(MIB) });
    await until(() => (rig.directory.replicas.get(disk)?.writes.length ?? 0) > 1);
    const session = rig.directory.sessions.get(disk);
    if (session) rig.directory.sessions.set(disk, { ...session, state: 'closed' });
    await rig.receiver.cut(disk, null);
    const { durableBytes } = rig.directory.replica(disk);
    await expect(sending.done).rejects.toMatchObject({ code: 'ReopenNeeded' });
    expect(rig.directory.replica(disk).durableBytes).toBe(durableBytes);
    expect(durableBytes).toBeGreaterThan(0);
  });

  test('cut reaches a connection whose session is still being looked up', async () => {
    const gate = hold();
    let lookups = 0;
    rig.directory.onFind = () => {
      lookups += 1;
      return lookups === 1 ? gate.promise : undefined;
    };
    const sending = rig.send(disk, new MemorySource(mixedMap(MIB)), {
      limits: { backoffMinMs: 60_000, backoffMaxMs: 60_000, unreachableMs: 60_000 },
    });
    await until(() => lookups === 1);
    let isCut = false;
    const cut = rig.receiver.cut(disk, null).then(() => {
      isCut = true;
    });
    await until(() => sending.progress.some(({ note }) => note?.startsWith('waits')));
    expect(isCut).toBe(false);
    gate.resolve();
    await cut;
    expect(rig.directory.replicas.size).toBe(0);
    sending.stop(new Error('enough'));
    await expect(sending.done).rejects.toThrow('enough');
  });

  test('a line that stalls is given up by both ends, and the transfer goes on over a new one', async () => {
    const source = new MemorySource(mixedMap(8 * MIB));
    const sending = rig.send(disk, source, { throttle: createThrottle(20 * MIB) });
    await until(() => (rig.directory.replicas.get(disk)?.writes.length ?? 0) > 1);
    rig.proxy.pause();
    await until(() => rig.proxy.connections > 1);
    const notes = sending.progress.map(({ note }) => note);
    expect(notes.some(note => note?.includes('nothing came for 1000 ms'))).toBe(true);
    rig.proxy.resume();
    await sending.done;
    expect(rig.directory.replica(disk).bytes.equals(source.content)).toBe(true);
  });

  test('a long silence of the throttle, the sink or the source is no stall', async () => {
    const wait = (): Promise<void> => new Promise(resolve => setTimeout(resolve, 1300));
    const source = new MemorySource(mixedMap(2 * MIB));
    source.onRead = position => (position === 0 ? wait() : undefined);
    rig.directory.onNewReplica = replica => {
      replica.onWrite = position => (position === 0 ? wait() : undefined);
    };
    const openSource = async (): Promise<MemorySource> => {
      await wait();
      return source;
    };
    const sent = await rig.send(disk, source, { openSource }).done;
    expect(sent.connections).toBe(1);
  });

  test('a slow sink slows the sender down, and the receiver holds little', async () => {
    const gate = hold();
    const source = new MemorySource(mixedMap(64 * MIB));
    rig.directory.onNewReplica = replica => {
      replica.onWrite = () => gate.promise;
    };
    const { done } = rig.send(disk, source);
    let lastUp = -1;
    // Until nothing moves any more: all buffers on the way are full.
    while (rig.proxy.bytes.up !== lastUp || lastUp < MIB) {
      lastUp = rig.proxy.bytes.up;
      await new Promise(resolve => setTimeout(resolve, 300));
    }
    // 4 MiB of queue, one frame in work, one unfinished, and the sockets' buffers of the kernel.
    expect(rig.proxy.bytes.up).toBeLessThan(24 * MIB);
    gate.resolve();
    await done;
    expect(rig.directory.replica(disk).bytes.equals(source.content)).toBe(true);
  });

  test('stopping ends it at once with the reason, with the source closed and B knowing why', async () => {
    const source = new MemorySource(mixedMap(8 * MIB));
    const sending = rig.send(disk, source, { throttle: createThrottle(10 * KIB) });
    await until(() => rig.receiver.progress(disk)?.note === 'receives');
    const reason = new Error('paused by the operator');
    sending.stop(reason);
    await expect(sending.done).rejects.toBe(reason);
    expect(source.isClosed).toBe(true);
    await until(() => rig.receiver.progress(disk)?.note?.startsWith('the sender stopped') === true);
  });

  test('stopping ends a wait for a receiver that is away', async () => {
    rig.proxy.refuse(true);
    const sending = rig.send(disk, new MemorySource(mixedMap(MIB)), {
      limits: { backoffMinMs: 60_000, backoffMaxMs: 60_000 },
    });
    await until(() => sending.progress.some(({ note }) => note?.startsWith('waits')));
    const reason = new Error('stopped');
    sending.stop(reason);
    await expect(sending.done).rejects.toBe(reason);
  });

  test('a receiver that stays away is given up with ReopenNeeded', async () => {
    rig.proxy.refuse(true);
    const sending = rig.send(disk, new MemorySource(mixedMap(MIB)), { limits: { unreachableMs: 300 } });
    await expect(sending.done).rejects.toMatchObject({
      code: 'ReopenNeeded',
      cause: { code: 'ConnectionLost' },
    });
    expect(sending.progress.length).toBeGreaterThan(4);
  });

  test('a source that changed in the middle breaks the plan, and B hears of it', async () => {
    const source = new MemorySource(mixedMap(2 * MIB));
    let checks = 0;
    source.onCheck = () => {
      checks += 1;
      if (checks === 2) throw new PlanBrokenError('vda.qcow2 was edited');
    };
    await expect(rig.send(disk, source).done).rejects.toMatchObject({ code: 'PlanBroken' });
    await until(() => rig.receiver.progress(disk)?.note?.includes('vda.qcow2 was edited') === true);
    expect(rig.directory.sessions.get(disk)?.state).toBe('open');
    expect(source.isClosed).toBe(true);
  });

  test('a source that cannot be read ends it with its error', async () => {
    const source = new MemorySource(mixedMap(4 * MIB));
    source.onRead = position => {
      if (position > MIB) throw new OffsiteError('ImageUnreadable', 'input/output error');
    };
    await expect(rig.send(disk, source).done).rejects.toMatchObject({ code: 'ImageUnreadable' });
    expect(source.isClosed).toBe(true);
  });

  test('a full disk at B is told at both ends, and the next try goes on behind what is durable', async () => {
    let isFull = true;
    rig.directory.onNewReplica = replica => {
      replica.onWrite = position => {
        if (isFull && position >= 2 * MIB) {
          throw Object.assign(new Error('no space left on /srv/replica'), { code: 'ENOSPC' });
        }
      };
    };
    const source = new MemorySource(mixedMap(4 * MIB));
    await expect(rig.send(disk, source).done).rejects.toMatchObject({
      code: 'ENOSPC',
      message: 'the receiver refused: no space left on /srv/replica',
    });
    expect(rig.receiver.progress(disk)?.note).toBe('no space left on /srv/replica');
    expect(rig.warnings).toEqual(['ENOSPC']);
    isFull = false;
    const again = new MemorySource(source.map);
    const sent = await rig.send(disk, again, { attempt: 2_000_000 }).done;
    expect(sent.bytesSent).toBeLessThan(4 * MIB);
    expect(rig.directory.replica(disk).bytes.equals(source.content)).toBe(true);
  });

  test('a broken plan at B reaches the sender as such', async () => {
    rig.directory.onNewReplica = () => {
      throw new PlanBrokenError('the base replica is gone');
    };
    await expect(rig.send(disk, new MemorySource(mixedMap(MIB))).done).rejects.toBeInstanceOf(
      PlanBrokenError,
    );
  });

  test('bytes that rotted on B’s disk are found by the digest, and sent anew', async () => {
    rig.directory.onNewReplica = replica => {
      replica.onFlush = () => {
        replica.bytes.writeUInt8(replica.bytes.readUInt8(5000) ^ 4, 5000);
        replica.onFlush = () => {};
      };
    };
    const source = new MemorySource(mixedMap(3 * MIB));
    await expect(rig.send(disk, source).done).rejects.toMatchObject({ code: 'DigestMismatch' });
    expect(rig.directory.sessions.get(disk)?.state).toBe('open');
    const again = new MemorySource(source.map);
    await rig.send(disk, again, { attempt: 2_000_000 }).done;
    expect(rig.directory.replica(disk).starts).toEqual([0, 0]);
    expect(rig.directory.replica(disk).bytes.equals(source.content)).toBe(true);
  });

  test('the last word lost on its way is asked for again, and nothing is sent twice', async () => {
    const source = new MemorySource(mixedMap(2 * MIB));
    rig.directory.onNewReplica = replica => {
      replica.onFlush = () => {
        if (replica.writes.length === 2) rig.proxy.cutAfter(0, 'down');
      };
    };
    const sent = await rig.send(disk, source).done;
    expect(rig.proxy.cuts).toBe(1);
    expect(sent).toMatchObject({ bytesSent: 2 * MIB, connections: 2 });
  });

  test('closing the receiver ends its connections after their writes', async () => {
    const gate = hold();
    rig.directory.onNewReplica = replica => {
      replica.onWrite = () => gate.promise;
    };
    const sending = rig.send(disk, new MemorySource(mixedMap(2 * MIB)), { limits: { unreachableMs: 200 } });
    await until(() => rig.receiver.progress(disk)?.note === 'receives');
    const closing = rig.receiver.close();
    gate.resolve();
    await closing;
    expect(rig.directory.replica(disk).openSinks).toBe(0);
    await expect(sending.done).rejects.toMatchObject({ code: 'ReopenNeeded' });
    await rig.restartReceiver();
  });
});
