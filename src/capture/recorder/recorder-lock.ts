/**
 * One recorder a host: the address of an abstract socket, which the kernel gives to one process at a time and takes back
 * when that process is gone, however it went. The first tells its pid to whoever finds it taken.
 */
import { createHash } from 'node:crypto';
import { connect, createServer, type Server } from 'node:net';
import { effectSync } from '../../lib/fault-points.ts';
import { RecorderRunningError } from './errors.ts';

const ANSWER_MS = 1_000;

export interface RecorderLock {
  release(): Promise<void>;
}

/** @param directory the host's folder, links resolved @throws {RecorderRunningError} naming the first's pid */
export async function lockRecorder(host: string, directory: string): Promise<RecorderLock> {
  const address = `\0offsite-recorder-${createHash('sha256').update(directory).digest('hex').slice(0, 40)}`;
  const server = createServer(socket => {
    socket.on('error', () => {});
    effectSync('recorder.lock.answer', () => socket.end(String(process.pid)));
  });
  try {
    await listen(server, address);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new RecorderRunningError(host, await holderOf(address));
  }
  server.unref();
  return { release: () => new Promise(resolve => server.close(() => resolve())) };
}

function listen(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function holderOf(address: string): Promise<number | null> {
  return new Promise(resolve => {
    let text = '';
    const socket = connect(address);
    socket.setTimeout(ANSWER_MS, () => socket.destroy());
    socket.on('data', chunk => {
      text += chunk.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(/^\d+$/.test(text) ? Number(text) : null));
  });
}
