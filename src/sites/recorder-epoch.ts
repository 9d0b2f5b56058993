/** One epoch of a recorder, from the take-over to its end, with what the catalog knows of it. */
import { randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GuestAgent } from '../capture/agent/guest-agent.ts';
import type { QmpMonitor } from '../capture/qmp/monitor.ts';
import type { Guard } from '../capture/recorder/guard.ts';
import { findGuestDisks, type GuestDisk } from '../capture/recorder/guest-disks.ts';
import type { Tick } from '../capture/recorder/host-clock.ts';
import { removeIntent } from '../capture/recorder/intent-file.ts';
import { Recording } from '../capture/recorder/recording.ts';
import { planTakeOver } from '../capture/recorder/take-over.ts';
import { inspectDisk } from './inspect-disk.ts';
import { createEpochCatalog, type EpochCatalog } from './recorder-catalog.ts';
import { dropJournals, type EpochJournals, openJournals } from './recorder-journals.ts';
import type { RecorderSettings } from './recorder-settings.ts';

export interface RunningEpoch {
  readonly epoch: string;
  readonly disks: readonly GuestDisk[];
  readonly recording: Recording;
  readonly unansweredMs: () => number;
  /** Sets a named checkpoint, frozen where there is an agent. @returns once the catalog knows it */
  mark(name: string): Promise<Tick>;
  /** Ends it: mirrors, exports, journals, and the epoch's row. */
  close(reason: string): Promise<void>;
}

export interface EpochParts {
  readonly settings: RecorderSettings;
  readonly monitor: QmpMonitor;
  readonly guard: Guard;
}

/** @throws when the disks cannot be taken over: the guest runs on, and nothing stays */
export async function beginEpoch({ settings, monitor, guard }: EpochParts): Promise<RunningEpoch> {
  const { host, node, imageRoots, directory, segmentBytes, mapping, limits, log } = settings;
  const disks = findGuestDisks(await monitor.execute('query-block'), mapping);
  // What cannot be registered is refused before the guest is touched.
  for (const disk of disks) await inspectDisk(disk, node, imageRoots, { mayBeInUse: true });
  const epoch = randomUUID();
  const epochDirectory = join(directory, epoch);
  let recording: Recording | null = null;
  const onFailure = (error: unknown) =>
    recording?.end(error instanceof Error ? error.message : String(error));
  const common = { host, epoch, directory: epochDirectory, segmentBytes, imageRoots, disks, onFailure };
  const journals = await openJournals(common);
  const catalog = createEpochCatalog(settings, epoch, onFailure);
  try {
    const plan = planTakeOver(epoch, disks, join(directory, 'nbd.sock'), ({ disk, path }) =>
      join(dirname(path), `${host}.${disk}.${epoch}.qcow2`),
    );
    const onCheckpoint = (checkpoint: Tick) => catalog.note(checkpoint);
    const { clock } = journals;
    const takenAtMs = Date.now();
    const parts = { monitor, guard, plan, directory, clock, disks: journals.disks, onCheckpoint, limits };
    recording = await Recording.begin(parts);
    const registering = register({ settings, epoch, disks, journals, takenAtMs, catalog });
    registering.catch(error => recording?.end(error instanceof Error ? error.message : String(error)));
    return running({ settings, epoch, disks, journals, recording, catalog, registering });
  } catch (error) {
    await catalog.close();
    await dropJournals(epochDirectory).catch(failure => log.warn({ error: failure }, 'the journals stay'));
    throw error;
  }
}

/** Registers base and epoch, however long the catalog is away; then nothing is left to take back. */
async function register(parts: {
  settings: RecorderSettings;
  epoch: string;
  disks: readonly GuestDisk[];
  journals: EpochJournals;
  takenAtMs: number;
  catalog: EpochCatalog;
}): Promise<void> {
  const { settings, epoch, disks, journals, takenAtMs, catalog } = parts;
  const { host, site, node, imageRoots, directory } = settings;
  const registered = await Promise.all(
    disks.map(async disk => {
      const frozen = (await inspectDisk(disk, node, imageRoots, { mayBeInUse: true })).disk;
      const { path, device, inode, proof, chain, virtualSizeBytes } = frozen;
      const journal = journals.directoryOf(disk.disk);
      const { dev, ino } = await stat(journal, { bigint: true });
      return {
        disk: disk.disk,
        node,
        virtualSizeBytes,
        base: { path, device, inode, ...(proof !== undefined && { proof }) },
        chain,
        journal: { path: journal, device: String(dev), inode: String(ino) },
      };
    }),
  );
  const baseUuid = randomUUID();
  await catalog.begin({ host, uuid: epoch, baseUuid, originSite: site, takenAtMs, disks: registered });
  await removeIntent(directory);
}

function running(parts: {
  settings: RecorderSettings;
  epoch: string;
  disks: readonly GuestDisk[];
  journals: EpochJournals;
  recording: Recording;
  catalog: EpochCatalog;
  registering: Promise<void>;
}): RunningEpoch {
  const { settings, epoch, disks, journals, recording, catalog, registering } = parts;
  return {
    epoch,
    disks,
    recording,
    unansweredMs: () => Math.max(...journals.disks.map(disk => disk.unansweredMs)),
    async mark(name) {
      await registering;
      const { agentSocketPath } = settings;
      const agent = agentSocketPath === null ? null : await GuestAgent.connect(agentSocketPath);
      try {
        const tick = await recording.mark(name, agent);
        await catalog.mark(name, tick);
        return tick;
      } finally {
        agent?.close();
      }
    },
    async close(reason) {
      await recording.close();
      catalog.giveUpBegin();
      const isRegistered = await registering.then(
        () => true,
        () => false,
      );
      if (isRegistered) await catalog.end(reason, recording.newest);
      await catalog.close();
      if (!isRegistered) await dropJournals(join(settings.directory, epoch));
    },
  };
}
