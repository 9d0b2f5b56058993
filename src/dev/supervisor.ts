/** Starts a supervisor and talks to it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OffsiteError } from '../domain/errors.ts';
import { removeDataDir } from './postgres-place.ts';
import { DataDirInUseError, lockDataDir } from './supervisor-lock.ts';
import type { SupervisorReply, SupervisorRequest } from './supervisor-messages.ts';
import type { ServiceSpec } from './supervisor-service.ts';
import { endLeftovers, readSupervisorState } from './supervisor-state.ts';

export interface SupervisorOptions {
  /** Logs, state and the services' data. Made if it is missing. */
  dataDir: string;
  /** Started before the promise resolves: PostgreSQL, then Temporal, then the rest. */
  services: readonly ServiceSpec[];
  /** Whether the data folder is removed at the end, however that comes (tests). */
  removeDataDirAtEnd?: boolean;
}

/** How a supervisor ended: both null if it could not be started at all. */
export interface SupervisorExit {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
}

export interface Supervisor {
  readonly pid: number;
  /** The folder as the supervisor knows it, links resolved. */
  readonly dataDir: string;
  /** Starts further services. @throws {OffsiteError} ServiceFailed with the last line of its log */
  start(services: readonly ServiceSpec[]): Promise<void>;
  /** Stops one service in its usual way and starts it anew. */
  restart(name: string): Promise<void>;
  /** The pids by name, as of now. */
  status(): Record<string, number>;
  /** Ends everything: processes, then Temporal, then PostgreSQL, then the supervisor. */
  stop(): Promise<void>;
  /** Told once when the supervisor has ended. If it was killed or crashed, what it left is ended before. */
  onExit(listener: (exit: SupervisorExit) => void): void;
}

/**
 * Starts a supervisor, a process of its own that ends everything when this process ends, even by kill -9.
 * @throws {DataDirInUseError} if another supervisor works on the folder
 * @throws {OffsiteError} ServiceFailed, PostgresUnavailable; nothing runs any more then
 */
export async function startSupervisor(options: SupervisorOptions): Promise<Supervisor> {
  mkdirSync(options.dataDir, { recursive: true });
  const dataDir = realpathSync(options.dataDir);
  mkdirSync(join(dataDir, 'logs'), { recursive: true });
  const removeDataDirAtEnd = options.removeDataDirAtEnd ?? false;
  const connection = connect(dataDir, removeDataDirAtEnd);
  await connection.ask({ type: 'open', settings: { dataDir, removeDataDirAtEnd } });
  try {
    await connection.ask({ type: 'start', services: options.services });
  } catch (error) {
    await connection.ask({ type: 'stop' }).catch(() => {});
    await connection.exited;
    throw error;
  }
  return {
    pid: connection.pid,
    dataDir,
    start: services => connection.ask({ type: 'start', services }),
    restart: name => connection.ask({ type: 'restart', name }),
    status: () => {
      const processes = Object.entries(readSupervisorState(dataDir)?.processes ?? {});
      return Object.fromEntries(processes.map(([name, { pid }]) => [name, pid]));
    },
    stop: async () => {
      await connection.ask({ type: 'stop' }).catch(() => {});
      await connection.exited;
    },
    onExit: listener => void connection.exited.then(listener),
  };
}

type Question = SupervisorRequest extends infer R
  ? R extends { id: number }
    ? Omit<R, 'id'>
    : never
  : never;

interface Connection {
  pid: number;
  ask(question: Question): Promise<void>;
  exited: Promise<SupervisorExit>;
}

function connect(dataDir: string, removeDataDirAtEnd: boolean): Connection {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const main = fileURLToPath(new URL(`./supervisor-main.${extension}`, import.meta.url));
  const logFile = openSync(join(dataDir, 'logs', 'supervisor.log'), 'a');
  const child = spawn(process.execPath, [main], {
    detached: true,
    cwd: dataDir,
    stdio: ['ignore', logFile, logFile, 'ipc'],
  });
  closeSync(logFile);
  const waiting = new Map<number, (error: Error | null) => void>();
  child.on('message', (reply: SupervisorReply) => {
    waiting.get(reply.id)?.(reply.error === null ? null : errorOf(dataDir, reply.error));
    waiting.delete(reply.id);
  });
  const exited = exitOf(child).then(async exit => {
    for (const settle of waiting.values()) {
      settle(new OffsiteError('SupervisorEnded', 'the supervisor has ended', `See ${dataDir}/logs.`));
    }
    if (exit.exitCode !== 0) await cleanUpAfterKill(dataDir, removeDataDirAtEnd);
    return exit;
  });
  let nextId = 1;
  const ask = (question: Question): Promise<void> =>
    new Promise((resolve, reject) => {
      const id = nextId++;
      waiting.set(id, error => (error === null ? resolve() : reject(error)));
      child.send({ ...question, id }, error => {
        if (error === null || !waiting.delete(id)) return;
        reject(new OffsiteError('SupervisorEnded', `the supervisor is out of reach: ${error.message}`));
      });
    });
  return { pid: child.pid ?? 0, ask, exited };
}

/** The supervisor was killed and could not do this. Whoever holds the lock by now does it instead. */
async function cleanUpAfterKill(dataDir: string, removeDataDirAtEnd: boolean): Promise<void> {
  try {
    const lock = lockDataDir(dataDir);
    await endLeftovers(dataDir);
    lock.release();
    if (removeDataDirAtEnd) removeDataDir(dataDir);
  } catch (error) {
    if (!(error instanceof DataDirInUseError)) throw error;
  }
}

function exitOf(child: ChildProcess): Promise<SupervisorExit> {
  return new Promise(resolve => {
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
    child.once('error', () => child.pid === undefined && resolve({ exitCode: null, signal: null }));
  });
}

function errorOf(dataDir: string, error: NonNullable<SupervisorReply['error']>): OffsiteError {
  if (error.code === 'DataDirInUse') return new DataDirInUseError(dataDir, error.pid ?? 0);
  return new OffsiteError(error.code, error.message, error.hint);
}
