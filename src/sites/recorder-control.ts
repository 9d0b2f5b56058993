/** The recorder's socket for its operator, and the command's side of it: one JSON line each way. */
import { chmod } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { RecorderUnreachableError } from '../capture/recorder/errors.ts';
import { removeIfThere } from '../capture/recorder/intent-file.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError } from '../domain/errors.ts';
import { effect, effectSync } from '../lib/fault-points.ts';
import { hostDirectory } from './recorder-settings.ts';

/** What a mark gave: a checkpoint of an epoch. */
interface SetMark {
  readonly epoch: string;
  readonly sequence: number;
  readonly timeUs: number;
}

export interface ControlServer {
  close(): Promise<void>;
}

const MAX_MARKER_BYTES = 255;
const ANSWER_MS = 30_000;
const socketPathOf = (directory: string): string => join(directory, 'control.sock');

/** @param mark null while nothing is recorded. The caller holds the host's lock: a socket that is there is a dead one's */
export async function serveControl(
  directory: string,
  mark: (name: string) => Promise<SetMark | null>,
): Promise<ControlServer> {
  const path = socketPathOf(directory);
  await removeIfThere(path, 'recorder.control.unlink');
  const sockets = new Set<Socket>();
  const server = createServer(socket => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    createInterface({ input: socket }).once('line', line => {
      void answer(line, mark).then(text => effectSync('recorder.control.answer', () => socket.end(text)));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  await effect('recorder.control.chmod', () => chmod(path, 0o600));
  return {
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

async function answer(line: string, mark: (name: string) => Promise<SetMark | null>): Promise<string> {
  try {
    const { mark: name } = JSON.parse(line) as { mark?: unknown };
    if (typeof name !== 'string' || name === '' || Buffer.byteLength(name) > MAX_MARKER_BYTES) {
      throw new OffsiteError('InvalidInput', `a marker's name has 1 to ${MAX_MARKER_BYTES} bytes`);
    }
    const set = await mark(name);
    if (set === null) {
      throw new OffsiteError(
        'NotRecording',
        'nothing is recorded at this moment',
        "See the recorder's log; try again.",
      );
    }
    return `${JSON.stringify(set)}\n`;
  } catch (error) {
    const {
      code = 'Unexpected',
      message,
      hint = null,
    } = error as Error & { code?: string; hint?: string | null };
    return `${JSON.stringify({ error: { code, message, hint } })}\n`;
  }
}

/** Sets a named marker through the host's recorder. @throws {RecorderUnreachableError} or what the recorder says */
export async function markHost(config: SiteConfig, { host, name }: { host: string; name: string }) {
  const path = socketPathOf(hostDirectory(config, host));
  const text = await ask(host, path, `${JSON.stringify({ mark: name })}\n`);
  const said = JSON.parse(text) as SetMark & {
    error?: { code: string; message: string; hint: string | null };
  };
  if (said.error !== undefined) throw new OffsiteError(said.error.code, said.error.message, said.error.hint);
  const { epoch, sequence, timeUs } = said;
  return { host, name, epoch, sequence, at: new Date(Math.floor(timeUs / 1000)).toISOString() };
}

function ask(host: string, path: string, question: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(path);
    const refuse = (why: string) => reject(new RecorderUnreachableError(host, why));
    socket.setTimeout(ANSWER_MS, () => socket.destroy(new Error('it does not answer')));
    socket.on('connect', () => effectSync('recorder.control.ask', () => socket.write(question)));
    socket.on('data', chunk => {
      text += chunk.toString('utf8');
    });
    socket.on('error', error => refuse(error.message));
    socket.on('close', () => (text.endsWith('\n') ? resolve(text) : refuse('it hung up')));
  });
}
