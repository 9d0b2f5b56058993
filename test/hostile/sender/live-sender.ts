/** The whole sender over TLS, against a server that says what it likes to every hello. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { OffsiteError } from '../../../src/domain/errors.ts';
import { loadIdentity, type NodeIdentity } from '../../../src/transfer/identity.ts';
import { sendLayer } from '../../../src/transfer/sender.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import { tlsOptions } from '../../../src/transfer/tls.ts';
import { must } from '../campaign.ts';
import { chunksOf } from '../frames/bend.ts';
import { DISK_TASK, EPOCH } from '../frames/conversations.ts';
import type { Random } from '../random.ts';
import { type Script, SILENT } from './scripts.ts';
import { WatchedSource } from './watched-source.ts';

/** Soon enough for a campaign; every one of them may be reached. */
const LIMITS = { connectMs: 5_000, idleMs: 100, unreachableMs: 200, backoffMinMs: 5, backoffMaxMs: 20 };

const MAX_CONNECTIONS = 10;

class Stopped extends Error {}

export class LiveSender {
  readonly #server: Server;
  readonly #identities: readonly [ours: NodeIdentity, theirs: NodeIdentity];
  readonly #sockets = new Set<TLSSocket>();
  #say: (socket: TLSSocket) => void = () => {};

  private constructor(identities: readonly [NodeIdentity, NodeIdentity]) {
    this.#identities = identities;
    this.#server = createServer({ ...tlsOptions(identities[1]), requestCert: true }, socket => {
      this.#sockets.add(socket);
      socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket));
      socket.once('data', () => this.#say(socket));
    });
  }

  static async start(): Promise<LiveSender> {
    const folder = await mkdtemp(join(tmpdir(), 'offsite-hostile-'));
    const identities = await Promise.all(['a', 'b'].map(name => loadIdentity(join(folder, name))));
    await rm(folder, { recursive: true });
    const live = new LiveSender(identities as [NodeIdentity, NodeIdentity]);
    live.#server.listen(0, '127.0.0.1');
    await once(live.#server, 'listening');
    return live;
  }

  /** Has a disk sent to whoever says these bytes, and waits until the sender has ended. */
  async meet(random: Random, bytes: Buffer, { map, disk, isCompared }: Script): Promise<string> {
    const [identity, theirs] = this.#identities;
    const [ends, reads] = [random.oneIn(2), random.oneIn(2)];
    // A receiver that is heard again and again is tried again and again: somebody has to say stop.
    const stop = new AbortController();
    let connections = 0;
    this.#say = socket => {
      connections += 1;
      if (connections === MAX_CONNECTIONS) stop.abort(new Stopped());
      for (const chunk of chunksOf(random, bytes)) socket.write(chunk);
      if (ends) socket.end();
      if (reads) socket.resume();
      else socket.pause();
    };
    const source = new WatchedSource(map, disk);
    let opened = 0;
    const { port } = this.#server.address() as AddressInfo;
    try {
      const { durableBytes } = await sendLayer({
        ...{
          identity,
          diskTaskUuid: DISK_TASK,
          attempt: 7,
          compare: isCompared,
          limits: LIMITS,
          log: SILENT,
        },
        offer: { host: '127.0.0.1', port, fingerprint: theirs.fingerprint, epoch: EPOCH },
        openSource: async () => {
          opened += 1;
          return source;
        },
        throttle: createThrottle(null),
        signal: stop.signal,
        onProgress: progress => must(progress.durableBytes >= 0, () => 'a negative progress'),
      });
      must(durableBytes >= 0, () => 'less than nothing is durable');
      return 'accepted';
    } catch (error) {
      if (error instanceof Stopped) return 'stopped';
      if (!(error instanceof OffsiteError)) throw error;
      return error.code;
    } finally {
      must(opened <= 1, () => `the source was opened ${opened} times`);
      must(source.notices.isClosed === (opened === 1), () => 'the source was left open');
      for (const socket of this.#sockets) socket.destroy();
    }
  }

  async close(): Promise<void> {
    this.#server.close();
    await once(this.#server, 'close');
  }
}
