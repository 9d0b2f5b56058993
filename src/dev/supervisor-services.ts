/** The processes of one supervisor: started in order, started again when they end, stopped in reverse order. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OffsiteError } from '../domain/errors.ts';
import { postgresLaunch } from './postgres-server.ts';
import { SUPERVISED_BY } from './supervisor-messages.ts';
import { endProcesses, recordOf, sendSignal } from './supervisor-processes.ts';
import type { Launch, ProcessService, ServiceSpec } from './supervisor-service.ts';
import { type SupervisedProcess, type SupervisorState, writeSupervisorState } from './supervisor-state.ts';
import { temporalLaunch } from './temporal-server.ts';

const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 20;
const FIRST_BACK_OFF_MS = 250;
const LONGEST_BACK_OFF_MS = 10_000;
/** A process that lived this long starts again without delay. */
const HEALTHY_AFTER_MS = 30_000;
const PROCESS_STOP_TIMEOUT_MS = 20_000;

/** A service did not become ready. The message ends with the last line of its log. */
export class ServiceFailedError extends OffsiteError {
  constructor(name: string, reason: string, logFile: string) {
    super('ServiceFailed', `${name} ${reason}: ${lastLine(logFile)}`, `See ${logFile}.`);
  }
}

interface Running {
  launch: Launch;
  kind: ServiceSpec['kind'];
  child: ChildProcess;
  record: SupervisedProcess;
  /** Aborted when it must not be started again. */
  stopping: AbortController;
}

export class ServiceGroup {
  private readonly dataDir: string;
  private readonly running = new Map<string, Running>();
  private stopped = false;

  constructor(dataDir: string) {
    this.dataDir = dataDir;
    mkdirSync(join(dataDir, 'logs'), { recursive: true });
    this.saveState();
  }

  /** Starts PostgreSQL, then Temporal, then the rest, each once the one before answers. */
  async start(services: readonly ServiceSpec[]): Promise<void> {
    for (const kind of ['postgres', 'temporal', 'process'] as const) {
      const ofKind = services.filter(service => service.kind === kind);
      await Promise.all(ofKind.map(service => this.startOne(service)));
    }
  }

  /** Ends one service in its usual way and starts it anew. */
  async restart(name: string): Promise<void> {
    const before = this.running.get(name);
    if (before === undefined) throw new OffsiteError('UnknownService', `no service is named ${name}`);
    await this.stopThese([before]);
    if (this.stopped) return;
    const { launch, kind } = before;
    await this.untilReady(this.spawnService(launch, kind, before.record.restarts));
  }

