/** What can be wrong with a CDP journal. docs/errors.md lists the codes. */
import { OffsiteError } from '../../domain/errors.ts';

/** A file that is no segment of this journal, or one whose head contradicts the others. */
export class JournalInvalidError extends OffsiteError {
  constructor(path: string, fault: string) {
    super(
      'JournalInvalid',
      `${path}: ${fault}`,
      'Take the journal from a backup, or end its epoch by a new base.',
    );
  }
}

/** Where a journal is whole, up to and without `index`. */
export interface JournalPlace {
  readonly segment: number;
  /** Bytes from the segment's start. */
  readonly hostOffset: number;
  /** The number of the record that comes here. */
  readonly index: number;
  /** Sequence and time of the newest record before; of the epoch's start when there is none. */
  readonly sequence: number;
  readonly timeUs: number;
}

/** Records that were durable are damaged; what comes after them cannot be used. */
export class JournalDamagedError extends OffsiteError {
  /** The end of what is whole. */
  readonly from: JournalPlace;
  /** Where records can be read again; null when the damage goes to the end. */
  readonly to: JournalPlace | null;

  constructor(path: string, from: JournalPlace, to: JournalPlace | null) {
    const start = `record ${from.index} (after sequence ${from.sequence}, ${isoOf(from.timeUs)})`;
    const end = to === null ? 'its end' : `record ${to.index} (sequence ${to.sequence}, ${isoOf(to.timeUs)})`;
    super(
      'JournalDamaged',
      `${path}: the journal is damaged from ${start} to ${end}`,
      'What lies before can still be restored. Take a new base: the next epoch does not need this journal.',
    );
    this.from = from;
    this.to = to;
  }
}

/** The journal could not be written; its epoch ends here. */
export class JournalWriteError extends OffsiteError {
  constructor(path: string, cause: unknown) {
    const what = cause instanceof Error ? cause.message : String(cause);
    super(
      'JournalWrite',
      `${path}: the journal cannot be written: ${what}`,
      'A new epoch begins with a new base.',
      {
        cause,
      },
    );
  }
}

const isoOf = (timeUs: number): string => new Date(Math.floor(timeUs / 1000)).toISOString();
