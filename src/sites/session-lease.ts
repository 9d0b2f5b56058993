/** A writer that was held up, as by SIGSTOP, asks again whether its session is still its own before it writes. */
import type { Epoch } from '../contract/fence.ts';
import { ReopenNeededError, SupersededError } from '../domain/errors.ts';
import { compareEpochs } from '../domain/fences.ts';
import type { SessionRecord } from '../transfer/ports.ts';

/** So long what was seen holds: a pause, whoever recorded it, stops every writer of the site within this time. */
const LOOK_MS = 1_000;
/** So long a writer goes on while the catalog does not answer: a restart of PostgreSQL stops no transfer. */
const PATIENCE_MS = 30_000;

export interface SessionLease {
  /**
   * To be called before each write.
   * @throws {ReopenNeededError} when the session was closed @throws {SupersededError} when a newer one was opened
   * @throws what `find` throws, once it has failed for 30 s
   */
  renew(): Promise<void>;
}

/**
 * The lease of a session that was just seen to be open.
 * @param find reads the session from the catalog
 * @param nowMs a clock that goes on while this process is stopped
 */
export function createSessionLease(
  { diskTaskUuid, epoch }: Pick<SessionRecord, 'diskTaskUuid' | 'epoch'>,
  find: (diskTaskUuid: string) => Promise<SessionRecord | null>,
  nowMs: () => number = () => performance.now(),
): SessionLease {
  let seenAtMs = nowMs();
  let lookedAtMs = seenAtMs;
  let refusal: Error | null = null;
  return {
    async renew() {
      if (refusal !== null) throw refusal;
      const atMs = nowMs();
      if (atMs - lookedAtMs < LOOK_MS) return;
      lookedAtMs = atMs;
      let session: SessionRecord | null;
      try {
        session = await find(diskTaskUuid);
      } catch (error) {
        if (atMs - seenAtMs >= PATIENCE_MS) throw error;
        return;
      }
      refusal = refusalOf(session, epoch);
      if (refusal !== null) throw refusal;
      seenAtMs = atMs;
    },
  };
}

function refusalOf(session: SessionRecord | null, epoch: Epoch): Error | null {
  if (session === null) return new ReopenNeededError('the session is gone');
  if (compareEpochs(session.epoch, epoch) !== 0) {
    return new SupersededError('a newer session of this disk task was opened');
  }
  return session.state === 'open' ? null : new ReopenNeededError(`the session is ${session.state}`);
}
