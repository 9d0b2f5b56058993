/** What the recorder needs of journals and images; `sites/recorder` brings it. */

export interface RecordedWrite {
  readonly type: 'write' | 'zero' | 'discard' | 'checkpoint';
  readonly sequence: number;
  readonly timeUs: number;
  readonly offset: number;
  readonly length: number;
  readonly payload: Buffer;
}

/** One disk's journal. After its first error every call fails with it. */
export interface DiskJournal {
  /** Resolves when the record survives the death of this process. Records keep the order of the calls. */
  append(record: RecordedWrite): Promise<void>;
  /** Resolves when all that was appended before survives a power cut. */
  sync(): Promise<unknown>;
  close(): Promise<void>;
}

/** What the disk reads as: its base, and what was journaled above it. */
export interface DiskState {
  /** Fills `target`; sees every record whose append resolved before. */
  read(target: Buffer, offset: number): Promise<void>;
  close(): Promise<void>;
}
