import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { crc32 } from 'node:zlib';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { encodeFrame, HEADER_BYTES } from '../../../src/transfer/frames.ts';
import {
  encodeContentWord,
  encodeHello,
  encodeKeepAlive,
  encodeMapWanted,
  encodePiece,
  encodePosition,
} from '../../../src/transfer/messages.ts';
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
import { RawClient } from './raw-client.ts';

describe('the receiver refuses, logs and writes nothing for', () => {
  let ids: TestIdentities;
  let rig: Rig;
  let disk: string;
  const clients: RawClient[] = [];
  const map = makeMap([
    ['hole', 64 * KIB],
    ['data', 192 * KIB],
  ]);

  beforeAll(async () => {
    ids = await makeIdentities();
  });
  beforeEach(async () => {
    rig = await Rig.start(ids, { connections: 4 });
    disk = rig.openSession();
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await rig.stop();
  });
  const join = async (identity = ids.a as typeof ids.a | null): Promise<RawClient> => {
    const client = await RawClient.connect(rig.receiver.port, identity);
    clients.push(client);
    return client;
  };
  const nothingWritten = (): void => {
    for (const { writes } of rig.directory.replicas.values()) expect(writes).toEqual([]);
  };
  /** A client that is past START and may send data. */
  const started = async (): Promise<RawClient> => {
    const client = (await join()).hello(disk).offer(map);
    await client.hears('mapWanted');
    client.say(encodePiece('map', 0, map.encoded));
    await client.hears('start');
    return client;
  };

  test('a peer without a certificate', async () => {
    expect(await (await join(null)).isRefused()).toBe('NotAdmitted');
    expect(rig.warnings).toEqual(['stranger']);
  });

  test('a certificate that is not the session’s', async () => {
    expect(await (await join(ids.stranger)).hello(disk).isRefused()).toBe('NotAdmitted');
    expect(rig.warnings).toEqual(['NotAdmitted']);
    expect(rig.receiver.progress(disk)).toBeNull();
  });

  test('a session that it does not know', async () => {
    expect(await (await join()).hello(randomUUID()).isRefused()).toBe('ReopenNeeded');
  });

  test('a session that was closed', async () => {
    const session = rig.directory.sessions.get(disk);
    if (session) rig.directory.sessions.set(disk, { ...session, state: 'closed' });
    expect(await (await join()).hello(disk).isRefused()).toBe('ReopenNeeded');
  });

  test('an old epoch and one from the future', async () => {
    const old = { ...EPOCH, generation: 2, plan: 99 };
    expect(await (await join()).hello(disk, { epoch: old }).isRefused()).toBe('Superseded');
    const future = { ...EPOCH, generation: 4, plan: 1 };
    expect(await (await join()).hello(disk, { epoch: future }).isRefused()).toBe('ReopenNeeded');
  });

  test('a version that it does not speak', async () => {
    expect(await (await join()).hello(disk, { version: 0 }).isRefused()).toBe('UnsupportedVersion');
  });

  test('a lower or an equal attempt, and keeps the one it has', async () => {
    const first = (await join()).hello(disk, { attempt: 5 });
    await first.hears('welcome');
    expect(await (await join()).hello(disk, { attempt: 5 }).isRefused()).toBe('StaleAttempt');
    expect(await (await join()).hello(disk, { attempt: 4 }).isRefused()).toBe('StaleAttempt');
    expect(first.isClosed).toBe(false);
  });

  test('anything but a hello first, and anything but a hello’s size before it', async () => {
    expect(await (await join()).say(encodeMapWanted()).isRefused()).toBe('FrameOutOfOrder');
    expect(await (await join()).say(encodePiece('data', 0, Buffer.alloc(5000))).isRefused()).toBe(
      'FrameTooLarge',
    );
    expect(await (await join()).say(encodeFrame('hello', Buffer.from('GET / HTTP/1.1'))).isRefused()).toBe(
      'BadFrame',
    );
  });

  test('a catalog that does not answer, without telling a stranger why', async () => {
    rig.directory.onFind = () => {
      throw new Error('password authentication failed for user postgres');
    };
    const client = (await join(ids.stranger)).hello(disk);
    expect(await client.isRefused()).toBe('ReceiverFailed');
    expect((await client.hears('refused')).payload.toString('latin1')).not.toContain('postgres');
    expect(JSON.stringify(rig.receiverLog.entries)).toContain('session-lookup-failed');
  });

  test.each([
    ['the wrong place', () => encodePiece('data', 4096, Buffer.alloc(100)), 'BadPosition'],
    ['beyond the stream', () => encodePiece('data', 0, Buffer.alloc(192 * KIB + 1)), 'BadPosition'],
    ['no bytes', () => encodePiece('data', 0, Buffer.alloc(0)), 'BadFrame'],
    ['too many bytes', () => encodePiece('data', 0, Buffer.alloc(MIB + 100)), 'FrameTooLarge'],
    ['a number beyond 2^53', () => encodeFrame('data', Buffer.alloc(100, 0xff)), 'BadFrame'],
  ])('data with %s', async (_, frame, code) => {
    expect(await (await started()).say(frame()).isRefused()).toBe(code);
    nothingWritten();
    expect(rig.warnings).toEqual([code]);
  });

  test('a payload and a header that were damaged on the way', async () => {
    for (const at of [HEADER_BYTES + 20, 2]) {
      const frame = encodePiece('data', 0, Buffer.alloc(64 * KIB));
      frame.writeUInt8(frame.readUInt8(at) ^ 1, at);
      const attempt = at;
      const client = (await join()).hello(disk, { attempt }).offer(map);
      if (rig.directory.replicas.size === 0) {
        await client.hears('mapWanted');
        client.say(encodePiece('map', 0, map.encoded));
      }
      await client.hears('start');
      expect(await client.say(frame).isRefused()).toBe('BadChecksum');
      nothingWritten();
      // Attempts must rise, and 20 comes before 2 above.
      await rig.restartReceiver();
    }
  });

  test('an unknown frame type, and frames of the receiver’s own', async () => {
    const unknown = encodeFrame('data', Buffer.alloc(10));
    unknown.writeUInt8(77, 4);
    unknown.writeUInt32LE(crc32(unknown.subarray(0, 12)), 12);
    expect(await (await started()).say(unknown).isRefused()).toBe('UnknownFrame');
    await rig.restartReceiver();
    const client = (await join()).hello(disk).offer(map);
    await client.hears('start');
    expect(await client.say(encodePosition('ack', 1)).isRefused()).toBe('FrameOutOfOrder');
    nothingWritten();
  });

  test('an end before all is there', async () => {
    const word = { contentDigest: Buffer.alloc(16), dataBytes: 192 * KIB };
    expect(await (await started()).say(encodeContentWord('final', word)).isRefused()).toBe('BadPosition');
    expect(rig.directory.sessions.get(disk)?.state).toBe('open');
  });

  test.each([
    ['an extent outside the disk', { virtualSizeBytes: 128 * KIB }, 'ExtentMapInvalid'],
    ['extents that end before the disk does', { virtualSizeBytes: 512 * KIB }, 'ExtentMapInvalid'],
    ['a cluster size that cannot be', { clusterSizeBytes: 1000 }, 'ExtentMapInvalid'],
    ['more bytes than any map may have', { encodedBytes: 65 * MIB }, 'ExtentMapInvalid'],
    ['another length of the stream', { dataBytes: 4096 }, 'ExtentMapInvalid'],
    ['another digest', { mapDigest: Buffer.alloc(16) }, 'MapDigestMismatch'],
    ['fewer bytes than it brings', { encodedBytes: 1 }, 'BadPosition'],
  ])('a map with %s', async (_, change, code) => {
    const client = (await join())
      .hello(disk)
      .offer(map, change)
      .say(encodePiece('map', 0, map.encoded));
    expect(await client.isRefused()).toBe(code);
    expect(rig.directory.replicas.size).toBe(0);
  });

  test('map bytes at the wrong place, and a map of noise', async () => {
    const moved = (await join())
      .hello(disk)
      .offer(map)
      .say(encodePiece('map', 1, map.encoded));
    expect(await moved.isRefused()).toBe('BadPosition');
    const noise = Buffer.alloc(map.encoded.length, 0x80);
    const noisy = (await join())
      .hello(disk, { attempt: 2 })
      .offer(map)
      .say(encodePiece('map', 0, noise));
    expect(await noisy.isRefused()).toBe('ExtentMapInvalid');
    expect(rig.directory.replicas.size).toBe(0);
  });

  test('a resumed map whose offer lies about the stream', async () => {
    (await started()).close();
    const liar = (await join()).hello(disk, { attempt: 2 }).offer(map, { dataBytes: 100 * MIB });
    expect(await liar.isRefused()).toBe('ExtentMapInvalid');
  });

  test('one who says nothing, says it too slowly, or never starts TLS', async () => {
    const silent = await join();
    const chatty = await join();
    const slow = await join();
    const chat = setInterval(() => chatty.say(encodeKeepAlive()), 50);
    const hello = encodeHello({ version: 1, diskTaskUuid: disk, epoch: EPOCH, attempt: 1, sentAtMs: 0 });
    let at = 0;
    const drip = setInterval(() => slow.say(hello.subarray(at, ++at)), 50);
    const raw = connect(rig.receiver.port, '127.0.0.1');
    raw.on('error', () => {});
    raw.on('close', () => raw.destroy());
    await until(() => silent.isClosed && slow.isClosed && chatty.isClosed && raw.destroyed);
    clearInterval(drip);
    clearInterval(chat);
    expect(rig.warnings).toContain('handshake-failed');
  });

  test('one who stops in the middle of a frame', async () => {
    const client = await started();
    client.say(encodePiece('data', 0, Buffer.alloc(64 * KIB)).subarray(0, 1000));
    await until(() => client.isClosed);
    nothingWritten();
    expect(rig.receiver.progress(disk)?.note).toContain('nothing came for');
  });

  test('disks beyond its limit, until others end', async () => {
    const held = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const client = (await join()).hello(rig.openSession());
        await client.hears('welcome');
        return client;
      }),
    );
    expect(await (await join()).hello(disk).isRefused()).toBe('TooManyConnections');
    expect(rig.receiver.counts()).toMatchObject({ admitted: 4 });
    expect(rig.warnings).toEqual(['TooManyConnections']);
    for (const client of held) client.close();
    await until(() => rig.receiver.counts().admitted === 0);
    await (await join()).hello(disk, { attempt: 2 }).hears('welcome');
  });
});

describe('the sender refuses', () => {
  test('a receiver with another certificate, and tells it nothing', async () => {
    const ids = await makeIdentities();
    const rig = await Rig.start(ids);
    const disk = rig.openSession();
    const offer = {
      host: '127.0.0.1',
      port: rig.proxy.port,
      fingerprint: ids.stranger.fingerprint,
      epoch: EPOCH,
    };
    const source = new MemorySource(mixedMap(MIB));
    await expect(rig.send(disk, source, { offer }).done).rejects.toMatchObject({
      code: 'PeerFingerprintMismatch',
    });
    expect(source.readBytes).toBe(0);
    expect(rig.receiver.progress(disk)).toBeNull();
    await rig.stop();
  });
});
