/** The one shape of an error that an operator may see. */
import type { SeenFence } from '../contract/fence.ts';
import { plainWords } from './plain-words.ts';

/**
 * An error with a stable `code` (docs/errors.md lists them) and a hint that says what to do.
 * Subclasses are named `XxxError`; the code is the failure type that Temporal shows.
 */
export class OffsiteError extends Error {
  readonly code: string;
  readonly hint: string | null;

  constructor(code: string, message: string, hint: string | null = null, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.hint = hint;
  }
}

export class SupersededError extends OffsiteError {
  /** The pair that stands above the caller's, where a fence refused it; travels in the failure's details. */
  readonly seen: SeenFence | null;

  constructor(message: string, seen: SeenFence | null = null) {
    super('Superseded', message);
    this.seen = seen;
  }
}

export class ScheduleDeletedError extends OffsiteError {
  constructor(message: string) {
    super('ScheduleDeleted', message);
  }
}

export class PlanBrokenError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super('PlanBroken', message, 'The task plans anew by itself.', options);
  }
}

/** What the source answered cannot be. Nothing of it is used. */
export class AnswerInvalidError extends OffsiteError {
  constructor(fault: string) {
    super(
      'AnswerInvalid',
      `the source answered what cannot be: ${plainWords(fault, 300)}`,
      'It is asked again by itself; compare the versions of both sites.',
    );
  }
}

export class ReopenNeededError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super('ReopenNeeded', message, 'The disk task opens a new receiver by itself.', options);
  }
}
