/** The same over TLS: a real receiver on a loopback port, and a peer with a certificate that says what it likes. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { OffsiteError } from '../../../src/domain/errors.ts';
import { loadIdentity, type NodeIdentity } from '../../../src/transfer/identity.ts';
import type { SessionDirectory } from '../../../src/transfer/ports.ts';
import { createReceiver, type Receiver } from '../../../src/transfer/receiver.ts';
import { tlsOptions } from '../../../src/transfer/tls.ts';
import { must } from '../campaign.ts';
import { chunksOf } from '../frames/bend.ts';
import { type Conversation, DISK_TASK, EPOCH } from '../frames/conversations.ts';
import type { Random } from '../random.ts';
import { sessionOf, WatchedDirectory } from './watched-directory.ts';

export class LiveReceiver {
  readonly #receiver: Receiver;
  readonly #sender: NodeIdentity;
  readonly #errors: unknown[] = [];
  #directory: WatchedDirectory | null = null;
  #code: string | null = null;

  private constructor(identity: NodeIdentity, sender: NodeIdentity) {
    this.#sender = sender;
    const note = (fields: { event?: string; code?: string; err?: unknown }): void => {
      if (fields.event === 'refused') this.#code = fields.code ?? null;
      if (fields.err !== undefined && !(fields.err instanceof OffsiteError)) this.#errors.push(fields.err);
    };
    const now = (): WatchedDirectory => {
      if (this.#directory === null) throw new Error('no case runs');
      return this.#directory;
    };
    const directory: SessionDirectory = {
      find: uuid => now().find(uuid),
      openBase: (session, shape) => now().openBase(session, shape),
      resumeSink: (session, digest) => now().resumeSink(session, digest),
      openSink: (session, map) => now().openSink(session, map),
      openJournal: (session, identity) => now().openJournal(session, identity),
      markReceived: (session, received) => now().markReceived(session, received),
    };
    this.#receiver = createReceiver({
      identity,
      listen: { host: '127.0.0.1', port: 0 },
      directory,
      log: { debug: note, info: note, warn: note, error: note },
    });
  }

  static async start(): Promise<LiveReceiver> {
    const folder = await mkdtemp(join(tmpdir(), 'offsite-hostile-'));
    const identities = await Promise.all(['b', 'a'].map(name => loadIdentity(join(folder, name))));
    await rm(folder, { recursive: true });
    const live = new LiveReceiver(...(identities as [NodeIdentity, NodeIdentity]));
    await live.#receiver.start();
    return live;
  }

  /** Says it, ends, and waits until the receiver has closed. */
  async take(random: Random, bytes: Buffer, { map }: Conversation): Promise<string> {
    const session = sessionOf(DISK_TASK, EPOCH, this.#sender.fingerprint, 'open');
    const directory = new WatchedDirectory(session, random.oneIn(4) ? map : null, 'none');
    this.#directory = directory;
    this.#code = null;
    this.#errors.length = 0;
    const socket = connect({ ...tlsOptions(this.#sender), host: '127.0.0.1', port: this.#receiver.port });
    socket.on('error', () => {});
    socket.resume();
    socket.once('secureConnect', () => {
      for (const chunk of chunksOf(random, bytes)) socket.write(chunk);
      socket.end();
    });
    await new Promise<void>(resolve => socket.once('close', () => resolve()));
    // Every conversation of the disk task has ended when this has.
    await this.#receiver.cut(DISK_TASK, null);
    must(directory.openSinks === 0, () => 'a sink was left open');
    for (const error of this.#errors) throw error;
    return directory.received === null ? (this.#code ?? 'sender-gone') : 'accepted';
  }

  close(): Promise<void> {
    return this.#receiver.close();
  }
}
