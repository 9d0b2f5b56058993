/** A peer that says whatever a test wants, right or wrong, and hears what the receiver answers. */
import { connect, type TLSSocket } from 'node:tls';
import { mapDigest } from '../../../src/domain/content-digest.ts';
import type { ExtentMap } from '../../../src/domain/extent-map.ts';
import { createXxh128 } from '../../../src/lib/digest.ts';
import { FrameDecoder, type FrameName, PayloadPool } from '../../../src/transfer/frames.ts';
import type { NodeIdentity } from '../../../src/transfer/identity.ts';
import {
  decodeLastWord,
  encodeHello,
  encodeMapOffer,
  type Hello,
  PROTOCOL_VERSION,
} from '../../../src/transfer/messages.ts';
import { tlsOptions } from '../../../src/transfer/tls.ts';
import { EPOCH, until } from './fakes.ts';

export interface Heard {
  readonly name: FrameName;
  readonly payload: Buffer;
}

export class RawClient {
  readonly heard: Heard[] = [];
  isClosed = false;
  readonly #socket: TLSSocket;

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
    const decoder = new FrameDecoder(1024 * 1024, new PayloadPool(1024, 0));
    socket.on('data', chunk =>
      decoder.push(chunk, ({ name, payload }) => {
        if (name !== 'keepAlive') this.heard.push({ name, payload: Buffer.from(payload) });
      }),
    );
    socket.on('error', () => {});
    socket.on('close', () => {
      this.isClosed = true;
    });
  }

  /** @param identity null shows no certificate */
  static async connect(port: number, identity: NodeIdentity | null): Promise<RawClient> {
    const options = identity === null ? { rejectUnauthorized: false } : tlsOptions(identity);
    const socket = connect({ ...options, host: '127.0.0.1', port });
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  say(...frames: readonly Buffer[]): this {
    for (const frame of frames) this.#socket.write(frame);
    return this;
  }

  hello(diskTaskUuid: string, change: Partial<Hello> = {}): this {
    const hello = { version: PROTOCOL_VERSION, epoch: EPOCH, attempt: 1, sentAtMs: 0 };
    return this.say(encodeHello({ ...hello, diskTaskUuid, ...change }));
  }

  offer(map: ExtentMap, change: Partial<Parameters<typeof encodeMapOffer>[0]> = {}): this {
    const { virtualSizeBytes, clusterSizeBytes, dataBytes, encoded } = map;
    const shape = { virtualSizeBytes, clusterSizeBytes, dataBytes, encodedBytes: encoded.length };
    return this.say(encodeMapOffer({ ...shape, mapDigest: mapDigest(map, createXxh128), ...change }));
  }

  async hears(name: FrameName): Promise<Heard> {
    const find = (): Heard | undefined => this.heard.find(frame => frame.name === name);
    await until(() => find() !== undefined || this.isClosed);
    const frame = find();
    if (frame === undefined)
      throw new Error(`closed without ${name}; heard ${this.heard.map(it => it.name)}`);
    return frame;
  }

  /** @returns the code of the refusal, after which the receiver must close */
  async isRefused(): Promise<string> {
    const { payload } = await this.hears('refused');
    await until(() => this.isClosed);
    return decodeLastWord(payload).code;
  }

  close(): void {
    this.#socket.destroy();
  }
}
