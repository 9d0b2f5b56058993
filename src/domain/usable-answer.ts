/** What a replica's workflow may rely on in the source's answer, before any activity has looked at it. */
import { IDENT, SITE_NAME } from '../contract/names.ts';
import type { SyncAnswer, SyncMethod } from '../contract/sync.ts';
import { AnswerInvalidError } from './errors.ts';
import { plainWords, shownValue } from './plain-words.ts';

/** One host's disks. QEMU itself takes no more than a few hundred. */
export const MAX_DISKS = 256;
export const MAX_WARNINGS = 200;
/** The last millisecond that is written with four digits of year. */
export const MAX_TIME_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

const METHODS: readonly string[] = ['full', 'incremental', 'compare', 'append'] satisfies SyncMethod[];
const RESULTS: readonly string[] = ['create', 'update', 'none'] satisfies SyncAnswer['result'][];

type Test = (value: unknown) => boolean;
type Fields = Readonly<Record<string, readonly [isRight: Test, must: string]>>;

const isText: Test = value => typeof value === 'string';
const isCount: Test = value => Number.isSafeInteger(value) && (value as number) >= 0;
const isTime: Test = value => isCount(value) && (value as number) <= MAX_TIME_MS;
const isList = (value: unknown, most: number): value is readonly unknown[] =>
  Array.isArray(value) && value.length <= most;
const fits =
  (pattern: RegExp): Test =>
  value =>
    typeof value === 'string' && pattern.test(value);

const ANSWER: Fields = {
  result: [value => RESULTS.includes(value as string), 'must be create, update or none'],
  reason: [isText, 'must be text'],
  skippedCount: [isCount, 'must be a count'],
  warnings: [
    value => isList(value, MAX_WARNINGS) && value.every(isText),
    `must be at most ${MAX_WARNINGS} texts`,
  ],
  waiting: [value => typeof value === 'boolean', 'must be true or false'],
  newestSequence: [value => value === undefined || isCount(value), 'must be a place in an order'],
};

const TARGET: Fields = {
  hostSnapshot: [fits(IDENT), 'must be the id of a snapshot'],
  sourceSequence: [isCount, 'must be a place in an order'],
  takenAtMs: [isTime, 'must be a time in milliseconds'],
  disks: [value => isList(value, MAX_DISKS) && value.length > 0, `must be 1 to ${MAX_DISKS} disks`],
};

const DISK: Fields = {
  disk: [fits(IDENT), 'must be an ident'],
  method: [value => METHODS.includes(value as string), 'must be a method'],
  reason: [isText, 'must be text'],
  // It becomes the name of a task queue.
  sourceNode: [fits(SITE_NAME), 'must be the name of a node'],
};

/**
 * Looks at what the workflows themselves use of an answer: all that they print, wait by, or name task queues and
 * child workflows after. The rest is looked at by the activity that records the answer.
 * @returns the answer, with its words made fit to be shown
 * @throws {AnswerInvalidError} names the first field that cannot be, and its value
 */
export function usableAnswer(answer: unknown): SyncAnswer {
  const fault = answerFault(answer);
  if (fault !== null) throw new AnswerInvalidError(fault);
  const { target, reason, warnings, ...rest } = answer as SyncAnswer;
  const disks = target?.disks.map(disk => ({ ...disk, reason: plainWords(disk.reason) }));
  return {
    ...rest,
    reason: plainWords(reason),
    warnings: warnings.map(warning => plainWords(warning)),
    target: target === null || disks === undefined ? null : { ...target, disks },
  };
}

function answerFault(answer: unknown): string | null {
  if (!isObject(answer)) return `the answer is ${shownValue(answer)} instead of an object`;
  const fault = faultOf(answer, ANSWER, '');
  if (fault !== null) return fault;
  const { target, result } = answer as unknown as SyncAnswer;
  if ((target === null) !== (result === 'none')) return `target does not fit the result '${result}'`;
  if (target === null) return null;
  if (!isObject(target)) return `target is ${shownValue(target)} instead of an object`;
  const targetFault = faultOf(target, TARGET, 'target.');
  if (targetFault !== null) return targetFault;
  const idents = new Set<string>();
  for (const [index, disk] of target.disks.entries()) {
    const place = `target.disks[${index}]`;
    if (!isObject(disk)) return `${place} is ${shownValue(disk)} instead of an object`;
    const diskFault = faultOf(disk, DISK, `${place}.`);
    if (diskFault !== null) return diskFault;
    if (idents.has(disk.disk)) return `${place}.disk is ${shownValue(disk.disk)}, which is there twice`;
    idents.add(disk.disk);
  }
  return null;
}

const isObject = <Value>(value: Value): value is Value & object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function faultOf(object: object, fields: Fields, place: string): string | null {
  for (const [name, [isRight, must]] of Object.entries(fields)) {
    const value = (object as Record<string, unknown>)[name];
    if (!isRight(value)) return `${place}${name} is ${shownValue(value)}: ${must}`;
  }
  return null;
}
