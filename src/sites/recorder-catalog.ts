/** What the catalog is told of an epoch: patiently, since a recorder goes on while PostgreSQL is away. */
import { setTimeout as sleep } from 'node:timers/promises';
import { EpochEndedError } from '../capture/recorder/errors.ts';
import type { Tick } from '../capture/recorder/host-clock.ts';
import type { Checkpoint, RegisterEpoch } from '../catalog/source-epochs.ts';
import type { RecorderSettings } from './recorder-settings.ts';

/** The newest checkpoint is noted so often. */
const NOTE_MS = 1_000;
const RETRY_MS = 1_000;
/** At an epoch's end the catalog is waited for so long; after that the next recorder says what happened. */
const END_ATTEMPTS = 5;

export interface EpochCatalog {
  /** Resolves when base and epoch are registered. */
  begin(input: RegisterEpoch): Promise<void>;
  /** Lets {@link begin} fail at its next failure. */
  giveUpBegin(): void;
  /** A checkpoint is durable in all journals; it is noted soon. */
  note(checkpoint: Tick): void;
  mark(name: string, checkpoint: Tick): Promise<void>;
  end(reason: string, newest: Tick | null): Promise<void>;
  close(): Promise<void>;
}

const toCheckpoint = ({ sequence, timeUs }: Tick): Checkpoint => ({
  sequence,
  atMs: Math.floor(timeUs / 1000),
});

/** @param onEnded another recorder has ended the epoch */
export function createEpochCatalog(
  { epochs, log }: RecorderSettings,
  uuid: string,
  onEnded: (error: EpochEndedError) => void,
): EpochCatalog {
  let isBegun = false;
  let isGivenUp = false;
  let wanted: Tick | null = null;
  let noted = 0;
  let noting: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    noting = noting.then(noteWanted);
  }, NOTE_MS);

  async function noteWanted(): Promise<void> {
    if (!isBegun || wanted === null || wanted.sequence <= noted) return;
    const checkpoint = wanted;
    try {
      const isOpen = await epochs.noteCheckpoint({ uuid, ...toCheckpoint(checkpoint) });
      noted = checkpoint.sequence;
      if (!isOpen) onEnded(new EpochEndedError(uuid));
    } catch (error) {
      log.warn({ error }, 'the newest checkpoint is not noted yet');
    }
  }

  return {
    async begin(input) {
      for (;;) {
        try {
          await epochs.registerEpoch(input);
          isBegun = true;
          return;
        } catch (error) {
          if (isGivenUp || !isPassing(error)) throw error;
          log.warn({ error }, 'the epoch is not registered yet');
          await sleep(RETRY_MS);
        }
      }
    },
    giveUpBegin() {
      isGivenUp = true;
    },
    note(checkpoint) {
      wanted = checkpoint;
    },
    async mark(name, checkpoint) {
      const at = toCheckpoint(checkpoint);
      if (!(await epochs.noteCheckpoint({ uuid, ...at, markers: [{ ...at, name }] })))
        throw new EpochEndedError(uuid);
      noted = Math.max(noted, checkpoint.sequence);
    },
    async end(reason, newest) {
      await noting;
      for (let attempt = 1; ; attempt += 1) {
        try {
          await epochs.endEpoch({ uuid, reason, checkpoint: newest === null ? null : toCheckpoint(newest) });
          return;
        } catch (error) {
          log.warn({ error, attempt }, 'the end of the epoch is not noted yet');
          if (attempt === END_ATTEMPTS) return;
          await sleep(RETRY_MS);
        }
      }
    },
    async close() {
      clearInterval(timer);
      await noting;
    },
  };
}

/** The catalog is away, or too busy. */
const isPassing = (error: unknown): boolean =>
  ['DatabaseUnreachable', 'DatabaseBusy', 'DatabaseFull'].includes((error as { code?: string }).code ?? '');
