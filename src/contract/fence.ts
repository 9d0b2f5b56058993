/** What fences off the old: (generation, plan) orders the attempts of one schedule. */

/** Carried by every activity that has an effect; a catalog that has seen a higher pair refuses it. */
export interface Fence {
  readonly scheduleUuid: string;
  /** The number of the schedule's task, from 1, given once a task uuid. */
  readonly generation: number;
  /** The number of the task's attempt to plan, from 1. */
  readonly plan: number;
}

/** The highest pair that a catalog has seen of a schedule. */
export type SeenFence = Pick<Fence, 'generation' | 'plan'>;

/** Orders the receivers of one disk task; a lower epoch is cut off. */
export interface Epoch {
  readonly generation: number;
  readonly plan: number;
  /** How often the disk workflow opened a receiver in this plan, from 1. */
  readonly openCount: number;
}
