/** Why a task ended or was planned anew: mostly in the words of the other site's failure. */
import type { SeenFence } from '../../contract/fence.ts';
import { plainWords } from '../../domain/plain-words.ts';
import { count } from './fields.ts';

/** @returns words that a row and a page can hold */
export const keptReason = (reason: unknown): string => plainWords(String(reason));

/** @returns the pair if it is one, else undefined: it is an addition to what the failure itself says */
export function keptSeen(seen: unknown): SeenFence | undefined {
  const { generation, plan } = (seen ?? {}) as Partial<SeenFence>;
  const isPair = count.safeParse(generation).success && count.safeParse(plan).success;
  return isPair ? { generation: generation as number, plan: plan as number } : undefined;
}
