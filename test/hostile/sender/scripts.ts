/** What the real receiver says to the real sender, recorded in memory: the words that are bent. */
import { ContentDigester } from '../../../src/domain/content-digest.ts';
import type { ExtentMap } from '../../../src/domain/extent-map.ts';
import { createXxh128 } from '../../../src/lib/digest.ts';
import type { Log } from '../../../src/lib/log.ts';
import { FrameConnection } from '../../../src/transfer/connection.ts';
import { DiskRegistry } from '../../../src/transfer/disk-registry.ts';
import { FrameDecoder, PayloadPool } from '../../../src/transfer/frames.ts';
import { RECEIVER_LIMITS } from '../../../src/transfer/limits.ts';
import type { ReceiverContext } from '../../../src/transfer/receiver-context.ts';
import { converse } from '../../../src/transfer/receiver-conversation.ts';
import { DISK_TASK, EPOCH, makeMap, mixed, type Said } from '../frames/conversations.ts';
import { MemorySocket } from '../receiver/memory-socket.ts';
import { sessionOf, WatchedDirectory } from '../receiver/watched-directory.ts';
import { runSender } from './run-sender.ts';
import { WatchedSource } from './watched-source.ts';

const FINGERPRINT = 'ab'.repeat(32);
/** No timer decides anything; many acknowledgements come. */
export const LIMITS = {
  ...RECEIVER_LIMITS,
  queuedBytes: 64 * 1024,
  flushBytes: 1_500,
  keepAliveMs: 600_000,
  idleMs: 600_000,
};
const silent = (): void => {};
export const SILENT: Log = { debug: silent, info: silent, warn: silent, error: silent };

/** A disk, and what an honest receiver says when it is sent. */
export interface Script {
  readonly map: ExtentMap;
  readonly disk: Buffer;
  readonly isCompared: boolean;
  readonly frames: readonly Said[];
}

/** Two ends of one connection. */
class PipedSocket extends MemorySocket {
  peer: PipedSocket | null = null;

  override write(bytes: Buffer, done?: (error?: Error) => void): boolean {
    this.peer?.bring(Buffer.from(bytes));
    return super.write(bytes, done);
  }

  override destroy(): this {
    super.destroy();
    const { peer } = this;
    queueMicrotask(() => peer?.bringEnd());
    return this;
  }
}

export async function recordScripts(): Promise<readonly Script[]> {
  const shapes: [map: ExtentMap, isCompared: boolean, resumes: boolean][] = [
    [makeMap(512, mixed(9), 100), false, false],
    [makeMap(512, mixed(9), 100), false, true],
    [makeMap(4096, mixed(12), 512), false, false],
    [makeMap(512, ['data'], 0), false, true],
    [makeMap(512, [], 0), false, false],
    [makeMap(512, ['hole', 'zero'], 0), false, false],
    [makeMap(16_384, ['data', 'zero'], 700), true, false],
    [makeMap(65_536, ['hole', 'data', 'hole'], 0), true, false],
  ];
  return Promise.all(
    shapes.map(async ([map, isCompared, resumes]) => {
      const disk = diskOf(map);
      return { map, disk, isCompared, frames: await record(map, disk, isCompared, resumes) };
    }),
  );
}

function diskOf(map: ExtentMap): Buffer {
  const disk = Buffer.from(new Uint8Array(map.virtualSizeBytes));
  for (const { kind, offset, length } of map) {
    if (kind !== 'data') continue;
    for (let at = offset; at < offset + length; at += 1) disk[at] = (at * 31) ^ (at >> 8) ^ 0x55;
  }
  return disk;
}

/** @param resumes the receiver knows the map already */
async function record(
  map: ExtentMap,
  disk: Buffer,
  isCompared: boolean,
  resumes: boolean,
): Promise<readonly Said[]> {
  const [ours, theirs] = [new PipedSocket(), new PipedSocket()];
  ours.peer = theirs;
  theirs.peer = ours;
  const session = sessionOf(DISK_TASK, EPOCH, FINGERPRINT, 'open');
  const directory = new WatchedDirectory(session, resumes ? map : null, 'none');
  const context: ReceiverContext = {
    ...{ directory, registry: new DiskRegistry(), limits: LIMITS, log: SILENT, strangers: SILENT },
    nowMs: () => 1_700_000_000_000,
    lookup: work => work(),
  };
  const connection = new FrameConnection(theirs.asSocket, LIMITS, context.nowMs);
  const heard = converse(connection, { fingerprint: FINGERPRINT, address: 'memory' }, context, {
    known: () => undefined,
    take: () => undefined,
  });
  const source = new WatchedSource(map, disk);
  const word = await runSender(ours, source, isCompared);
  await heard;
  if (!isCompared) {
    const digester = new ContentDigester(map, createXxh128);
    digester.update(source.streamAt(0, map.dataBytes));
    if (!Buffer.from(digester.finish()).equals(word.contentDigest))
      throw new Error('the sound word is wrong');
  }
  const frames: Said[] = [];
  const decoder = new FrameDecoder(2 ** 21, new PayloadPool(2 ** 21, 0));
  for (const bytes of theirs.written) {
    decoder.push(bytes, ({ name, payload }) => frames.push({ name, payload: Buffer.from(payload) }));
  }
  return frames;
}
