/** What the recorder is about to make in QEMU, written down before: who comes next finds it. */
import { mkdir, open, readFile, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { effect, type FaultPoint } from '../../lib/fault-points.ts';

/** What a file looks like while nobody writes to it. */
export interface OverlayMark {
  readonly sizeBytes: number;
  readonly mtimeMs: number;
}

export interface Intent {
  readonly epoch: string;
  readonly disks: readonly {
    readonly disk: string;
    /** The file that the guest wrote to before. */
    readonly path: string;
    readonly overlayPath: string;
    /** As it was right before the switch; null before that. */
    readonly mark: OverlayMark | null;
  }[];
}

const NAME = 'take-over.json';

/** Durable when it resolves. */
export async function writeIntent(directory: string, intent: Intent): Promise<void> {
  const path = join(directory, NAME);
  const file = await effect('recorder.intent.create', () => open(`${path}.new`, 'w', 0o600));
  try {
    await effect('recorder.intent.write', () => file.writeFile(JSON.stringify(intent)));
    await effect('recorder.intent.fsync', () => file.sync());
  } finally {
    await file.close();
  }
  await effect('recorder.intent.rename', () => rename(`${path}.new`, path));
  await syncFolder(directory, 'recorder.intent.syncDirectory');
}

/** @returns null when there is none */
export async function readIntent(directory: string): Promise<Intent | null> {
  try {
    return JSON.parse(await readFile(join(directory, NAME), 'utf8')) as Intent;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

export async function removeIntent(directory: string): Promise<void> {
  await removeIfThere(join(directory, NAME), 'recorder.intent.unlink');
}

export async function syncFolder(path: string, point: FaultPoint): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await effect(point, () => folder.sync());
  } finally {
    await folder.close();
  }
}

export async function removeIfThere(path: string, point: FaultPoint): Promise<void> {
  try {
    await effect(point, () => unlink(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** The recorder's own folder of a host. */
export async function makeFolder(path: string): Promise<void> {
  await effect('recorder.folder.mkdir', () => mkdir(path, { recursive: true, mode: 0o700 }));
}
