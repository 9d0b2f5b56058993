/** Sources, sinks and a session directory in memory, and the two ends of a connection to go with them. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import type { Epoch } from '../../../src/contract/fence.ts';
import type { ReceiverOffer, TransferProgress } from '../../../src/contract/transfer.ts';
import { ContentDigester, mapDigest } from '../../../src/domain/content-digest.ts';
import { SupersededError } from '../../../src/domain/errors.ts';
import { type ExtentKind, type ExtentMap, ExtentMapBuilder } from '../../../src/domain/extent-map.ts';
import { compareEpochs } from '../../../src/domain/fences.ts';
import { createXxh128, toHex } from '../../../src/lib/digest.ts';
import type { Log } from '../../../src/lib/log.ts';
import { loadIdentity, type NodeIdentity } from '../../../src/transfer/identity.ts';
import { type SendJournalOptions, sendJournal } from '../../../src/transfer/journal-sender.ts';
import type { ReceiverLimits, SenderLimits } from '../../../src/transfer/limits.ts';
import type { ComparedOffer } from '../../../src/transfer/messages.ts';
import type {
  JournalSink,
  JournalSource,
  LayerSink,
  LayerSource,
  SessionDirectory,
  SessionRecord,
} from '../../../src/transfer/ports.ts';
import { createReceiver, type Receiver } from '../../../src/transfer/receiver.ts';
import { type SendLayerOptions, type SentLayer, sendLayer } from '../../../src/transfer/sender.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import { SERVER_OPTIONS, tlsOptions } from '../../../src/transfer/tls.ts';
import { startTcpProxy, type TcpProxy } from '../../support/tcp-proxy.ts';
import { MemoryJournal } from './journal-fakes.ts';

export const KIB = 1024;
export const MIB = 1024 * 1024;
export const EPOCH: Epoch = { generation: 3, plan: 2, openCount: 1 };

export function makeMap(
  extents: readonly (readonly [ExtentKind, number])[],
  clusterSizeBytes = 64 * KIB,
): ExtentMap {
  const virtualSizeBytes = extents.reduce((sum, [, length]) => sum + length, 0);
  const builder = new ExtentMapBuilder({ virtualSizeBytes, clusterSizeBytes });
  for (const [kind, length] of extents) builder.add(kind, length);
  return builder.build();
}

/** A disk of data with some holes and zeros in it, and an end off the cluster. */
export const mixedMap = (dataBytes: number): ExtentMap =>
  makeMap([
    ['hole', 5 * MIB],
    ['data', Math.floor(dataBytes / 3 / 65536) * 65536],
    ['zero', 192 * KIB],
    ['data', dataBytes - Math.floor(dataBytes / 3 / 65536) * 65536],
  ]);

/** Bytes that differ at every place of the stream, and from seed to seed. */
export function makeContent(sizeBytes: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let state = seed * 2654435761;
  for (let at = 0; at + 4 <= sizeBytes; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE(state, at);
  }
  return bytes;
}

export class MemorySource implements LayerSource {
  readonly map: ExtentMap;
  readonly content: Buffer;
  readBytes = 0;
  reading = 0;
  mostReading = 0;
  isClosed = false;
  /** Called before each read and check; may throw. */
  onRead: (position: number) => void | Promise<void> = () => {};
  onCheck: () => void = () => {};

  constructor(map: ExtentMap, seed = 1) {
    this.map = map;
    this.content = makeContent(map.dataBytes, seed);
  }

  async readStream(target: Buffer, position: number): Promise<void> {
    if (this.isClosed) throw new Error('read after close');
    this.reading += 1;
    this.mostReading = Math.max(this.mostReading, this.reading);
    try {
      await this.onRead(position);
      await new Promise(setImmediate);
      this.content.copy(target, 0, position, position + target.length);
      this.readBytes += target.length;
    } finally {
      this.reading -= 1;
    }
  }

  async assertUnchanged(): Promise<void> {
    this.onCheck();
  }

  withMap(): LayerSource {
    throw new Error('this source is not compared');
  }

  async close(): Promise<void> {
    if (this.reading > 0) throw new Error('closed while it reads');
    this.isClosed = true;
  }
}

/** A replica file that survives its sinks; what was not flushed is lost when a sink is opened anew. */
export class MemoryReplica {
  readonly map: ExtentMap;
  readonly bytes: Buffer;
  durableBytes = 0;
  readonly writes: { position: number; length: number }[] = [];
  /** Where each sink began. */
  readonly starts: number[] = [];
  openSinks = 0;
  mostOpenSinks = 0;
  onWrite: (position: number) => void | Promise<void> = () => {};
  onFlush: () => void | Promise<void> = () => {};

  constructor(map: ExtentMap) {
    this.map = map;
    this.bytes = Buffer.alloc(map.dataBytes);
  }

