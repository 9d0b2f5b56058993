/** What the NBD server needs of a disk. Offsets and lengths are guest bytes, within the disk. */
export interface NbdExport {
  /** What clients ask for. */
  readonly name: string;
  readonly sizeBytes: number;
  /** @returns exactly `length` bytes */
  read(offset: number, length: number): Promise<Buffer>;
  /** Resolves when the write survives the death of this process; calls are ordered by their arrival. */
  write(offset: number, bytes: Buffer): Promise<void>;
  /** The range reads as zeros afterwards. */
  writeZeroes(offset: number, length: number): Promise<void>;
  /** The range's content no longer matters. */
  trim(offset: number, length: number): Promise<void>;
  /** Resolves when all that was answered before survives a power cut. */
  flush(): Promise<void>;
}
