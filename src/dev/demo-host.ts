/** The demo host: two disks whose snapshots are made here, on a machine without QEMU's tools. */
import { access, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { openChain } from '../images/chain.ts';
import { writeImage } from '../images/overlay.ts';
import { dataDiskFiles, systemDiskFiles } from './demo-host-files.ts';
import { planDemoLayer } from './demo-host-layer.ts';
import { buildFatVolume } from './fat/volume.ts';

const MIB = 1024 * 1024;
/** The file systems' own time. Were it the snapshot's, each snapshot would change every directory. */
const FILE_SYSTEM_MADE_AT = new Date('2026-01-01T00:00:00Z');

const DISKS = {
  vda: { sizeBytes: 128 * MIB, label: 'DEMO-SYSTEM', files: systemDiskFiles },
  vdb: { sizeBytes: 256 * MIB, label: 'DEMO-DATA', files: async (_: string, n: number) => dataDiskFiles(n) },
} as const;
export type DemoDisk = keyof typeof DISKS;
const ALL_DISKS = Object.keys(DISKS) as DemoDisk[];

export interface DemoSnapshotOptions {
  /** Where the images lie; made if need be. */
  readonly directory: string;
  /** From 1; 1 gives full images, each other an overlay of the one before. */
  readonly number: number;
  /** The folder whose files are put on vda. */
  readonly repositoryRoot: string;
  /** By default all. */
  readonly disks?: readonly DemoDisk[];
}

export interface DemoSnapshot {
  readonly number: number;
  /** A qcow2 file a disk: the snapshot's own layer, named `<disk>-<number of 4 digits>.qcow2`. */
  readonly disks: readonly { readonly disk: DemoDisk; readonly path: string }[];
}

/**
 * Makes the images of one snapshot of the demo host, and those beneath that are missing. An image that exists
 * is left as it is; a new one takes its name only when it is whole and durable.
 * @throws {DiskFullError}
 */
export async function createDemoSnapshot(options: DemoSnapshotOptions): Promise<DemoSnapshot> {
  const { directory, number, repositoryRoot, disks = ALL_DISKS } = options;
  await mkdir(directory, { recursive: true });
  const made: { disk: DemoDisk; path: string }[] = [];
  for (const disk of disks) {
    made.push({ disk, path: await ensureImage(disk, number, directory, repositoryRoot) });
  }
  return { number, disks: made };
}

async function ensureImage(
  disk: DemoDisk,
  number: number,
  directory: string,
  repositoryRoot: string,
): Promise<string> {
  const path = join(directory, `${disk}-${String(number).padStart(4, '0')}.qcow2`);
  if (await exists(path)) return path;
  const basePath = number === 1 ? null : await ensureImage(disk, number - 1, directory, repositoryRoot);
  const { sizeBytes, label, files } = DISKS[disk];
  const volume = buildFatVolume({
    files: await files(repositoryRoot, number),
    sizeBytes,
    label,
    at: FILE_SYSTEM_MADE_AT,
  });
  const base = basePath === null ? null : await openChain(basePath, { imageRoots: [directory] });
  try {
    const { map, readStream } = await planDemoLayer(volume, base);
    const backing =
      basePath === null ? {} : { backing: { name: basename(basePath), format: 'qcow2' as const } };
    await writeImage({ path, format: 'qcow2', map, readStream, ...backing });
  } finally {
    await base?.close();
  }
  return path;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
