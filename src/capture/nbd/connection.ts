/** One client of the NBD server: negotiation, then requests, many at a time. */
import type { Socket } from 'node:net';
import { effectSync } from '../../lib/fault-points.ts';
import type { NbdExport } from './ports.ts';
import { SocketBytes } from './socket-bytes.ts';
import {
  COMMAND,
  COMMAND_FLAG,
  decodeClientFlags,
  decodeInfoRequest,
  decodeOptionHeader,
  decodeRequest,
  encodeAck,
  encodeExportInfo,
  encodeGreeting,
  encodeListed,
  encodeOldExport,
  encodeOptionError,
  encodeReply,
  MAX_OPTION_BYTES,
  MAX_REQUEST_BYTES,
  NBD_ERROR,
  OPTION,
  OPTION_ERROR,
  OPTION_HEADER_BYTES,
  type OptionHeader,
  REQUEST_BYTES,
  type Request,
} from './wire.ts';

export interface ConnectionOptions {
  readonly exports: ReadonlyMap<string, NbdExport>;
  /** A client that has not chosen an export by then is sent away. */
  readonly negotiationMs: number;
  /** Called once, when the client begins to send requests. */
  readonly onExport?: (name: string) => void;
}

const COMMANDS: ReadonlySet<number> = new Set(Object.values(COMMAND));
const MAX_OPTIONS = 64;
/** Bytes of requests that are being worked on; beyond, no further one is read. */
const MAX_BUSY_BYTES = 64 * 1024 * 1024;
const MAX_BUSY_REQUESTS = 256;

/** Serves a client until it leaves or breaks the protocol. Never rejects. @returns why it ended, in words */
export async function serveClient(socket: Socket, options: ConnectionOptions): Promise<string> {
  const bytes = new SocketBytes(socket);
  const timer = setTimeout(() => socket.destroy(), options.negotiationMs);
  try {
    const chosen = await negotiate(socket, bytes, options);
    clearTimeout(timer);
    if (typeof chosen === 'string') return chosen;
    options.onExport?.(chosen.name);
    return await new Requests(socket, bytes, chosen).serve();
  } finally {
    clearTimeout(timer);
    socket.destroySoon();
  }
}

/** @returns the export that was chosen, or why there is none */
async function negotiate(
  socket: Socket,
  bytes: SocketBytes,
  { exports }: ConnectionOptions,
): Promise<NbdExport | string> {
  effectSync('nbd.send.greeting', () => socket.write(encodeGreeting()));
  const flagBytes = await bytes.take(4);
  const flags = flagBytes === null ? null : decodeClientFlags(flagBytes);
  if (flags === null) return 'no fixed newstyle';
  for (let count = 0; count < MAX_OPTIONS; count += 1) {
    const head = await bytes.take(OPTION_HEADER_BYTES);
    const header = head === null ? null : decodeOptionHeader(head);
    if (header === null) return 'ended in the negotiation';
    if (header.lengthBytes > MAX_OPTION_BYTES) return `an option of ${header.lengthBytes} bytes`;
    const data = await bytes.take(header.lengthBytes);
    if (data === null) return 'ended in the negotiation';
    if (header.option === OPTION.abort) {
      effectSync('nbd.send.farewell', () => socket.write(encodeAck(header.option)));
      return 'left in the negotiation';
    }
    if (header.option === OPTION.exportName) {
      // The old option has no way to say no but to hang up.
      const found = exports.get(data.toString('utf8'));
      if (found === undefined) return 'asked for an unknown export';
      effectSync('nbd.send.export', () => socket.write(encodeOldExport(found.sizeBytes, flags.noZeroes)));
      return found;
    }
    const { answer, chosen } = answerOption(header, data, exports);
    effectSync('nbd.send.answer', () => socket.write(answer));
    if (chosen !== null) return chosen;
  }
  return 'more options than anybody needs';
}

/** @returns what to answer, and the export when the option was GO and named one */
function answerOption(
  { option }: OptionHeader,
  data: Buffer,
  exports: ReadonlyMap<string, NbdExport>,
): { readonly answer: Buffer; readonly chosen: NbdExport | null } {
  const refusal = (error: number, words: string) => ({
    answer: encodeOptionError(option, error, words),
    chosen: null,
  });
  if (option === OPTION.list) {
    if (data.length > 0) return refusal(OPTION_ERROR.invalid, 'LIST has no data');
    const listed = [...exports.keys()].map(name => encodeListed(option, name));
    return { answer: Buffer.concat([...listed, encodeAck(option)]), chosen: null };
  }
  if (option !== OPTION.info && option !== OPTION.go) {
    return refusal(OPTION_ERROR.unsupported, 'not supported');
  }
  const name = decodeInfoRequest(data);
  if (name === null) return refusal(OPTION_ERROR.invalid, 'cannot be read');
  const found = exports.get(name);
  if (found === undefined) return refusal(OPTION_ERROR.unknown, 'no such export');
  const answer = Buffer.concat([encodeExportInfo(option, found.sizeBytes), encodeAck(option)]);
  return { answer, chosen: option === OPTION.go ? found : null };
}

/** The transmission phase. Replies go out as the work ends; writes are handed over in the order of their arrival. */
class Requests {
  readonly #socket: Socket;
  readonly #bytes: SocketBytes;
  readonly #disk: NbdExport;
  readonly #busy = new Set<Promise<void>>();
  #busyBytes = 0;
  #drained: Promise<void> | null = null;

