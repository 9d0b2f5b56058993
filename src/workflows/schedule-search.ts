/** A schedule's search attributes: what Temporal's lists of workflows can be filtered and sorted by. */
import { defineSearchAttributeKey, type SearchAttributePair } from '@temporalio/common';
import { upsertSearchAttributes } from '@temporalio/workflow';
import { SEARCH_ATTRIBUTES } from '../contract/names.ts';
import type { ScheduleSpec, ScheduleStatus } from '../contract/schedule.ts';

const HOST = defineSearchAttributeKey(SEARCH_ATTRIBUTES.host.name, SEARCH_ATTRIBUTES.host.type);
const SCHEDULE = defineSearchAttributeKey(SEARCH_ATTRIBUTES.schedule.name, SEARCH_ATTRIBUTES.schedule.type);

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

/** By which a schedule's tasks and their disks are found; none where the namespace has no such attributes. */
export function searchAttributesOf(of: {
  readonly spec: Pick<ScheduleSpec, 'host' | 'name'>;
  readonly searchAttributes?: boolean;
}): { readonly typedSearchAttributes?: SearchAttributePair[] } {
  if (of.searchAttributes !== true) return {};
  return {
    typedSearchAttributes: [
      { key: HOST, value: of.spec.host },
      { key: SCHEDULE, value: of.spec.name },
    ],
  };
}
