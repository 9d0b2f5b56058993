/** What the failures that reach a workflow mean. */
import {
  ActivityFailure,
  ApplicationFailure,
  ChildWorkflowFailure,
  TimeoutFailure,
} from '@temporalio/workflow';
import type { SeenFence } from '../contract/fence.ts';
import { plainWords } from '../domain/plain-words.ts';

/** The code of the domain error at the root of a failure, null when there is none. */
export function failureCode(error: unknown): string | null {
  const root = rootOf(error);
  return root instanceof ApplicationFailure ? (root.type ?? null) : null;
}

/**
 * The pair of generation and plan by which a fence refused the step; null when it does not tell. The other site
 * wrote it: whoever uses it has to look whether it can be.
 */
export function seenFence(error: unknown): SeenFence | null {
  const root = rootOf(error);
  if (!(root instanceof ApplicationFailure)) return null;
  const [detail] = (root.details ?? []) as readonly ({ readonly seen?: SeenFence } | null)[];
  return detail?.seen ?? null;
}

/** The words of the error at the root of a failure, which the other site may have written. */
export function failureReason(error: unknown): string {
  const root = rootOf(error);
  return plainWords(root instanceof Error ? root.message : String(root));
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
