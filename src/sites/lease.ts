/** A writer that was held up, as by SIGSTOP, asks again whether the file is still its own before it writes. */
import { ReopenNeededError, SupersededError } from '../domain/errors.ts';
import { compareEpochs } from '../domain/fences.ts';
import type { SessionRecord } from '../transfer/ports.ts';

/** So long what was seen holds: a pause, whoever recorded it, stops every writer of the site within this time. */
const LOOK_MS = 1_000;
/** So long a writer goes on while the catalog does not answer: a restart of PostgreSQL stops no transfer. */
const PATIENCE_MS = 30_000;

export interface Lease {
  /**
   * To be called before each write.
   * @throws what the look found against it, from then on always; what the look throws, once it has failed for 30 s
   */
  renew(): Promise<void>;
}

/**
 * Nothing spoke against the writer just now.
 * @param look asks the catalog what speaks against it; null for nothing
 * @param nowMs a clock that goes on while this process is stopped
 */
export function createLease(
  look: () => Promise<Error | null>,
  nowMs: () => number = () => performance.now(),
): Lease {
  let seenAtMs = nowMs();
  let lookedAtMs = seenAtMs;
  let refusal: Error | null = null;
  return {
    async renew() {
      if (refusal !== null) throw refusal;
      const atMs = nowMs();
      if (atMs - lookedAtMs < LOOK_MS) return;
      lookedAtMs = atMs;
      try {
        refusal = await look();
      } catch (error) {
        if (atMs - seenAtMs >= PATIENCE_MS) throw error;
        return;
      }
      if (refusal !== null) throw refusal;
      seenAtMs = atMs;
    },
  };
}

/** What speaks against writing for a session. @param now the session as the catalog has it */
export function sessionRefusal(
  session: Pick<SessionRecord, 'epoch'>,
  now: Pick<SessionRecord, 'epoch' | 'state'> | null,
): Error | null {
  if (now === null) return new ReopenNeededError('the session is gone');
  if (compareEpochs(now.epoch, session.epoch) !== 0) {
    return new SupersededError('a newer session of this disk task was opened');
  }
  return now.state === 'open' ? null : new ReopenNeededError(`the session is ${now.state}`);
}
