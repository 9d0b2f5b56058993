/** Journals of replicas while they are received: files, catalog and session, and one writer for each. */
import { dirname } from 'node:path';
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { ReplicaJournal as ReplicaJournalRow } from '../catalog/replica-journals.ts';
import { OffsiteError, PlanBrokenError, SupersededError } from '../domain/errors.ts';
import { openReplicaJournal, type ReplicaJournal } from '../images/cdp/journal-sink.ts';
import { assertOwnFolders } from '../images/replica/durable-files.ts';
import type { JournalIdentity, JournalSink, SessionRecord } from '../transfer/ports.ts';
import { createLease, sessionRefusal } from './lease.ts';
import type { ReplicaGround } from './replica-ground.ts';

/** What site B's catalog knows of journals. */
type ReplicaJournals = Pick<ReplicaCatalog, 'openJournal' | 'appendDurable'>;

/** Another process has gone on with the journal; the next connection begins where that one is. */
class JournalMovedError extends OffsiteError {
  constructor(directory: string) {
    super(
      'JournalMoved',
      `${directory}: another writer has gone on with the journal`,
      'It is tried again by itself.',
    );
  }
}

interface Writer {
  takeOver(): void;
  readonly ended: Promise<void>;
}

export interface JournalSinks {
  open(session: SessionRecord, identity: JournalIdentity): Promise<JournalSink>;
}

/** @param parts.nowMs the clock of {@link createLease} */
export function createJournalSinks(parts: {
  journals: ReplicaJournals;
  find: (diskTaskUuid: string) => Promise<SessionRecord | null>;
  ground: Pick<ReplicaGround, 'assertThere'> | undefined;
  nowMs: (() => number) | undefined;
}): JournalSinks {
  const { journals, find, ground, nowMs } = parts;
  const writers = new Map<string, Writer>();

  /** Ends the writer before, in whatever session, and waits until its last write has ended. */
  async function claim(directory: string): Promise<{ takenOver: Promise<Error>; end(): void }> {
    const takenOver = Promise.withResolvers<Error>();
    const ended = Promise.withResolvers<void>();
    const before = writers.get(directory);
    const own: Writer = {
      takeOver: () => takenOver.resolve(new SupersededError('another connection goes on with this journal')),
      ended: ended.promise,
    };
    writers.set(directory, own);
    before?.takeOver();
    await before?.ended;
    return {
      takenOver: takenOver.promise,
      end() {
        if (writers.get(directory) === own) writers.delete(directory);
        ended.resolve();
      },
    };
  }

  return {
    async open(session, identity) {
      const { diskTaskUuid, epoch } = session;
      const first = await journals.openJournal({ diskTaskUuid, epoch });
      assertSame(first, identity);
      await ground?.assertThere();
      await assertOwnFolders(dirname(first.directory));
      await assertOwnFolders(first.directory);
      const { takenOver, end } = await claim(first.directory);
      try {
        // The writer before may have committed until just now.
        const known = await journals.openJournal({ diskTaskUuid, epoch });
        const look = async () => sessionRefusal(session, await find(diskTaskUuid));
        const journal = await openReplicaJournal({
          directory: known.directory,
          identity: { ...identity, epoch: identity.epochUuid },
          start: identity.start,
          nextIndex: known.nextIndex,
          recordBytes: known.recordBytes,
          async assertCurrent() {
            const refusal = await look();
            if (refusal !== null) throw refusal;
            const now = await journals.openJournal({ diskTaskUuid, epoch });
            if (now.nextIndex !== known.nextIndex) throw new JournalMovedError(known.directory);
          },
          async onDurable(durable) {
            await journals.appendDurable({ diskTaskUuid, epoch, ...durable });
          },
        });
        return sinkOf(journal, createLease(look, nowMs).renew, takenOver, end);
      } catch (error) {
        end();
        throw error;
      }
    },
  };
}

function sinkOf(
  journal: ReplicaJournal,
  renew: () => Promise<void>,
  takenOver: Promise<Error>,
  end: () => void,
): JournalSink {
  return {
    get end() {
      return journal.end;
    },
    get recordBytes() {
      return journal.recordBytes;
    },
    takenOver,
    async append(records) {
      await renew();
      await journal.append(records);
    },
    commit: () => journal.commit(),
    async close() {
      try {
        await journal.close();
      } finally {
        end();
      }
    },
  };
}

/** @throws {PlanBrokenError} when the sender brings another journal than the catalog expects */
function assertSame(known: ReplicaJournalRow, offered: JournalIdentity): void {
  for (const key of ['epochUuid', 'host', 'disk', 'virtualSizeBytes'] as const) {
    if (known[key] === offered[key]) continue;
    throw new PlanBrokenError(`the journal is of ${key} ${offered[key]}; ${known[key]} was expected`);
  }
}
