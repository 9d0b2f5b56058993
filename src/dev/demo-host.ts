/** The demo host: two disks whose snapshots are made here, on a machine without QEMU's tools. */
import { access, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { OffsiteError } from '../domain/errors.ts';
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

export interface DemoSnapshotOptions {
  /** Where the images lie; made if need be. */
  readonly directory: string;
  /** From 1; 1 gives full images, each other an overlay of the one before, which must be there. */
  readonly number: number;
  /** The folder whose files are put on vda. */
  readonly repositoryRoot: string;
  readonly disks: readonly DemoDisk[];
}

export interface DemoDiskImage {
  readonly disk: DemoDisk;
  /** The snapshot's layer, a qcow2 file. */
  readonly path: string;
  readonly virtualSizeBytes: number;
}

/** A demo snapshot was asked for whose predecessor is not there. */
class DemoSnapshotMissingError extends OffsiteError {
  constructor(path: string) {
    super('DemoSnapshotMissing', `${path} is not there`, 'Remove the demo folder and start again.');
  }
}

/**
 * Makes the images of one snapshot of the demo host. An image that exists is left as it is; a new one takes
 * its name only when it is whole and durable.
 * @throws {DemoSnapshotMissingError}
 */
export async function createDemoSnapshot(options: DemoSnapshotOptions): Promise<DemoDiskImage[]> {
  await mkdir(options.directory, { recursive: true });
  const images: DemoDiskImage[] = [];
  for (const disk of options.disks) {
    const path = join(options.directory, imageName(disk, options.number));
    if (!(await exists(path))) await createImage(disk, path, options);
    images.push({ disk, path, virtualSizeBytes: DISKS[disk].sizeBytes });
  }
  return images;
}

/** @returns the number of the newest snapshot that all these disks have, 0 before the first */
export async function newestDemoSnapshot(directory: string, disks: readonly DemoDisk[]): Promise<number> {
  for (let number = 1; ; number += 1) {
    const present = await Promise.all(disks.map(disk => exists(join(directory, imageName(disk, number)))));
    if (!present.every(Boolean)) return number - 1;
  }
}

async function createImage(disk: DemoDisk, path: string, options: DemoSnapshotOptions): Promise<void> {
  const { directory, number, repositoryRoot } = options;
  const { sizeBytes, label, files } = DISKS[disk];
  const basePath = number === 1 ? null : join(directory, imageName(disk, number - 1));
  if (basePath !== null && !(await exists(basePath))) throw new DemoSnapshotMissingError(basePath);
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
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

const imageName = (disk: DemoDisk, number: number): string =>
  `${disk}-${String(number).padStart(4, '0')}.qcow2`;