  constructor(socket: Socket, bytes: SocketBytes, disk: NbdExport) {
    this.#socket = socket;
    this.#bytes = bytes;
    this.#disk = disk;
  }

  async serve(): Promise<string> {
    try {
      return await this.#readAll();
    } finally {
      await Promise.all(this.#busy);
    }
  }

  async #readAll(): Promise<string> {
    for (;;) {
      const head = await this.#bytes.take(REQUEST_BYTES);
      // Nobody hears the answers any more: what still waits is not begun.
      if (head === null || this.#socket.destroyed) return 'ended without a farewell';
      const request = decodeRequest(head);
      if (request === null) return 'out of step';
      if (request.command === COMMAND.disconnect) return 'left';
      const isWrite = request.command === COMMAND.write;
      if (isWrite && request.length > MAX_REQUEST_BYTES) return `a write of ${request.length} bytes`;
      const payload = isWrite ? await this.#bytes.take(request.length) : null;
      if (isWrite && payload === null) return 'ended within a write';
      await this.#begin(request, payload);
    }
  }

  async #begin(request: Request, payload: Buffer | null): Promise<void> {
    const isRead = request.command === COMMAND.read;
    const costBytes = isRead ? Math.min(request.length, MAX_REQUEST_BYTES) : (payload?.length ?? 0);
    while (this.#isBusy(costBytes)) await Promise.race(this.#busy);
    this.#busyBytes += costBytes;
    const work = this.#answer(request, payload).finally(() => {
      this.#busyBytes -= costBytes;
      this.#busy.delete(work);
    });
    this.#busy.add(work);
  }

  #isBusy(costBytes: number): boolean {
    if (this.#busy.size === 0) return false;
    return this.#busy.size >= MAX_BUSY_REQUESTS || this.#busyBytes + costBytes > MAX_BUSY_BYTES;
  }

  async #answer(request: Request, payload: Buffer | null): Promise<void> {
    const { cookie } = request;
    const fault = faultOf(request, this.#disk.sizeBytes);
    if (fault !== NBD_ERROR.none) return this.#reply(encodeReply(cookie, fault));
    try {
      const data = await run(this.#disk, request, payload);
      const reply = encodeReply(cookie, NBD_ERROR.none);
      await this.#reply(data === null ? reply : Buffer.concat([reply, data]));
    } catch (error) {
      await this.#reply(encodeReply(cookie, errorOf(error)));
    }
  }

  /** Waits while the client does not read, so that answers do not pile up. */
  async #reply(bytes: Buffer): Promise<void> {
    const socket = this.#socket;
    if (socket.destroyed || effectSync('nbd.send.reply', () => socket.write(bytes))) return;
    this.#drained ??= new Promise<void>(resolve => {
      const done = () => {
        socket.off('drain', done);
        socket.off('close', done);
        this.#drained = null;
        resolve();
      };
      socket.on('drain', done);
      socket.on('close', done);
    });
    await this.#drained;
  }
}

/** @returns the error of a request that cannot be carried out, 0 when it can */
function faultOf({ command, flags, offset, length }: Request, sizeBytes: number): number {
  if (!COMMANDS.has(command)) return NBD_ERROR.invalid;
  const known: number =
    command === COMMAND.writeZeroes ? COMMAND_FLAG.fua | COMMAND_FLAG.noHole : COMMAND_FLAG.fua;
  if ((flags & ~known) !== 0) return NBD_ERROR.invalid;
  if (command === COMMAND.flush) return offset === 0n && length === 0 ? NBD_ERROR.none : NBD_ERROR.invalid;
  if (command === COMMAND.read && length > MAX_REQUEST_BYTES) return NBD_ERROR.invalid;
  const isBeyond = offset + BigInt(length) > BigInt(sizeBytes);
  if (!isBeyond) return NBD_ERROR.none;
  return command === COMMAND.write || command === COMMAND.writeZeroes ? NBD_ERROR.noSpace : NBD_ERROR.invalid;
}

/** @returns what a read gives, else null */
async function run(disk: NbdExport, request: Request, payload: Buffer | null): Promise<Buffer | null> {
  const { command, flags, length } = request;
  const offset = Number(request.offset);
  switch (command) {
    case COMMAND.read:
      return disk.read(offset, length);
    case COMMAND.write:
      await disk.write(offset, payload as Buffer);
      break;
    case COMMAND.trim:
      await disk.trim(offset, length);
      break;
    case COMMAND.writeZeroes:
      await disk.writeZeroes(offset, length);
      break;
    default:
      await disk.flush();
      return null;
  }
  if ((flags & COMMAND_FLAG.fua) !== 0) await disk.flush();
  return null;
}

/** The system's code of an error or of its cause, as the protocol has it; what is unknown is an I/O error. */
function errorOf(error: unknown): number {
  const cause = error instanceof Error ? error.cause : null;
  const code = [error, cause]
    .map(one => (one as { code?: unknown } | null)?.code)
    .find(one => one !== undefined);
  if (code === 'ENOSPC' || code === 'EDQUOT') return NBD_ERROR.noSpace;
  return code === 'ESHUTDOWN' ? NBD_ERROR.shutdown : NBD_ERROR.io;
}
