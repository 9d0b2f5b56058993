/** What a source site takes of what a replica site asks. */
import { z } from 'zod';
import { lockTypeOf } from '../../contract/names.ts';
import type { GivenUp } from '../../contract/replica-activities.ts';
import type {
  SourceActivities,
  SourceControlActivities,
  SourceTransferActivities,
} from '../../contract/source-activities.ts';
import type { Cursor, SyncQuery } from '../../contract/sync.ts';
import type { JournalWindow, ReceiverOffer, SendDiskInput } from '../../contract/transfer.ts';
import { OffsiteError } from '../../domain/errors.ts';
import { plainWords } from '../../domain/plain-words.ts';
import { MAX_DISKS } from '../../domain/usable-answer.ts';
import { type Shape, withCheckedInputs } from './checked.ts';
import {
  count,
  epoch,
  fence,
  fingerprint,
  ident,
  layerProofs,
  ONCE_PER_DISK,
  oncePerDisk,
  ordinal,
  position,
  siteName,
  syncMethod,
  uuid,
  words,
} from './fields.ts';

/** Tried again: it heals when the two sites' versions fit, and the operator reads the reason meanwhile. */
export class RequestInvalidError extends OffsiteError {
  constructor(activity: string, fault: string) {
    super(
      'RequestInvalid',
      `the replica site asked for ${activity} with what cannot be: ${plainWords(fault, 300)}`,
      'Compare the versions of both sites; if they fit, that site is broken or not what it says it is.',
    );
  }
}

type Activities = SourceActivities & SourceControlActivities & SourceTransferActivities;

const MAX_KEPT_TASKS = 100;
/** A host's name or address as a URL has it, without a port: no space, no control character, no path. */
const hostName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:%-]{0,254}$|^::[0-9a-fA-F:.]{0,62}$/, 'must be a host name or address');
const rate = ordinal.nullable();
const lockType = z.string().regex(/^remote_schedule_[0-9a-f-]{36}$/, "must be a schedule's lock type");
const taskUuids = z.array(uuid).max(MAX_KEPT_TASKS, `must be at most ${MAX_KEPT_TASKS} tasks`);
const perDisk = <Entry extends z.ZodType<{ readonly disk: string }>>(entry: Entry) =>
  z.array(entry).max(MAX_DISKS, `must be at most ${MAX_DISKS} disks`).refine(oncePerDisk, ONCE_PER_DISK);

const OWN_LOCKS = { error: "must be the schedule's own", path: ['lockType'] };
const isOwn = (input: { fence: { scheduleUuid: string }; lockType: string }): boolean =>
  input.lockType === lockTypeOf(input.fence.scheduleUuid);

const cursor = z.object({
  hostSnapshot: uuid,
  taskUuid: uuid,
  position: position.nullable(),
  proofs: perDisk(z.object({ disk: ident, layers: layerProofs })),
} satisfies Shape<Cursor>);

const syncQuery = z
  .object({
    fence,
    replicaSite: siteName,
    scheduleName: ident,
    host: ident,
    type: z.enum(['interval', 'continuous']),
    taskUuid: uuid,
    lockType,
    prev: cursor.nullable(),
    unfinished: z.object({ hostSnapshot: uuid }).nullable(),
    replicaHoldsHost: z.boolean(),
    replicaDoubts: perDisk(z.object({ disk: ident, doubt: words })),
    canAppend: z.boolean().exactOptional(),
    comparable: perDisk(z.object({ disk: ident, what: z.enum(['replica', 'seed']) })).exactOptional(),
  } satisfies Shape<SyncQuery>)
  .refine(isOwn, OWN_LOCKS);

const receiver = z.object({
  host: hostName,
  port: ordinal.max(65_535, 'must be a port'),
  fingerprint,
  epoch,
} satisfies Shape<ReceiverOffer>);

const sendDisk = z.object({
  fence,
  replicaSite: siteName,
  host: ident,
  disk: ident,
  taskUuid: uuid,
  diskTaskUuid: uuid,
  hostSnapshot: uuid,
  method: syncMethod,
  baseSnapshot: uuid.nullable(),
  proof: layerProofs,
  receiver,
  bandwidthBytesPerSecond: rate,
  journal: z
    .object({ checkpoint: count, followMs: count.nullable() } satisfies Shape<JournalWindow>)
    .exactOptional(),
} satisfies Shape<SendDiskInput>);

const givenUp = z
  .object({
    fence,
    lockType,
    keepGeneration: count,
    keepTaskUuids: taskUuids,
  } satisfies Shape<GivenUp>)
  .refine(isOwn, OWN_LOCKS);

const schemas = {
  stopPreviousDiskTasks: z.object({ fence }),
  querySyncInfo: syncQuery,
  releaseOtherLocks: z.object({ fence, lockType, keepTaskUuids: taskUuids }).refine(isOwn, OWN_LOCKS),
  releaseUnfinished: givenUp,
  setRate: z.object({
    scheduleUuid: uuid,
    taskUuid: uuid,
    revision: ordinal,
    bandwidthBytesPerSecond: rate,
  }),
  retireSchedule: z
    .object({ scheduleUuid: uuid, lockType })
    .refine(input => input.lockType === lockTypeOf(input.scheduleUuid), OWN_LOCKS),
  sendDisk,
  stopSender: z.object({ fence, diskTaskUuid: uuid }),
} satisfies { [Name in keyof Activities]: z.ZodType<Parameters<Activities[Name]>[0]> };

/** A source's activities that look at their inputs first. */
export const withCheckedRequests = (activities: Activities): Activities =>
  withCheckedInputs(schemas, activities, (activity, fault) => new RequestInvalidError(activity, fault));
