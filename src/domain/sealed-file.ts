/** What a replica's file was when it was sealed, and what speaks against it being the same now. */

/** What the catalog keeps of a sealed file. Times are nanoseconds, numbers of the file system decimal text. */
export interface SealedFile {
  readonly device: string;
  readonly inode: string;
  readonly sizeBytes: number;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
  /** The file's own content digest, as its digest file has it: 32 hexadecimal digits. */
  readonly contentDigest: string;
}

/** A replica's file, and where it is. */
export interface NodeFile {
  /** The node that holds the file. */
  readonly node: string;
  /** The final path. */
  readonly path: string;
}

/** What speaks against a file, by what was found once. */
export interface LayerDamage {
  /** `doubt`: its marks are not those that were recorded, and its content was not read; `content`: it was read. */
  readonly kind: 'doubt' | 'content';
  /** In words. */
  readonly reason: string;
  readonly foundAtMs: number;
}

/** One file of a replica's chain. */
export interface ReplicaLayer extends NodeFile {
  /** Null when nothing was recorded. */
  readonly sealed: SealedFile | null;
  readonly damage: LayerDamage | null;
}

/** What a replica of one disk consists of, the top layer first. */
export interface ReplicaChain {
  readonly disk: string;
  readonly layers: readonly ReplicaLayer[];
}

/**
 * Compares a file with what it was when it was sealed.
 * The device is not compared: its number may change with a restart, and the other marks tell a foreign file.
 * @returns the first doubt in words, null for none
 */
export function sealedFileDoubt(sealed: SealedFile, now: SealedFile): string | null {
  if (now.sizeBytes !== sealed.sizeBytes) {
    return `its file has ${now.sizeBytes} bytes instead of ${sealed.sizeBytes}`;
  }
  if (now.contentDigest !== sealed.contentDigest) return 'its digest file tells of another content';
  if (now.inode !== sealed.inode) return 'another file took its place';
  if (now.mtimeNs !== sealed.mtimeNs) return 'its file was written to since it was sealed';
  if (now.ctimeNs !== sealed.ctimeNs) {
    return 'its file was written to since it was sealed, or its owner, mode or links were changed';
  }
  return null;
}
