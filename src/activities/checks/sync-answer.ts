/** What a replica site takes of the source's answer. */
import { z } from 'zod';
import type { DiskPlan, SyncAnswer, SyncTarget } from '../../contract/sync.ts';
import { AnswerInvalidError } from '../../domain/errors.ts';
import { MAX_DISKS, MAX_WARNINGS } from '../../domain/usable-answer.ts';
import { checked, type Shape } from './checked.ts';
import {
  count,
  fingerprint,
  ident,
  layerProofs,
  ONCE_PER_DISK,
  oncePerDisk,
  position,
  siteName,
  syncMethod,
  timeMs,
  uuid,
  words,
} from './fields.ts';

/** Rows of the decision table; later versions may have more. */
const MAX_ROW = 1_000;
/** The source names at most 100. */
const MAX_SKIPPED = 1_000;

const diskPlan = z.object({
  disk: ident,
  method: syncMethod,
  baseSnapshot: uuid.nullable(),
  reason: words,
  virtualSizeBytes: count,
  sourceNode: siteName,
  senderFingerprint: fingerprint,
  proof: layerProofs,
} satisfies Shape<DiskPlan>);

const syncTarget = z.object({
  hostSnapshot: uuid,
  originSite: siteName,
  sourceSequence: count,
  takenAtMs: timeMs,
  position: position.nullable(),
  base: uuid.exactOptional(),
  disks: z
    .array(diskPlan)
    .min(1, 'must name a disk')
    .max(MAX_DISKS, `must be at most ${MAX_DISKS} disks`)
    .refine(oncePerDisk, ONCE_PER_DISK),
} satisfies Shape<SyncTarget>);

const syncAnswer = z
  .object({
    result: z.enum(['create', 'update', 'none']),
    target: syncTarget.nullable(),
    row: count.max(MAX_ROW, 'must be a row of the decision table'),
    reason: words,
    skipped: z.array(uuid).max(MAX_SKIPPED, `must be at most ${MAX_SKIPPED} snapshots`),
    skippedCount: count,
    warnings: z.array(words).max(MAX_WARNINGS, `must be at most ${MAX_WARNINGS} warnings`),
    waiting: z.boolean(),
    newestSequence: count.exactOptional(),
    continues: z.boolean().exactOptional(),
  } satisfies Shape<SyncAnswer>)
  .refine(({ result, target }) => (target === null) === (result === 'none'), {
    error: 'must fit the result',
    path: ['target'],
  });

/**
 * @returns the answer with its words made fit to be shown
 * @throws {AnswerInvalidError} when it cannot be what an honest source of any version says
 */
export const checkedAnswer = (answer: unknown): SyncAnswer =>
  checked(syncAnswer, answer, fault => new AnswerInvalidError(fault));
