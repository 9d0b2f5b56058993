/** JSON values, one a line, over a unix socket: what QMP and the guest agent speak. */
import { connect, type Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import { effectSync } from '../../lib/fault-points.ts';
import { MonitorUnreachableError } from './errors.ts';

export type JsonObject = { readonly [key: string]: unknown };

/** An answer is small; what is longer is no monitor. */
const MAX_LINE_CHARS = 16 * 1024 * 1024;

export interface JsonSocketListener {
  onObject(object: JsonObject): void;
  /** Called once. @param why null for an end without a reason */
  onClose(why: string | null): void;
}

export class JsonSocket {
  readonly #socket: Socket;
  readonly #listener: JsonSocketListener;
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';
  #why: string | null = null;

  private constructor(socket: Socket, listener: JsonSocketListener) {
    this.#socket = socket;
    this.#listener = listener;
    socket.on('data', chunk => this.#take(chunk));
    socket.on('error', error => {
      this.#why ??= error.message;
    });
    socket.on('close', () => listener.onClose(this.#why));
  }

  /** @throws {MonitorUnreachableError} */
  static connect(socketPath: string, listener: JsonSocketListener): Promise<JsonSocket> {
    return new Promise((resolve, reject) => {
      const socket = connect(socketPath);
      const refuse = (error: Error) =>
        reject(new MonitorUnreachableError(socketPath, error.message, { cause: error }));
      socket.once('error', refuse);
      socket.once('connect', () => {
        socket.off('error', refuse);
        resolve(new JsonSocket(socket, listener));
      });
    });
  }

  send(object: JsonObject): void {
    effectSync('qmp.send', () => this.#socket.write(`${JSON.stringify(object)}\n`));
  }

  /** All in one write: who reads gets all of them, even if this process dies right after. */
  sendAll(objects: readonly JsonObject[]): void {
    const lines = objects.map(object => `${JSON.stringify(object)}\n`).join('');
    effectSync('qmp.sendAll', () => this.#socket.write(lines));
  }

  /** Ends the connection; `onClose` follows. */
  destroy(): void {
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#rest += this.#decoder.write(chunk);
    const lines = this.#rest.split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#takeLine(line);
    if (this.#rest.length > MAX_LINE_CHARS) this.#fail('an answer without an end');
  }

  #takeLine(line: string): void {
    // The guest agent marks the answer to its synchronisation with a byte that is no UTF-8.
    const text = line.replace(/^\uFFFD+/, '').trim();
    if (text === '' || this.#socket.destroyed) return;
    const object = parseObject(text);
    if (object === null) this.#fail(`an answer that is no JSON object: ${text.slice(0, 80)}`);
    else this.#listener.onObject(object);
  }

  #fail(why: string): void {
    this.#why = why;
    this.#socket.destroy();
  }
}

function parseObject(text: string): JsonObject | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as JsonObject) : null;
  } catch {
    return null;
  }
}
