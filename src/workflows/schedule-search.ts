/** A schedule's search attributes: what Temporal's lists of workflows can be filtered and sorted by. */
import { defineSearchAttributeKey } from '@temporalio/common';
import { upsertSearchAttributes } from '@temporalio/workflow';
import { SEARCH_ATTRIBUTES } from '../contract/names.ts';
import type { ScheduleStatus } from '../contract/schedule.ts';

const STATE = defineSearchAttributeKey(SEARCH_ATTRIBUTES.state.name, SEARCH_ATTRIBUTES.state.type);
const BEHIND_SINCE = defineSearchAttributeKey(
  SEARCH_ATTRIBUTES.behindSince.name,
  SEARCH_ATTRIBUTES.behindSince.type,
);

/** Writes them at the start of each run and when they have changed: each write is an event of the history. */
export class ScheduleSearch {
  #told: Pick<ScheduleStatus, 'state' | 'behindSinceMs'> | null = null;

  /** Only where the namespace has the attributes: without them Temporal would not take the workflow's step. */
  tell({ state, behindSinceMs }: ScheduleStatus): void {
    if (this.#told?.state === state && this.#told.behindSinceMs === behindSinceMs) return;
    this.#told = { state, behindSinceMs };
    upsertSearchAttributes([
      { key: STATE, value: state },
      { key: BEHIND_SINCE, value: behindSinceMs === null ? null : new Date(behindSinceMs) },
    ]);
  }
}
