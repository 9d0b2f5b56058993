/** What can go wrong when QEMU, or the agent in a guest, is spoken to. docs/errors.md lists the codes. */
import { OffsiteError } from '../../domain/errors.ts';

/** Nobody listens at the socket, or who does is no QMP monitor. */
export class MonitorUnreachableError extends OffsiteError {
  constructor(socketPath: string, why: string, options?: ErrorOptions) {
    super(
      'MonitorUnreachable',
      `${socketPath}: ${why}`,
      'Give the socket of a QMP monitor that nobody else uses: -qmp unix:PATH,server=on,wait=off. One serves one client at a time.',
      options,
    );
  }
}

/** The connection ended while an answer was waited for: QEMU may or may not have carried the command out. */
export class MonitorClosedError extends OffsiteError {
  constructor(socketPath: string, command: string) {
    super(
      'MonitorClosed',
      `${socketPath}: the connection ended before ${command} was answered`,
      'Look whether the machine still runs; it is tried again.',
    );
  }
}

/** No answer in time. The command may still be carried out. */
export class MonitorSilentError extends OffsiteError {
  constructor(socketPath: string, command: string, timeoutMs: number) {
    super(
      'MonitorSilent',
      `${socketPath}: ${command} was not answered within ${timeoutMs} ms`,
      'Look whether the machine hangs, or its storage does.',
    );
  }
}

/** QEMU refused a command. */
export class MonitorRefusedError extends OffsiteError {
  /** QEMU's own class, such as `GenericError` or `CommandNotFound`. */
  readonly refusal: string;

  constructor(command: string, refusal: string, words: string) {
    super('MonitorRefused', `QEMU refused ${command}: ${words}`, "See QEMU's reason.");
    this.refusal = refusal;
  }
}
