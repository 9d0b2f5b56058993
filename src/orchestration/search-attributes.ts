/** What Temporal's lists can be searched by: registered once a namespace, set when a schedule is started. */
import type { ConnectionLike } from '@temporalio/client';
import { defineSearchAttributeKey, type SearchAttributePair } from '@temporalio/common';
import { SEARCH_ATTRIBUTES } from '../contract/names.ts';
import type { ScheduleSpec, ScheduleState } from '../contract/schedule.ts';
import { OffsiteError } from '../domain/errors.ts';
import { effect } from '../lib/fault-points.ts';
import { TemporalRefusedError } from './errors.ts';
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink, grpcFault } from './temporal-link.ts';

/** Numbers of the types. @see temporal/api/enums/v1/common.proto, IndexedValueType */
const TYPE_NUMBERS = { KEYWORD: 2, DATETIME: 6 } as const;
const ATTRIBUTES = Object.values(SEARCH_ATTRIBUTES);

/** Status codes of gRPC. @see https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
const INVALID_ARGUMENT = 3;
const UNIMPLEMENTED = 12;

/** Somebody else has given one of our names another type. */
export class SearchAttributeTypeError extends OffsiteError {
  constructor(name: string, type: string) {
    super(
      'SearchAttributeType',
      `Temporal's namespace has a search attribute ${name} that is no ${type.toLowerCase()}`,
      'Remove it (temporal operator search-attribute remove), then run offsite setup again.',
    );
  }
}

/** `present`: all were there. `refused`: some are lacking, and Temporal does not let us make them. */
export type SearchAttributesReport = 'made' | 'present' | 'refused';

/**
 * Registers those that the namespace lacks. It is no fault when Temporal does not let us: schedules live without.
 * @throws {TemporalUnreachableError} {@link SearchAttributeTypeError}
 */
export async function ensureSearchAttributes(settings: TemporalSettings): Promise<SearchAttributesReport> {
  const target = temporalTarget(settings);
  const link = createTemporalLink(target);
  try {
    return await link.call(({ connection }) => registerSearchAttributes(connection, target.namespace));
  } catch (error) {
    if (error instanceof TemporalRefusedError || grpcFault(error).code === UNIMPLEMENTED) return 'refused';
    throw error;
  } finally {
    await link.close();
  }
}

type Operator = Pick<ConnectionLike, 'operatorService'>;

/** As {@link ensureSearchAttributes}, over a connection; what Temporal answers comes through as it is. */
export async function registerSearchAttributes(
  { operatorService }: Operator,
  namespace: string,
): Promise<'made' | 'present'> {
  const lacking = await lackingAttributes({ operatorService }, namespace);
  if (lacking.length === 0) return 'present';
  const searchAttributes = Object.fromEntries(lacking.map(({ name, type }) => [name, TYPE_NUMBERS[type]]));
  try {
    await effect('temporal.registerSearchAttributes', () =>
      operatorService.addSearchAttributes({ namespace, searchAttributes }),
    );
    return 'made';
  } catch (error) {
    // The worker of the other site does the same at the same time.
    if ((await lackingAttributes({ operatorService }, namespace)).length === 0) return 'present';
    throw error;
  }
}

async function lackingAttributes({ operatorService }: Operator, namespace: string) {
  const { customAttributes } = await operatorService.listSearchAttributes({ namespace });
  return ATTRIBUTES.filter(({ name, type }) => {
    const found = customAttributes[name];
    if (found !== undefined && found !== TYPE_NUMBERS[type]) throw new SearchAttributeTypeError(name, type);
    return found === undefined;
  });
}

/** What a schedule's workflow is started with; it keeps its state and how far it is behind up to date itself. */
export const searchAttributesOf = (
  { host, name }: ScheduleSpec,
  { paused, behindSinceMs }: ScheduleState,
): SearchAttributePair[] => [
  { key: keyOf('host'), value: host },
  { key: keyOf('schedule'), value: name },
  { key: keyOf('state'), value: paused ? 'paused' : 'waiting' },
  ...(behindSinceMs === null ? [] : [{ key: BEHIND_SINCE, value: new Date(behindSinceMs) }]),
];

const keyOf = (attribute: 'host' | 'schedule' | 'state') =>
  defineSearchAttributeKey(SEARCH_ATTRIBUTES[attribute].name, SEARCH_ATTRIBUTES[attribute].type);
const BEHIND_SINCE = defineSearchAttributeKey(
  SEARCH_ATTRIBUTES.behindSince.name,
  SEARCH_ATTRIBUTES.behindSince.type,
);

/** True when a start failed only because the namespace lacks a search attribute. */
export function lacksSearchAttributes(error: unknown): boolean {
  const { code, details } = grpcFault(error);
  return code === INVALID_ARGUMENT && /search attribute/i.test(details);
}
