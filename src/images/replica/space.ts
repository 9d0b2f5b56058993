/** Room for what is still to be written: asked for before the first byte, watched until the last. */
import { assertRoom } from './durable-files.ts';

/** Room that one file may still take. */
export interface SpaceClaim {
  /** So much is still to be written; what the claim had beyond is there for others. */
  keep(restBytes: number): void;
  /** Called at each flush. @throws {DiskFullError} when others have taken what was to stay free */
  assertStillFree(): Promise<void>;
  /** Gives the rest of the claim back. */
  release(): void;
}

/** Decides who may write how much; the sites bring one that knows a reserve, a quota and all other claims. */
export interface SpaceKeeper {
  /**
   * @param path the file that is to grow; a later claim for it takes the place of an earlier one
   * @throws {DiskFullError} when the file system has not so much room @throws {OffsiteError} QuotaExceeded
   */
  claim(path: string, neededBytes: number): Promise<SpaceClaim>;
}

/** Looks at the file system once, and knows of no other writer. */
export const FREE_SPACE_ONLY: SpaceKeeper = {
  async claim(path, neededBytes) {
    await assertRoom(path, neededBytes);
    return NO_CLAIM;
  },
};

const NO_CLAIM: SpaceClaim = { keep() {}, async assertStillFree() {}, release() {} };
