/** Why a state cannot be recovered. docs/errors.md lists the codes. */
import { OffsiteError } from '../domain/errors.ts';

export class PointUnknownError extends OffsiteError {
  constructor(host: string, point: string | null) {
    super(
      'PointUnknown',
      point === null
        ? `host ${host} has no recovery point here`
        : `host ${host} has no recovery point ${point}`,
      `'offsite replica list ${host}' shows what there is.`,
    );
  }
}

/** There is nothing at or before the time that was asked for. */
export class StateUnknownError extends OffsiteError {
  constructor(host: string, atMs: number, oldestMs: number | null) {
    const oldest = oldestMs === null ? 'there is none' : `the oldest is of ${isoOf(oldestMs)}`;
    super(
      'StateUnknown',
      `host ${host} has no state from ${isoOf(atMs)} or before: ${oldest}`,
      `'offsite replica list ${host}' shows from when to when there are states.`,
    );
  }
}

export class MarkerUnknownError extends OffsiteError {
  constructor(host: string, name: string) {
    super(
      'MarkerUnknown',
      `host ${host} has no marker '${name}' here`,
      `'offsite replica markers ${host}' shows what there is.`,
    );
  }
}

/** A CDP point whose journal retention has removed. */
export class StatesRemovedError extends OffsiteError {
  constructor(host: string, point: string) {
    super(
      'StatesRemoved',
      `the journal of point ${point} of host ${host} was removed: it was out of the window that is kept`,
      `'offsite replica list ${host}' shows what there is; its base can still be recovered with --point.`,
    );
  }
}

/** What a state needs is damaged. */
export class StateDamagedError extends OffsiteError {
  /** The newest time, in this epoch, that can still be restored; null for none. */
  readonly untilMs: number | null;

  constructor(
    host: string,
    whole: { readonly checkpoint: number; readonly atMs: number } | null,
    cause: OffsiteError,
  ) {
    const until =
      whole === null
        ? 'of this epoch nothing can be restored from here'
        : `it can be restored until ${isoOf(whole.atMs)} (checkpoint ${whole.checkpoint})`;
    super(
      'StateDamaged',
      `host ${host}: ${until}: ${cause.message}`,
      whole === null
        ? `'offsite replica list ${host}' shows other points, which --point recovers; look at the storage.`
        : `Recover it with --at ${isoOf(whole.atMs)}, or another point; look at the storage.`,
      { cause },
    );
    this.untilMs = whole?.atMs ?? null;
  }
}

export class RecoveryRunsError extends OffsiteError {
  constructor(folder: string) {
    super(
      'RecoveryRuns',
      `another process recovers into ${folder} just now`,
      'Wait for it, or choose another folder.',
    );
  }
}

const isoOf = (ms: number): string => new Date(ms).toISOString();
