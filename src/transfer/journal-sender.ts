/** Sends a window of one disk's journal: records as they come, until both ends agree on where it ended. */
import { OffsiteError } from '../domain/errors.ts';
import type { FrameConnection } from './connection.ts';
import { encodeJournal } from './journal-messages.ts';
import { type ContentWord, JOURNAL_VERSION, type Welcome } from './messages.ts';
import { OutgoingJournal } from './outgoing-journal.ts';
import type { JournalSource } from './ports.ts';
import { type Cargo, type SenderOptions, type SenderProgress, type Sent, sendCargo } from './sender-loop.ts';
import type { Throttle } from './throttle.ts';

export interface SendJournalOptions extends SenderOptions {
  /** Called at most once, when the receiver has welcomed the sender. */
  readonly openSource: () => Promise<JournalSource>;
  readonly throttle: Throttle;
}

/** The receiver's version has no journals. */
class JournalsUnknownError extends OffsiteError {
  constructor(version: number) {
    super(
      'UnsupportedVersion',
      `the receiver speaks version ${version} of the transfer protocol; a journal needs version ${JOURNAL_VERSION}`,
      'Upgrade the replica site. Until then the schedule brings no continuous data protection.',
    );
  }
}

/**
 * Sends a journal's records, and ends with the receiver's word that it has the window's. Progress counts the bytes
 * of all records that the receiver has, those of earlier windows too.
 * @throws as {@link sendCargo} @throws {OffsiteError} UnsupportedVersion of a receiver before version 2
 */
export const sendJournal = (options: SendJournalOptions): Promise<Sent> =>
  sendCargo(options, new JournalCargo(options));

class JournalCargo implements Cargo {
  readonly #options: SendJournalOptions;
  #source: JournalSource | null = null;
  #bytesSent = 0;

  constructor(options: SendJournalOptions) {
    this.#options = options;
  }

  get bytesSent(): number {
    return this.#bytesSent;
  }

  async converse(
    connection: FrameConnection,
    welcome: Welcome,
    progress: SenderProgress,
  ): Promise<ContentWord> {
    if (welcome.version < JOURNAL_VERSION) throw new JournalsUnknownError(welcome.version);
    if (this.#source === null) {
      progress.note('opens the journal');
      this.#source = await this.#options.openSource();
    }
    const source = this.#source;
    connection.send(encodeJournal(source.identity));
    progress.note('waits while the receiver opens its journal');
    const { throttle, nowMs = Date.now } = this.#options;
    const onSent = (bytes: number): void => {
      this.#bytesSent += bytes;
    };
    return new OutgoingJournal({ connection, source, throttle, progress, onSent, nowMs }).run();
  }

  async close(): Promise<void> {
    await this.#source?.close();
  }
}
