/** Turns the house's errors into Temporal failures: the code becomes the type, the hint stays readable. */
import { ApplicationFailure } from '@temporalio/activity';
import { isNonRetryable } from '../contract/failures.ts';
import { OffsiteError, SupersededError } from '../domain/errors.ts';

/** @returns the failure to throw; what is none of ours passes unchanged */
export function toFailure(error: unknown): unknown {
  if (!(error instanceof OffsiteError)) return error;
  return ApplicationFailure.create({
    type: error.code,
    message: error.hint === null ? error.message : `${error.message}. ${error.hint}`,
    nonRetryable: isNonRetryable(error.code),
    cause: error,
    // An additive part of the contract: who was refused learns by what.
    ...(error instanceof SupersededError && error.seen !== null && { details: [{ seen: error.seen }] }),
  });
}
