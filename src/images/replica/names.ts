/** The names of one layer's files. All lie in the disk's directory, `<replica root>/<host>/<disk>/`. */
import { join } from 'node:path';
import { UUID } from '../../contract/names.ts';
import { createXxh128, toHex } from '../../lib/digest.ts';
import type { BackingFile } from '../qcow2/layout.ts';
import { ReplicaFileError } from './errors.ts';

const LAYOUT_VERSION = 1;
const LAYOUT_DIGEST_BYTES = 8;
const FINAL_NAME = /^([0-9a-f-]{36})\.([0-9a-f]{16})\.qcow2$/;

/** What a layer's final name is made of. */
export interface LayerName {
  /** The UUID of the target's host snapshot. */
  readonly hostSnapshot: string;
  /** xxh3-128 of the extent map (`mapDigest` of the domain), 16 bytes. */
  readonly mapDigest: Uint8Array;
  /** The sealed layer beneath, in the same directory; null for a stand-alone image. */
  readonly backing: BackingFile | null;
}

/** The paths of one layer's files. */
export interface LayerPaths {
  readonly directory: string;
  readonly final: string;
  readonly partial: string;
  readonly map: string;
  readonly progress: string;
  readonly digests: string;
}

/** The digest of a layout, 16 hexadecimal digits: the map's digest and the base, in one number. */
export function layoutDigest({ mapDigest, backing }: Omit<LayerName, 'hostSnapshot'>): string {
  const base = backing === null ? '' : `${backing.format}:${backing.name}`;
  const hasher = createXxh128();
  hasher.update(Buffer.from(`offsite layout ${LAYOUT_VERSION}\n`));
  hasher.update(mapDigest);
  hasher.update(Buffer.from(base));
  return toHex(hasher.digest().subarray(0, LAYOUT_DIGEST_BYTES));
}

/** `<host snapshot>.<layout digest>.qcow2`: one layout, one name, one inode. */
export function replicaFileName(layer: LayerName): string {
  if (!UUID.test(layer.hostSnapshot)) {
    throw new ReplicaFileError(layer.hostSnapshot, 'a host snapshot is named by a UUID');
  }
  return `${layer.hostSnapshot}.${layoutDigest(layer)}.qcow2`;
}

/** @throws {ReplicaFileError} unless `finalName` has the shape that {@link replicaFileName} gives */
export function layerPaths(directory: string, finalName: string): LayerPaths {
  if (!FINAL_NAME.test(finalName)) {
    throw new ReplicaFileError(finalName, 'not the name of a replica file');
  }
  const final = join(directory, finalName);
  return {
    directory,
    final,
    partial: `${final}.partial`,
    map: `${final}.map`,
    progress: `${final}.progress`,
    digests: `${final}.digests`,
  };
}

/** @throws {ReplicaFileError} when the name was made for another map or base */
export function assertNameFits(finalName: string, layer: Omit<LayerName, 'hostSnapshot'>): void {
  const named = FINAL_NAME.exec(finalName)?.[2];
  const digest = layoutDigest(layer);
  if (named !== digest) {
    throw new ReplicaFileError(finalName, `its layout is ${digest}; another layout never opens this file`);
  }
}
