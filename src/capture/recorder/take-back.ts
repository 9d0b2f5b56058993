/** Takes back what an earlier recorder, or a take-over that failed, left in QEMU and beside the images. */
import { open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { effect } from '../../lib/fault-points.ts';
import type { QmpMonitor } from '../qmp/monitor.ts';
import {
  type Intent,
  type OverlayMark,
  readIntent,
  removeIfThere,
  removeIntent,
  syncFolder,
  writeIntent,
} from './intent-file.ts';
import { filesInUse, removeLeftovers, type TakeOverPlan } from './take-over.ts';

/**
 * The guest notices nothing: mirrors end, and what no disk stands on is removed.
 * @param directory where the intent lies
 * @returns overlays that nobody uses and that were written to: they stay, for the operator to look at
 */
export async function takeBack(monitor: QmpMonitor, directory: string): Promise<readonly string[]> {
  await removeLeftovers(monitor);
  const intent = await readIntent(directory);
  if (intent === null) return [];
  const used = await filesInUse(monitor);
  const kept: string[] = [];
  for (const { overlayPath, mark } of intent.disks) {
    if (used.has(overlayPath)) continue;
    if (await isUntouched(overlayPath, mark)) await removeIfThere(overlayPath, 'recorder.overlay.unlink');
    else kept.push(overlayPath);
  }
  await removeIntent(directory);
  return kept;
}

/** Before its mark was noted no guest had it. */
async function isUntouched(path: string, mark: OverlayMark | null): Promise<boolean> {
  if (mark === null) return true;
  const now = await markOf(path);
  return now === null || (now.sizeBytes === mark.sizeBytes && now.mtimeMs === mark.mtimeMs);
}

async function markOf(path: string): Promise<OverlayMark | null> {
  try {
    const { size, mtimeMs } = await stat(path);
    return { sizeBytes: size, mtimeMs };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Written before anything is made; the overlays' names are known from then on. */
export async function noteIntent(directory: string, { epoch, disks }: TakeOverPlan): Promise<void> {
  const planned = disks.map(({ disk, path, overlayPath }) => ({ disk, path, overlayPath, mark: null }));
  await writeIntent(directory, { epoch, disks: planned });
}

/** Makes the new overlays durable, and notes what they look like before the guest has them. */
export async function sealIntent(directory: string, { epoch, disks }: TakeOverPlan): Promise<void> {
  const marked: Intent['disks'][number][] = [];
  for (const { disk, path, overlayPath } of disks) {
    await syncOverlay(overlayPath);
    marked.push({ disk, path, overlayPath, mark: await markOf(overlayPath) });
  }
  await writeIntent(directory, { epoch, disks: marked });
}

async function syncOverlay(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await effect('recorder.overlay.fsync', () => file.sync());
  } finally {
    await file.close();
  }
  await syncFolder(dirname(path), 'recorder.overlay.syncDirectory');
}
