/** Schemas of what both directions carry: names, numbers, digests, words. */
import { z } from 'zod';
import type { Epoch, Fence } from '../../contract/fence.ts';
import { IDENT, SITE_NAME, UUID } from '../../contract/names.ts';
import type { LayerProof, Position } from '../../contract/sync.ts';
import { plainWords } from '../../domain/plain-words.ts';
import { MAX_TIME_MS } from '../../domain/usable-answer.ts';
import type { Shape } from './checked.ts';

/** Of text that is cut afterwards: more is no reason any more, whoever wrote it. */
const MAX_TEXT_LENGTH = 1_000_000;
/** A chain has at most 64 layers; later versions may take more. */
const MAX_LAYERS = 256;

export const siteName = z.string().regex(SITE_NAME, 'must be 1 to 32 of a-z, 0-9 and -');
export const ident = z.string().regex(IDENT, 'must be 1 to 64 of letters, digits, ., _ and -');
export const uuid = z.string().regex(UUID, 'must be a lower-case UUID');
export const fingerprint = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits');
/** From zero. */
export const count = z.int('must be a whole number').nonnegative('must not be negative');
/** From one. */
export const ordinal = z.int('must be a whole number').positive('must be positive');
export const timeMs = count.max(MAX_TIME_MS, 'must be a time in milliseconds');
/** Made fit to be shown and kept; what is too long is cut with a mark. */
export const words = z
  .string('must be text')
  .max(MAX_TEXT_LENGTH, 'is far too long')
  .transform(text => plainWords(text));
/** Unsigned 64 bits. */
const fileNumber = z.string().regex(/^[0-9]{1,20}$/, 'must be at most 20 digits');
/** Times before 1970 are negative. */
const nanoseconds = z.string().regex(/^-?[0-9]{1,20}$/, 'must be nanoseconds, in at most 20 digits');
const digest128 = z.string().regex(/^[0-9a-f]{32}$/, 'must be 32 hexadecimal digits');

export const fence = z.object({
  scheduleUuid: uuid,
  generation: count,
  // Zero where a schedule gives up: it stands below every plan of the task to come.
  plan: count,
} satisfies Shape<Fence>);

export const epoch = z.object({
  generation: ordinal,
  plan: ordinal,
  openCount: ordinal,
} satisfies Shape<Epoch>);

export const position = z.object({ epoch: count, checkpoint: count } satisfies Shape<Position>);

const layerProof = z.object({
  device: fileNumber,
  inode: fileNumber,
  sizeBytes: count,
  mtimeNs: nanoseconds,
  ctimeNs: nanoseconds,
  headerDigest: digest128,
} satisfies Shape<LayerProof>);

export const layerProofs = z.array(layerProof).max(MAX_LAYERS, `must be at most ${MAX_LAYERS} layers`);

export const syncMethod = z.enum(['full', 'incremental', 'compare', 'append']);

/** No two of a list are of one disk. */
export const oncePerDisk = (disks: readonly { readonly disk: string }[]): boolean =>
  new Set(disks.map(({ disk }) => disk)).size === disks.length;
export const ONCE_PER_DISK = 'must have each disk once';