  /** Stops the processes, then Temporal, then PostgreSQL. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const kind of ['process', 'temporal', 'postgres'] as const) {
      await this.stopThese([...this.running.values()].filter(running => running.kind === kind));
    }
    this.saveState();
  }

  private async startOne(service: ServiceSpec): Promise<void> {
    if (this.running.has(service.name)) {
      throw new OffsiteError('ServiceExists', `a service named ${service.name} runs already`);
    }
    const launch = launchOf(this.dataDir, service);
    const running = this.spawnService(launch, service.kind, 0);
    try {
      await this.untilReady(running);
      await launch.afterReady?.();
    } catch (error) {
      await this.stopThese([running]);
      throw error;
    }
  }

  private spawnService(launch: Launch, kind: ServiceSpec['kind'], restarts: number): Running {
    if (this.stopped) throw new OffsiteError('Stopping', 'the supervisor is stopping');
    launch.beforeStart?.();
    const logFile = openSync(this.logFileOf(launch.name), 'a');
    const { uid, gid } = launch;
    const child = spawn(launch.command, [...launch.args], {
      cwd: launch.cwd,
      env: { ...launch.env, [SUPERVISED_BY]: this.dataDir },
      // A group of its own: Ctrl-C in the terminal must not end it before its turn.
      detached: true,
      stdio: ['ignore', logFile, logFile],
      ...(uid === undefined || gid === undefined ? {} : { uid, gid }),
    });
    closeSync(logFile);
    const startedAt = new Date().toISOString();
    const record = { ...recordOf(child.pid ?? 0), kind, startedAt, restarts };
    const running: Running = { launch, kind, child, record, stopping: new AbortController() };
    this.running.set(launch.name, running);
    this.saveState();
    child.once('error', error => console.error(`${launch.name}: ${error.message}`));
    child.once(child.pid === undefined ? 'error' : 'exit', () => void this.startAgain(running));
    return running;
  }

  private async startAgain(ended: Running): Promise<void> {
    const { launch, kind, record, stopping } = ended;
    // Children of a process that crashed must not work on beside its successor.
    if (record.pid > 0) sendSignal(-record.pid, 'SIGKILL');
    const livedMs = Date.now() - Date.parse(record.startedAt);
    let restarts = livedMs > HEALTHY_AFTER_MS ? 0 : record.restarts;
    while (!this.stopped && !stopping.signal.aborted) {
      const delayMs = Math.min(FIRST_BACK_OFF_MS * 2 ** restarts, LONGEST_BACK_OFF_MS);
      await sleep(delayMs, undefined, { signal: stopping.signal }).catch(() => {});
      if (this.stopped || stopping.signal.aborted) return;
      restarts += 1;
      try {
        this.spawnService(launch, kind, restarts);
        return;
      } catch (error) {
        console.error(`${launch.name} was not started again: ${(error as Error).message}`);
      }
    }
  }

  private async untilReady(running: Running): Promise<void> {
    const { launch, child } = running;
    const deadlineMs = Date.now() + READY_TIMEOUT_MS;
    const fail = (reason: string): ServiceFailedError => {
      running.stopping.abort();
      return new ServiceFailedError(launch.name, reason, this.logFileOf(launch.name));
    };
    if (child.pid === undefined) throw fail(`could not be started (${launch.command})`);
    while (launch.isReady !== undefined && !(await launch.isReady())) {
      if (hasEnded(child)) throw fail('ended at its start');
      if (Date.now() > deadlineMs) throw fail('was not ready in time');
      await sleep(READY_POLL_MS);
    }
    // An answer may come from a stranger on the same port while ours has failed to listen there.
    if (hasEnded(child)) throw fail('ended at its start');
  }

  private async stopThese(these: readonly Running[]): Promise<void> {
    for (const { stopping } of these) stopping.abort();
    await Promise.all(
      these.map(({ launch, record }) => endProcesses([record], launch.stopSignal, launch.stopTimeoutMs)),
    );
    for (const { launch } of these) this.running.delete(launch.name);
    this.saveState();
  }

  private logFileOf(name: string): string {
    return join(this.dataDir, 'logs', `${name}.log`);
  }

  private saveState(): void {
    const processes: SupervisorState['processes'] = {};
    for (const [name, { record }] of this.running) processes[name] = record;
    try {
      writeSupervisorState(this.dataDir, { supervisor: recordOf(process.pid), processes });
    } catch (error) {
      // A full disk must not end what runs; the next start also finds processes by their environment.
      console.error(`supervisor.json was not written: ${(error as Error).message}`);
    }
  }
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

function launchOf(dataDir: string, service: ServiceSpec): Launch {
  switch (service.kind) {
    case 'postgres':
      return postgresLaunch(dataDir, service);
    case 'temporal':
      return temporalLaunch(dataDir, service);
    case 'process':
      return processLaunch(dataDir, service);
  }
}

function processLaunch(dataDir: string, service: ProcessService): Launch {
  return {
    name: service.name,
    command: service.command,
    args: service.args,
    cwd: service.cwd ?? dataDir,
    env: { ...process.env, ...service.env },
    stopSignal: 'SIGTERM',
    stopTimeoutMs: service.stopTimeoutMs ?? PROCESS_STOP_TIMEOUT_MS,
  };
}

function lastLine(path: string): string {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').at(-1) ?? '';
  } catch {
    return 'no log';
  }
}
