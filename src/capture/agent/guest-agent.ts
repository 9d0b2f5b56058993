/** A client of QEMU's guest agent, as far as filesystems are frozen and thawed. @see QEMU qga/qapi-schema.json */
import { randomInt } from 'node:crypto';
import { MonitorClosedError, MonitorRefusedError, MonitorSilentError } from '../qmp/errors.ts';
import { type JsonObject, JsonSocket } from '../qmp/json-socket.ts';

const ANSWER_MS = 10_000;

export class GuestAgent {
  readonly socketPath: string;
  #socket: JsonSocket | null = null;
  #waiting: ((answer: JsonObject | null) => void) | null = null;
  #isClosed = false;

  private constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  /** Connects, and passes over answers to earlier clients. @throws {MonitorUnreachableError} */
  static async connect(socketPath: string, timeoutMs = ANSWER_MS): Promise<GuestAgent> {
    const agent = new GuestAgent(socketPath);
    agent.#socket = await JsonSocket.connect(socketPath, {
      onObject: answer => agent.#waiting?.(answer),
      onClose: () => {
        agent.#isClosed = true;
        agent.#waiting?.(null);
      },
    });
    try {
      const id = randomInt(2 ** 31);
      for (;;) {
        const answer = await agent.#ask('guest-sync', { id }, timeoutMs);
        if (answer === id) return agent;
      }
    } catch (error) {
      agent.close();
      throw error;
    }
  }

  /** @returns how many filesystems are frozen now */
  async freeze(timeoutMs = ANSWER_MS): Promise<number> {
    return Number(await this.#ask('guest-fsfreeze-freeze', null, timeoutMs));
  }

  async thaw(timeoutMs = ANSWER_MS): Promise<void> {
    await this.#ask('guest-fsfreeze-thaw', null, timeoutMs);
  }

  close(): void {
    this.#socket?.destroy();
  }

  async #ask(command: string, args: JsonObject | null, timeoutMs: number): Promise<unknown> {
    if (this.#isClosed) throw new MonitorClosedError(this.socketPath, command);
    let timer: NodeJS.Timeout | undefined;
    try {
      const answer = await new Promise<JsonObject | null>((resolve, reject) => {
        this.#waiting = resolve;
        timer = setTimeout(
          () => reject(new MonitorSilentError(this.socketPath, command, timeoutMs)),
          timeoutMs,
        );
        this.#socket?.send({ execute: command, ...(args === null ? {} : { arguments: args }) });
      });
      if (answer === null) throw new MonitorClosedError(this.socketPath, command);
      if ('return' in answer) return answer.return;
      const { class: refusal, desc } = (answer.error ?? {}) as { class?: unknown; desc?: unknown };
      throw new MonitorRefusedError(command, String(refusal), String(desc));
    } finally {
      clearTimeout(timer);
      this.#waiting = null;
    }
  }
}