  open(): LayerSink {
    let written = this.durableBytes;
    let isBusy = false;
    let isClosed = false;
    this.openSinks += 1;
    this.mostOpenSinks = Math.max(this.mostOpenSinks, this.openSinks);
    this.starts.push(written);
    const alone = async <T>(call: () => Promise<T>): Promise<T> => {
      if (isBusy || isClosed) throw new Error('calls of a sink overlap, or come after its close');
      isBusy = true;
      try {
        return await call();
      } finally {
        isBusy = false;
      }
    };
    const flush = async (): Promise<number> => {
      await this.onFlush();
      this.durableBytes = written;
      return written;
    };
    return {
      durableBytes: written,
      dataBytes: this.map.dataBytes,
      write: (bytes, position) =>
        alone(async () => {
          if (position !== written) throw new Error(`a write at ${position} where ${written} was due`);
          await this.onWrite(position);
          bytes.copy(this.bytes, position);
          this.writes.push({ position, length: bytes.length });
          written += bytes.length;
        }),
      flush: () => alone(flush),
      finish: () =>
        alone(async () => {
          await flush();
          const digester = new ContentDigester(this.map, createXxh128);
          digester.update(this.bytes);
          return digester.finish();
        }),
      discard: () =>
        alone(async () => {
          this.durableBytes = 0;
        }),
      close: () =>
        alone(async () => {
          isClosed = true;
          this.openSinks -= 1;
        }),
    };
  }
}

export class MemoryDirectory implements SessionDirectory {
  readonly sessions = new Map<string, SessionRecord>();
  readonly replicas = new Map<string, MemoryReplica>();
  onFind: () => void | Promise<void> = () => {};
  /** Shapes each new replica before its first write. */
  onNewReplica: (replica: MemoryReplica) => void = () => {};

  open(diskTaskUuid: string, epoch: Epoch, senderFingerprint: string): void {
    this.sessions.set(diskTaskUuid, {
      diskTaskUuid,
      epoch,
      senderFingerprint,
      state: 'open',
      received: null,
    });
  }

  replica(diskTaskUuid: string): MemoryReplica {
    const replica = this.replicas.get(diskTaskUuid);
    if (replica === undefined) throw new Error('there is no such replica');
    return replica;
  }

  async find(diskTaskUuid: string): Promise<SessionRecord | null> {
    await this.onFind();
    return this.sessions.get(diskTaskUuid) ?? null;
  }

  /** What a disk is compared with; a test puts its own here. */
  onOpenBase: SessionDirectory['openBase'] = async () => ({ none: 'there is nothing to compare with' });

  openBase: SessionDirectory['openBase'] = (session, shape) => this.onOpenBase(session, shape);

  async resumeSink(session: SessionRecord, digest: Uint8Array): Promise<LayerSink | null> {
    const replica = this.replicas.get(session.diskTaskUuid);
    if (replica === undefined || toHex(mapDigest(replica.map, createXxh128)) !== toHex(digest)) return null;
    return replica.open();
  }

  async openSink(
    session: SessionRecord,
    map: ExtentMap,
    _compared?: ComparedOffer | null,
  ): Promise<LayerSink> {
    const replica = new MemoryReplica(map);
    this.onNewReplica(replica);
    this.replicas.set(session.diskTaskUuid, replica);
    return replica.open();
  }

  readonly journals = new Map<string, MemoryJournal>();

  async openJournal(session: SessionRecord): Promise<JournalSink> {
    return this.journal(session.diskTaskUuid).open();
  }

  /** Made at its first mention. */
  journal(diskTaskUuid: string): MemoryJournal {
    const journal = this.journals.get(diskTaskUuid) ?? new MemoryJournal();
    this.journals.set(diskTaskUuid, journal);
    return journal;
  }

  async markReceived(
    session: SessionRecord,
    received: { totalBytes: number; contentDigest: string },
  ): Promise<void> {
    const now = this.sessions.get(session.diskTaskUuid);
    if (now === undefined || now.state === 'closed' || compareEpochs(now.epoch, session.epoch) !== 0) {
      throw new SupersededError('the session has another epoch now');
    }
    this.sessions.set(session.diskTaskUuid, { ...session, state: 'received', received });
  }
}

export interface Logged {
  readonly level: string;
  readonly fields: { event?: string; code?: string };
  readonly text: string;
}

export function collectLog(): { log: Log; entries: Logged[] } {
  const entries: Logged[] = [];
  const at =
    (level: string) =>
    (fields: object, text: string): void =>
      void entries.push({ level, fields, text });
  return { log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, entries };
}

export interface TestIdentities {
  readonly a: NodeIdentity;
  readonly b: NodeIdentity;
  readonly stranger: NodeIdentity;
}

export async function makeIdentities(): Promise<TestIdentities> {
  const folder = await mkdtemp(join(tmpdir(), 'offsite-transfer-'));
  const [a, b, stranger] = await Promise.all(['a', 'b', 'c'].map(name => loadIdentity(join(folder, name))));
  await rm(folder, { recursive: true });
  if (!a || !b || !stranger) throw new Error('no identities');
  return { a, b, stranger };
}

/** Limits that let a fault show within a moment, and data flow in many steps. */
export const SHORT_RECEIVER: Partial<ReceiverLimits> = {
  keepAliveMs: 100,
  idleMs: 1000,
  handshakeMs: 500,
  helloMs: 500,
  flushBytes: MIB,
  flushIdleMs: 20,
};
export const SHORT_SENDER: Partial<SenderLimits> = {
  keepAliveMs: 100,
  idleMs: 1000,
  connectMs: 2000,
  unreachableMs: 5000,
  backoffMinMs: 5,
  backoffMaxMs: 50,
};

