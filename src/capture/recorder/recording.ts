/** One epoch: from the take-over until something ends it. */
import type { GuestAgent } from '../agent/guest-agent.ts';
import { NbdServer } from '../nbd/server.ts';
import type { QmpMonitor } from '../qmp/monitor.ts';
import { Checkpoints } from './checkpoints.ts';
import type { Guard } from './guard.ts';
import type { HostClock, Tick } from './host-clock.ts';
import { removeIfThere } from './intent-file.ts';
import type { JournaledDisk } from './journaled-disk.ts';
import { noteIntent, sealIntent, takeBack } from './take-back.ts';
import { isGuestRunning, prepareTakeOver, switchOver, type TakeOverPlan } from './take-over.ts';
import { endingOf } from './watch-epoch.ts';

export interface RecordingParts {
  readonly monitor: QmpMonitor;
  readonly guard: Guard;
  readonly plan: TakeOverPlan;
  /** Where the intent lies. */
  readonly directory: string;
  readonly clock: HostClock;
  /** In the plan's order; closed by the recording. */
  readonly disks: readonly JournaledDisk[];
  readonly onCheckpoint: (checkpoint: Tick) => void;
  readonly limits: { readonly ageMs: number; readonly bytes: number };
}

/** The guest stands still for no longer, or its recorder is ended; frozen filesystems have more time. */
const STOP_MS = 2_000;
const FREEZE_MS = 10_000;
const LIMITS_MS = 1_000;

export class Recording {
  readonly #parts: RecordingParts;
  readonly #ended = Promise.withResolvers<string>();
  readonly #checkpoints: Checkpoints;
  readonly #stopListening: () => void;
  readonly #startedAtMs = performance.now();
  #server: NbdServer | null = null;
  #timer: NodeJS.Timeout | null = null;

  private constructor(parts: RecordingParts) {
    this.#parts = parts;
    const { monitor, plan, clock, disks, onCheckpoint } = parts;
    const onFailure = (error: unknown) => this.end(error instanceof Error ? error.message : String(error));
    this.#checkpoints = new Checkpoints({ clock, disks, onCheckpoint, onFailure });
    this.#stopListening = monitor.onEvent(event => {
      const ending = endingOf(event, plan);
      if (ending !== null) this.end(ending);
    });
    monitor.closed.then(why =>
      this.end(`the connection to the monitor ended${why === null ? '' : `: ${why}`}`),
    );
  }

  /**
   * Takes the disks over.
   * @throws when it did not succeed: the guest runs on, and what was made is taken back as far as QEMU answers
   */
  static async begin(parts: RecordingParts): Promise<Recording> {
    const recording = new Recording(parts);
    try {
      await recording.#takeOver();
      recording.#checkpoints.start();
      recording.#timer = setInterval(() => recording.#lookAtLimits(), LIMITS_MS);
      return recording;
    } catch (error) {
      await recording.#letGo();
      throw error;
    }
  }

  /** Resolves when the epoch must end, with the reason. */
  get ended(): Promise<string> {
    return this.#ended.promise;
  }

  /** The newest checkpoint that is durable in every journal. */
  get newest(): Tick | null {
    return this.#checkpoints.newest;
  }

  /** Asks for the end; the first reason stands. */
  end(reason: string): void {
    this.#ended.resolve(reason);
  }

  /** Sets a named checkpoint; with an agent the guest's filesystems are frozen at that moment. */
  async mark(name: string, agent: GuestAgent | null): Promise<Tick> {
    if (agent === null) return this.#checkpoints.set(name);
    const holds = { deadlineMs: FREEZE_MS, resume: false, thaw: true };
    return this.#parts.guard.during(holds, async () => {
      try {
        await agent.freeze();
        return await this.#checkpoints.set(name);
      } finally {
        await agent.thaw();
      }
    });
  }

  /** Ends mirrors and exports. The guest runs on; what was recorded is durable up to {@link newest}. */
  async close(): Promise<void> {
    await this.#letGo();
  }

  async #takeOver(): Promise<void> {
    const { monitor, guard, plan, directory, disks } = this.#parts;
    await removeIfThere(plan.nbdSocketPath, 'recorder.socket.unlink');
    const socketPath = plan.nbdSocketPath;
    this.#server = await NbdServer.listen({
      socketPath,
      exports: disks,
      onClient: ({ export: name, ended }) => {
        if (ended !== null) this.end(`the connection of disk ${name} ended: ${ended}`);
      },
    });
    await noteIntent(directory, plan);
    await prepareTakeOver(monitor, plan);
    await sealIntent(directory, plan);
    const isRunning = await isGuestRunning(monitor);
    const holds = { deadlineMs: STOP_MS, resume: isRunning, thaw: false };
    await guard.during(holds, () => switchOver(monitor, plan, isRunning));
  }

  #lookAtLimits(): void {
    const { disks, limits } = this.#parts;
    const ageMs = performance.now() - this.#startedAtMs;
    const bytes = disks.reduce((sum, disk) => sum + disk.recordedBytes, 0);
    if (ageMs >= limits.ageMs) this.end(`rolled over after ${Math.round(ageMs / 1000)} s`);
    else if (bytes >= limits.bytes) this.end(`rolled over at ${bytes} bytes`);
  }

  async #letGo(): Promise<void> {
    const { monitor, directory, disks } = this.#parts;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#checkpoints.stop();
    this.#stopListening();
    this.end('it was ended');
    // First the mirrors: then nothing more comes. A QEMU that does not answer notices the end of its connections.
    await takeBack(monitor, directory).catch(() => {});
    await this.#checkpoints.setIfNews().catch(() => {});
    await this.#server?.close();
    await removeIfThere(this.#parts.plan.nbdSocketPath, 'recorder.socket.unlinkOwn');
    for (const disk of disks) await disk.close();
  }
}
