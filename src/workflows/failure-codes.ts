/** What the failures that reach a workflow mean. */
import {
  ActivityFailure,
  ApplicationFailure,
  ChildWorkflowFailure,
  TimeoutFailure,
} from '@temporalio/workflow';

/** The code of the domain error at the root of a failure, null when there is none. */
export function failureCode(error: unknown): string | null {
  const root = rootOf(error);
  return root instanceof ApplicationFailure ? (root.type ?? null) : null;
}

/** The words of the error at the root of a failure. */
export function failureReason(error: unknown): string {
  const root = rootOf(error);
  return root instanceof Error ? root.message : String(root);
}

/** True when no worker took the activity in time: nobody serves the node's queue. */
export function isUnserved(error: unknown): boolean {
  const root = rootOf(error);
  return root instanceof TimeoutFailure && root.timeoutType === 'SCHEDULE_TO_START';
}

/** Looks through what Temporal wraps around it; the failure's own cause belongs to the error itself. */
function rootOf(error: unknown): unknown {
  const isWrapper = error instanceof ActivityFailure || error instanceof ChildWorkflowFailure;
  return isWrapper && error.cause !== undefined ? rootOf(error.cause) : error;
}
