/** How long to wait before the next attempt. */

const FIRST_MS = 1_000;
const MOST_MS = 60_000;

/** @param failures how many attempts have failed, from 1 @returns 1 s, doubling up to 1 min */
export function backoffMs(failures: number): number {
  return Math.min(FIRST_MS * 2 ** Math.max(0, failures - 1), MOST_MS);
}
