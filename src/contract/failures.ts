/**
 * The failure types that cross Temporal. An error's `code` becomes the failure's type;
 * docs/errors.md says for each what it means and what the operator does.
 */

/** An activity that ends with one of these is not tried again: the workflow decides what follows. */
export const NON_RETRYABLE = [
  /** A higher (generation, plan) was seen: the caller is an old attempt. */
  'Superseded',
  /** The schedule was deleted; its tombstone refuses everything but the delete itself. */
  'ScheduleDeleted',
  /** Another live schedule has this name, or this host from this source. */
  'ScheduleConflict',
  /** The ground changed: target or base vanished, was replaced or edited. Plan anew. */
  'PlanBroken',
  /** What the source answered cannot be: nothing of it is used, it is asked again under a new plan. */
  'AnswerInvalid',
  /** The receiver is unknown, superseded or out of reach: open a new one. */
  'ReopenNeeded',
  /** The caller broke the contract. A bug: it never heals by retrying. */
  'InvalidInput',
] as const;

export type NonRetryableCode = (typeof NON_RETRYABLE)[number];

export const isNonRetryable = (code: string): code is NonRetryableCode =>
  (NON_RETRYABLE as readonly string[]).includes(code);
