/** A client of QEMU's monitor. @see https://www.qemu.org/docs/master/interop/qmp-spec.html */
import {
  MonitorClosedError,
  MonitorRefusedError,
  MonitorSilentError,
  MonitorUnreachableError,
} from './errors.ts';
import { type JsonObject, JsonSocket } from './json-socket.ts';

export interface MonitorEvent {
  /** Such as `BLOCK_JOB_ERROR`. */
  readonly event: string;
  readonly data: JsonObject;
}

export interface MonitorCommand {
  readonly command: string;
  readonly args?: JsonObject;
}

interface Pending {
  readonly command: string;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

const GREETING_MS = 5_000;
const COMMAND_MS = 30_000;

export class QmpMonitor {
  readonly socketPath: string;
  readonly #pending = new Map<string, Pending>();
  readonly #listeners = new Set<(event: MonitorEvent) => void>();
  readonly #closed = Promise.withResolvers<string | null>();
  readonly #greeted = Promise.withResolvers<void>();
  #socket: JsonSocket | null = null;
  #isClosed = false;
  #count = 0;

  private constructor(socketPath: string) {
    this.socketPath = socketPath;
    this.#greeted.promise.catch(() => {});
  }

  /** Connects and leaves the negotiation mode. @throws {MonitorUnreachableError} */
  static async connect(socketPath: string, greetingMs = GREETING_MS): Promise<QmpMonitor> {
    const monitor = new QmpMonitor(socketPath);
    monitor.#socket = await JsonSocket.connect(socketPath, {
      onObject: object => monitor.#take(object),
      onClose: why => monitor.#end(why),
    });
    const timer = setTimeout(
      () =>
        monitor.#greeted.reject(
          new MonitorUnreachableError(socketPath, 'QEMU says nothing: another client may be connected'),
        ),
      greetingMs,
    );
    try {
      await monitor.#greeted.promise;
      await monitor.execute('qmp_capabilities');
      return monitor;
    } catch (error) {
      monitor.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Resolves when the connection has ended, with the reason if there is one. */
  get closed(): Promise<string | null> {
    return this.#closed.promise;
  }

  /**
   * @returns QEMU's answer
   * @throws {MonitorRefusedError} | {@link MonitorClosedError} | {@link MonitorSilentError}
   */
  execute(command: string, args?: JsonObject, timeoutMs = COMMAND_MS): Promise<unknown> {
    if (this.#isClosed) return Promise.reject(new MonitorClosedError(this.socketPath, command));
    const { sent, answer } = this.#expect(args === undefined ? { command } : { command, args }, timeoutMs);
    this.#socket?.send(sent);
    return answer;
  }

  /**
   * Sends commands in one write. QEMU carries out all of them, one after the other, also when one fails, and also when
   * this process dies right after: docs/decisions/0049.
   * @returns an outcome for each, in their order
   */
  executeAll(
    commands: readonly MonitorCommand[],
    timeoutMs = COMMAND_MS,
  ): Promise<PromiseSettledResult<unknown>[]> {
    if (this.#isClosed) {
      const refused = commands.map(({ command }) => new MonitorClosedError(this.socketPath, command));
      return Promise.allSettled(refused.map(error => Promise.reject(error)));
    }
    const expected = commands.map(command => this.#expect(command, timeoutMs));
    this.#socket?.sendAll(expected.map(({ sent }) => sent));
    return Promise.allSettled(expected.map(({ answer }) => answer));
  }

  /** @returns how to listen no longer */
  onEvent(listener: (event: MonitorEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What is not answered yet fails with {@link MonitorClosedError}. */
  close(): void {
    this.#socket?.destroy();
  }

  #expect(
    { command, args }: MonitorCommand,
    timeoutMs: number,
  ): { sent: JsonObject; answer: Promise<unknown> } {
    this.#count += 1;
    const id = `offsite-${this.#count}`;
    const answer = new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new MonitorSilentError(this.socketPath, command, timeoutMs));
      }, timeoutMs);
      this.#pending.set(id, { command, resolve, reject, timer });
    });
    return { sent: { execute: command, ...(args === undefined ? {} : { arguments: args }), id }, answer };
  }

  #take(object: JsonObject): void {
    if ('QMP' in object) this.#greeted.resolve();
    else if (typeof object.event === 'string') this.#tell(object.event, (object.data ?? {}) as JsonObject);
    else this.#answer(object);
  }

  #tell(event: string, data: JsonObject): void {
    for (const listener of this.#listeners) listener({ event, data });
  }

  #answer(object: JsonObject): void {
    const id = String(object.id);
    const pending = this.#pending.get(id);
    // The answer to a command whose time was over.
    if (pending === undefined) return;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if ('return' in object) {
      pending.resolve(object.return);
      return;
    }
    const { class: refusal, desc } = (object.error ?? {}) as { class?: unknown; desc?: unknown };
    pending.reject(new MonitorRefusedError(pending.command, String(refusal), String(desc)));
  }

  #end(why: string | null): void {
    this.#isClosed = true;
    this.#greeted.reject(new MonitorUnreachableError(this.socketPath, why ?? 'QEMU hung up'));
    for (const { command, reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new MonitorClosedError(this.socketPath, command));
    }
    this.#pending.clear();
    this.#closed.resolve(why);
  }
}