/** A receiver behind a proxy, and senders to it. */
export class Rig {
  readonly ids: TestIdentities;
  readonly directory = new MemoryDirectory();
  readonly receiverLog = collectLog();
  readonly senderLog = collectLog();
  receiver: Receiver;
  proxy!: TcpProxy;
  readonly #limits: Partial<ReceiverLimits>;

  private constructor(ids: TestIdentities, limits: Partial<ReceiverLimits>) {
    this.ids = ids;
    this.#limits = { ...SHORT_RECEIVER, ...limits };
    this.receiver = this.#makeReceiver(0);
  }

  static async start(ids: TestIdentities, limits: Partial<ReceiverLimits> = {}): Promise<Rig> {
    const rig = new Rig(ids, limits);
    await rig.receiver.start();
    rig.proxy = await startTcpProxy({ host: '127.0.0.1', port: rig.receiver.port });
    return rig;
  }

  async stop(): Promise<void> {
    await this.proxy.close();
    await this.receiver.close();
  }

  /** As after the death of the receiver's process: nothing in memory is left. */
  async restartReceiver(): Promise<void> {
    await this.receiver.close();
    this.receiver = this.#makeReceiver(0);
    await this.receiver.start();
    this.proxy.retarget({ host: '127.0.0.1', port: this.receiver.port });
  }

  /** @returns a new disk task whose session is open for sender a */
  openSession(epoch: Epoch = EPOCH): string {
    const diskTaskUuid = randomUUID();
    this.directory.open(diskTaskUuid, epoch, this.ids.a.fingerprint);
    return diskTaskUuid;
  }

  send(diskTaskUuid: string, source: LayerSource, options: Partial<SendLayerOptions> = {}): Sending {
    return this.#sending(shared =>
      sendLayer({
        ...shared,
        diskTaskUuid,
        openSource: async () => source,
        ...options,
        limits: { ...SHORT_SENDER, ...options.limits },
      }),
    );
  }

  sendJournal(
    diskTaskUuid: string,
    source: JournalSource,
    options: Partial<SendJournalOptions> = {},
  ): Sending {
    return this.#sending(shared =>
      sendJournal({
        ...shared,
        diskTaskUuid,
        openSource: async () => source,
        ...options,
        limits: { ...SHORT_SENDER, ...options.limits },
      }),
    );
  }

  /**
   * A receiver with the right certificate that says what it is told, whatever it hears.
   * @param ends its side of each connection, behind its words
   */
  async impostor(words: readonly Buffer[], ends = false): Promise<Impostor> {
    let connections = 0;
    const server = createServer({ ...tlsOptions(this.ids.b), ...SERVER_OPTIONS }, socket => {
      connections += 1;
      socket.on('error', () => {});
      socket.resume();
      for (const bytes of words) socket.write(bytes);
      if (ends) socket.end();
    });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { fingerprint } = this.ids.b;
    return {
      offer: { host: '127.0.0.1', port, fingerprint, epoch: EPOCH },
      connections: () => connections,
      forget: () => {
        connections = Number.POSITIVE_INFINITY;
      },
      close: () => new Promise(resolve => server.close(() => resolve())),
    };
  }

  #sending(
    send: (shared: Omit<SendJournalOptions, 'diskTaskUuid' | 'openSource'>) => Promise<SentLayer>,
  ): Sending {
    const progress: TransferProgress[] = [];
    const stop = new AbortController();
    const done = send({
      identity: this.ids.a,
      offer: { host: '127.0.0.1', port: this.proxy.port, fingerprint: this.ids.b.fingerprint, epoch: EPOCH },
      attempt: 1_000_000,
      throttle: createThrottle(null),
      signal: stop.signal,
      onProgress: step => progress.push(step),
      log: this.senderLog.log,
    });
    // A test may look at it only later.
    done.catch(() => {});
    return { done, progress, stop: reason => stop.abort(reason) };
  }

  /** Events that the receiver logged as warnings. */
  get warnings(): (string | undefined)[] {
    return this.receiverLog.entries
      .filter(({ level }) => level === 'warn')
      .map(({ fields }) => fields.code ?? fields.event);
  }

  #makeReceiver(port: number): Receiver {
    return createReceiver({
      identity: this.ids.b,
      listen: { host: '127.0.0.1', port },
      directory: this.directory,
      log: this.receiverLog.log,
      limits: this.#limits,
    });
  }
}

export interface Impostor {
  readonly offer: ReceiverOffer;
  /** How many it has taken. */
  connections(): number;
  /** Counts as more than any number from now on. */
  forget(): void;
  close(): Promise<void>;
}

export interface Sending {
  readonly done: Promise<SentLayer>;
  readonly progress: readonly TransferProgress[];
  stop(reason: Error): void;
}

/** Waits for a condition without a deadline of its own: the test's time-out is it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 2));
}
