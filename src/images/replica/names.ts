/** The names of one layer's files. All lie in the disk's directory, `<replica root>/<host>/<disk>/`. */
import { basename, dirname, join } from 'node:path';
import { ReplicaFileError } from './errors.ts';

/** `<host snapshot UUID>.<16 hexadecimal digits>.qcow2`, as the catalog gives it. */
const FINAL_NAME = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{16}(\.increment)?\.qcow2$/;

/** The paths of one layer's files. */
export interface LayerPaths {
  readonly directory: string;
  readonly final: string;
  readonly partial: string;
  readonly map: string;
  readonly progress: string;
  readonly digests: string;
}

/**
 * Under this name the increment of a stand-alone layer is received, until the layer is sealed under its own.
 * No file ever has it without a suffix.
 */
export const incrementName = (finalName: string): string =>
  finalName.replace(/(\.increment)?\.qcow2$/, '.increment.qcow2');

/** @throws {ReplicaFileError} unless `finalName` is the name of a sealed layer: no path, no suffix */
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

/** One file of a layer, by its name. */
export interface LayerFileName {
  /** The layer's own name, also of its increment. */
  readonly finalName: string;
  readonly isIncrement: boolean;
  readonly part: 'image' | 'partial' | 'map' | 'progress' | 'digests' | 'journal';
}

const FILE_NAME =
  /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{16})(\.increment)?\.qcow2(?:\.(partial|map|progress|digests))?$/;

/** @returns null for a name that no layer's file has */
export function parseLayerFileName(name: string): LayerFileName | null {
  const match = FILE_NAME.exec(name);
  if (match === null) return null;
  const isIncrement = match[2] !== undefined;
  const part = (match[3] ?? 'image') as LayerFileName['part'];
  return isIncrement && part === 'image' ? null : { finalName: `${match[1]}.qcow2`, isIncrement, part };
}

/** Every path that a layer may have files at, those of its increment included. */
export function layerFilesOf(finalPath: string): readonly string[] {
  const { final, partial, map, progress, digests } = layerPaths(dirname(finalPath), basename(finalPath));
  const increment = layerPaths(dirname(finalPath), incrementName(basename(finalPath)));
  const ofIncrement = [increment.partial, increment.map, increment.progress, increment.digests];
  return [final, partial, map, progress, digests, ...ofIncrement];
}
