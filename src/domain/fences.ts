/** How fences and epochs are ordered. */
import type { Epoch, Fence } from '../contract/fence.ts';

/** @returns negative, zero or positive, as for `Array.prototype.sort` */
export function compareFences(left: Omit<Fence, 'scheduleUuid'>, right: Omit<Fence, 'scheduleUuid'>): number {
  return left.generation - right.generation || left.plan - right.plan;
}

/** @returns negative, zero or positive, as for `Array.prototype.sort` */
export function compareEpochs(left: Epoch, right: Epoch): number {
  return compareFences(left, right) || left.openCount - right.openCount;
}
