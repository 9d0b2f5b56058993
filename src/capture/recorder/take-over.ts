/**
 * The take-over of a machine's disks: from some instant on, all its writes go to the recorder, too. What is slow or can
 * fail is done while the guest runs; then one message stops the guest, switches, and lets it go on.
 */
import type { JsonObject } from '../qmp/json-socket.ts';
import type { MonitorCommand, QmpMonitor } from '../qmp/monitor.ts';
import { TakeOverFailedError } from './errors.ts';
import type { GuestDisk } from './guest-disks.ts';
import { blockdevCreate, endJobs, ignoringRefusal } from './jobs.ts';
import { type DiskNames, diskNames, PREFIX } from './names.ts';

export interface DiskPlan extends GuestDisk {
  readonly names: DiskNames;
  /** The file that the guest writes to after the take-over; it must not exist. */
  readonly overlayPath: string;
}

export interface TakeOverPlan {
  readonly epoch: string;
  readonly disks: readonly DiskPlan[];
  readonly nbdSocketPath: string;
}

export function planTakeOver(
  epoch: string,
  disks: readonly GuestDisk[],
  nbdSocketPath: string,
  overlayPathOf: (disk: GuestDisk) => string,
): TakeOverPlan {
  const planned = disks.map((disk, index) => ({
    ...disk,
    names: diskNames(epoch, index),
    overlayPath: overlayPathOf(disk),
  }));
  return { epoch, disks: planned, nbdSocketPath };
}

/** Makes QEMU connect to the exports, and make the overlays. QEMU makes them itself, so that it may write to them. */
export async function prepareTakeOver(
  monitor: QmpMonitor,
  { disks, nbdSocketPath }: TakeOverPlan,
): Promise<void> {
  for (const { disk, path, names, overlayPath, virtualSizeBytes } of disks) {
    await monitor.execute('blockdev-add', {
      driver: 'nbd',
      'node-name': names.target,
      server: { type: 'unix', path: nbdSocketPath },
      export: disk,
    });
    await blockdevCreate(monitor, names.create, { driver: 'file', filename: overlayPath, size: 0 });
    await monitor.execute('blockdev-add', {
      driver: 'file',
      'node-name': names.overlayFile,
      filename: overlayPath,
    });
    await blockdevCreate(monitor, names.create, {
      driver: 'qcow2',
      file: names.overlayFile,
      size: virtualSizeBytes,
      'backing-file': path,
      'backing-fmt': 'qcow2',
    });
    // Without its backing layer: that one is the guest's until the switch.
    const overlay = { driver: 'qcow2', 'node-name': names.overlay, file: names.overlayFile, backing: null };
    await monitor.execute('blockdev-add', overlay);
  }
}

/** What one message has. @param isRunning whether the guest runs, and must run afterwards */
export function switchCommands({ disks }: TakeOverPlan, isRunning: boolean): readonly MonitorCommand[] {
  const snapshots = disks.map(({ node, names }) => ({
    type: 'blockdev-snapshot',
    data: { node, overlay: names.overlay },
  }));
  const mirrors = disks.map(({ names }) => ({
    command: 'blockdev-mirror',
    args: {
      'job-id': names.job,
      device: names.overlay,
      target: names.target,
      'filter-node-name': names.filter,
      sync: 'none',
      'copy-mode': 'write-blocking',
      'on-target-error': 'report',
    } satisfies JsonObject,
  }));
  const commands = [{ command: 'transaction', args: { actions: snapshots } }, ...mirrors];
  return isRunning ? [{ command: 'stop' }, ...commands, { command: 'cont' }] : commands;
}

/** A guest that its operator paused stays paused. */
export async function isGuestRunning(monitor: QmpMonitor): Promise<boolean> {
  const { running } = (await monitor.execute('query-status')) as { running?: unknown };
  return running === true;
}

/**
 * Switches all disks at one instant.
 * @returns once the guest runs again and every write goes to the recorder
 * @throws {TakeOverFailedError} the guest runs; overlays may be in use, mirrors may run: {@link removeLeftovers}
 */
export async function switchOver(monitor: QmpMonitor, plan: TakeOverPlan, isRunning: boolean): Promise<void> {
  const commands = switchCommands(plan, isRunning);
  const outcomes = await monitor.executeAll(commands);
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === 'fulfilled') continue;
    const words = outcome.reason instanceof Error ? outcome.reason.message : String(outcome.reason);
    throw new TakeOverFailedError(`${commands[index]?.command}: ${words}`, { cause: outcome.reason });
  }
}

interface NodeInfo {
  readonly 'node-name'?: string;
  readonly file?: string;
}

/**
 * Takes back what a recorder left in QEMU: mirrors end, and nodes that the guest's disks do not stand on are removed.
 * The guest notices nothing.
 */
export async function removeLeftovers(monitor: QmpMonitor): Promise<void> {
  await endJobs(monitor, id => id.startsWith(PREFIX));
  // A node goes only after the one above it; those that a disk stands on are refused, and stay.
  for (;;) {
    const nodes = (await monitor.execute('query-named-block-nodes', { flat: true })) as readonly NodeInfo[];
    let removed = 0;
    for (const { 'node-name': node } of nodes) {
      if (!node?.startsWith(PREFIX)) continue;
      if (await ignoringRefusal(monitor.execute('blockdev-del', { 'node-name': node }))) removed += 1;
    }
    if (removed === 0) return;
  }
}

/** The files that QEMU has open, as it names them. */
export async function filesInUse(monitor: QmpMonitor): Promise<ReadonlySet<string>> {
  const nodes = (await monitor.execute('query-named-block-nodes', { flat: true })) as readonly NodeInfo[];
  return new Set(nodes.map(({ file }) => file).filter(file => file !== undefined));
}
