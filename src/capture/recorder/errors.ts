/** What keeps a host from being recorded. docs/errors.md lists the codes. */
import { OffsiteError } from '../../domain/errors.ts';

export class DiskNotFoundError extends OffsiteError {
  constructor(name: string, found: readonly string[]) {
    const there = found.length === 0 ? 'it has none' : `it has ${found.join(', ')}`;
    super('DiskNotFound', `the machine has no disk ${name}: ${there}`, 'Name a device or node with --disk.');
  }
}

/** The disk cannot be recorded; the machine was not touched. */
export class DiskUnsupportedError extends OffsiteError {
  constructor(disk: string, why: string, hint: string) {
    super('DiskUnsupported', `disk ${disk} cannot be recorded: ${why}`, hint);
  }
}

/** QEMU did not do all of the take-over; the guest runs, and what was done is taken back. */
export class TakeOverFailedError extends OffsiteError {
  constructor(why: string, options?: ErrorOptions) {
    super(
      'TakeOverFailed',
      `the disks could not be taken over: ${why}`,
      'It is tried again with a new base.',
      options,
    );
  }
}

export class RecorderRunningError extends OffsiteError {
  constructor(host: string, pid: number | null) {
    const who = pid === null ? 'another process' : `process ${pid}`;
    super('RecorderRunning', `${who} records host ${host} already`, 'Stop that one first.');
  }
}

export class RecorderUnreachableError extends OffsiteError {
  constructor(host: string, why: string, options?: ErrorOptions) {
    super(
      'RecorderUnreachable',
      `no recorder of host ${host} answers: ${why}`,
      `Start it: offsite source record ${host} --qmp SOCKET`,
      options,
    );
  }
}

/** Another recorder ended the epoch; this one was held up for long. */
export class EpochEndedError extends OffsiteError {
  constructor(epoch: string) {
    super(
      'EpochEnded',
      `epoch ${epoch} was ended by another recorder`,
      'The next recorder begins a new one.',
    );
  }
}

export class GuardFailedError extends OffsiteError {
  constructor(why: string) {
    super(
      'GuardFailed',
      `the process that guards the machine does not run: ${why}`,
      'Nothing is taken over without it; it is tried again.',
    );
  }
}
