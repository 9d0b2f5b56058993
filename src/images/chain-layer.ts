/** What a layer of a backing chain is, whatever its format. */
import type { ExtentKind } from '../domain/extent-map.ts';
import type { FileIdentity, OpenImage } from './chain-file.ts';

/** One cluster that is stored compressed. */
export interface PackedCluster {
  readonly hostOffset: number;
  readonly packedBytes: number;
}

/**
 * A run of guest bytes of one kind. `hole` is unallocated in this layer.
 * Data is either plain (`hostOffset` of its first byte) or inside one packed cluster (`packedSkip` bytes in).
 */
export interface LayerRun {
  readonly kind: ExtentKind;
  readonly length: number;
  /** -1 unless the run is plain data. */
  readonly hostOffset: number;
  readonly packed: PackedCluster | null;
  readonly packedSkip: number;
}

export interface LayerInfo {
  /** The name by which the chain reaches the file: what is opened again to see whether it is still the same. */
  readonly path: string;
  readonly realPath: string;
  readonly format: 'qcow2' | 'raw';
  /** A multiple of 512. */
  readonly virtualSizeBytes: number;
  /** Null for raw, which has no clusters. */
  readonly clusterSizeBytes: number | null;
  /** The unit of allocation in bytes: the cluster, or the subcluster of extended L2; null for raw. */
  readonly granularity: number | null;
  readonly identity: FileIdentity;
  /** The file's own length when it was opened. */
  readonly fileSizeBytes: number;
}

/** An opened layer. Offsets are guest bytes below `virtualSizeBytes`. */
export interface Layer extends LayerInfo {
  readonly file: OpenImage;
  /** The longest run of one kind at `offset` that is found cheaply, at most `maxLength` bytes. */
  locate(offset: number, maxLength: number): Promise<LayerRun>;
  /** Fills `target` from the start of a data run. */
  readRun(run: LayerRun, target: Buffer): Promise<void>;
}

export const holeRun = (length: number): LayerRun => emptyRun('hole', length);
export const zeroRun = (length: number): LayerRun => emptyRun('zero', length);
export const plainRun = (hostOffset: number, length: number): LayerRun => ({
  kind: 'data',
  length,
  hostOffset,
  packed: null,
  packedSkip: 0,
});

function emptyRun(kind: 'hole' | 'zero', length: number): LayerRun {
  return { kind, length, hostOffset: -1, packed: null, packedSkip: 0 };
}

/** The part of a run that starts `skip` bytes in. */
export function partOfRun(run: LayerRun, skip: number, length: number): LayerRun {
  if (skip === 0 && length === run.length) return run;
  return {
    kind: run.kind,
    length,
    hostOffset: run.hostOffset < 0 ? -1 : run.hostOffset + skip,
    packed: run.packed,
    packedSkip: run.packed === null ? 0 : run.packedSkip + skip,
  };
}

/** One run over both if `next` continues `run`, else null. */
export function joinRuns(run: LayerRun, next: LayerRun): LayerRun | null {
  if (run.kind !== next.kind || run.packed !== null || next.packed !== null) return null;
  if (run.kind === 'data' && run.hostOffset + run.length !== next.hostOffset) return null;
  return { ...run, length: run.length + next.length };
}
