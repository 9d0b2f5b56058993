/** Starts the guard of this process, and speaks with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { effectSync } from '../../lib/fault-points.ts';
import { GuardFailedError } from './errors.ts';
import type { GuardMessage } from './guard-messages.ts';

const ALIVE_MS = 200;

export class Guard {
  readonly pid: number;
  readonly #child: ChildProcess;
  #timer: NodeJS.Timeout;

  private constructor(child: ChildProcess, unansweredMs: () => number) {
    this.#child = child;
    this.pid = child.pid as number;
    child.stdin?.on('error', () => {});
    this.#timer = setInterval(() => this.#tell({ type: 'alive', unansweredMs: unansweredMs() }), ALIVE_MS);
  }

  /** @param unansweredMs how long the oldest write waits @throws {GuardFailedError} */
  static async start(
    sockets: { readonly qmpSocketPath: string; readonly agentSocketPath: string | null },
    unansweredMs: () => number,
  ): Promise<Guard> {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const main = fileURLToPath(new URL(`./guard-main.${extension}`, import.meta.url));
    // In a process group of its own: a signal to ours must leave it alive.
    const child = spawn(process.execPath, [main], { detached: true, stdio: ['pipe', 'ignore', 'inherit'] });
    await once(child, 'spawn').catch(error => {
      throw new GuardFailedError(error instanceof Error ? error.message : String(error));
    });
    const guard = new Guard(child, unansweredMs);
    guard.#tell({ type: 'watch', recorderPid: process.pid, ...sockets });
    return guard;
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Runs what holds the guest up. @param holds what the guard does should this process die or be late */
  async during<T>(
    holds: { readonly deadlineMs: number; readonly resume: boolean; readonly thaw: boolean },
    work: () => Promise<T>,
  ): Promise<T> {
    if (!this.isAlive) throw new GuardFailedError('it has ended');
    this.#tell({ type: 'intent', ...holds });
    try {
      return await work();
    } finally {
      this.#tell({ type: 'over' });
    }
  }

  /** Lets it end; resolves when it has. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#child.stdin?.end();
    if (this.isAlive) await once(this.#child, 'exit');
  }

  #tell(message: GuardMessage): void {
    effectSync('recorder.guard.tell', () => this.#child.stdin?.write(`${JSON.stringify(message)}\n`));
  }
}
