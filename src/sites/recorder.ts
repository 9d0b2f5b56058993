/** The recorder of one host: epoch after epoch, until it is stopped. */
import { realpath } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { QmpMonitor } from '../capture/qmp/monitor.ts';
import { Guard } from '../capture/recorder/guard.ts';
import { makeFolder } from '../capture/recorder/intent-file.ts';
import { lockRecorder } from '../capture/recorder/recorder-lock.ts';
import { takeBack } from '../capture/recorder/take-back.ts';
import { createEpochRows } from '../catalog/source-epochs.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { createLog } from '../lib/log.ts';
import { openCatalog } from './open-catalog.ts';
import { type ControlServer, serveControl } from './recorder-control.ts';
import { beginEpoch, type RunningEpoch } from './recorder-epoch.ts';
import { endLeftEpochs } from './recorder-left.ts';
import {
  hostDirectory,
  type RecorderSettings,
  type RecordRequest,
  recorderSettings,
} from './recorder-settings.ts';

/** What happens to a recorder, as its command prints it. */
export type RecorderEvent =
  | { readonly event: 'recording'; readonly epoch: string; readonly disks: readonly string[] }
  | { readonly event: 'ended'; readonly epoch: string; readonly reason: string }
  | { readonly event: 'waiting'; readonly reason: string; readonly retryInMs: number };

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 60_000;
/** An epoch that lived so long was a success. */
const SOUND_MS = 60_000;

/**
 * Records a host until `signal` is aborted: then the epoch ends, and the guest runs on untouched.
 * @throws {OffsiteError} when the first take-over did not succeed; later ones are tried again for ever
 */
export async function recordHost(
  config: SiteConfig,
  request: RecordRequest,
  options: { readonly signal: AbortSignal; readonly onEvent: (event: RecorderEvent) => void },
): Promise<void> {
  const log = createLog(config.logLevel, { site: config.site, node: config.node, host: request.host });
  const db = await openCatalog(config, 'source');
  try {
    const wanted = hostDirectory(config, request.host);
    await makeFolder(wanted);
    const directory = await realpath(wanted);
    const lock = await lockRecorder(request.host, directory);
    try {
      const epochs = createEpochRows(db);
      await endLeftEpochs(epochs, request.host, log);
      await new Recorder(recorderSettings(config, request, { directory, epochs, log }), options).run();
    } finally {
      await lock.release();
    }
  } finally {
    await db.destroy();
  }
}

class Recorder {
  readonly #settings: RecorderSettings;
  readonly #signal: AbortSignal;
  readonly #tell: (event: RecorderEvent) => void;
  #running: RunningEpoch | null = null;
  #guard: Guard | null = null;

  constructor(
    settings: RecorderSettings,
    { signal, onEvent }: { readonly signal: AbortSignal; readonly onEvent: (event: RecorderEvent) => void },
  ) {
    this.#settings = settings;
    this.#signal = signal;
    this.#tell = onEvent;
  }

  async run(): Promise<void> {
    const control: ControlServer = await serveControl(this.#settings.directory, name => this.#mark(name));
    try {
      await this.#recordAll();
    } finally {
      await control.close();
      await this.#guard?.close();
    }
  }

  async #recordAll(): Promise<void> {
    let waitMs = FIRST_WAIT_MS;
    for (let isFirst = true; !this.#signal.aborted; isFirst = false) {
      const beganAtMs = performance.now();
      const reason = await this.#recordOne().catch(error => {
        if (isFirst) throw error;
        this.#settings.log.error({ error }, 'the disks could not be taken over');
        return error instanceof Error ? error.message : String(error);
      });
      if (this.#signal.aborted) return;
      if (performance.now() - beganAtMs > SOUND_MS) waitMs = FIRST_WAIT_MS;
      this.#tell({ event: 'waiting', reason, retryInMs: waitMs });
      await sleep(waitMs, undefined, { signal: this.#signal }).catch(() => {});
      waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
    }
  }

  /** @returns why the epoch ended */
  async #recordOne(): Promise<string> {
    const { qmpSocketPath, directory, log } = this.#settings;
    const monitor = await QmpMonitor.connect(qmpSocketPath);
    try {
      const kept = await takeBack(monitor, directory);
      for (const path of kept)
        log.warn({ path }, 'an overlay that no disk stands on was written to, and stays');
      const guard = await this.#guardOf();
      const epoch = await beginEpoch({ settings: this.#settings, monitor, guard });
      this.#running = epoch;
      this.#tell({ event: 'recording', epoch: epoch.epoch, disks: epoch.disks.map(({ disk }) => disk) });
      const stop = () => epoch.recording.end('the recorder was stopped');
      this.#signal.addEventListener('abort', stop);
      if (this.#signal.aborted) stop();
      const reason = await epoch.recording.ended;
      this.#running = null;
      await epoch.close(reason);
      this.#signal.removeEventListener('abort', stop);
      this.#tell({ event: 'ended', epoch: epoch.epoch, reason });
      return reason;
    } finally {
      this.#running = null;
      monitor.close();
    }
  }

  async #guardOf(): Promise<Guard> {
    if (this.#guard?.isAlive === true) return this.#guard;
    await this.#guard?.close();
    const { qmpSocketPath, agentSocketPath } = this.#settings;
    this.#guard = await Guard.start(
      { qmpSocketPath, agentSocketPath },
      () => this.#running?.unansweredMs() ?? 0,
    );
    return this.#guard;
  }

  async #mark(name: string) {
    const running = this.#running;
    if (running === null) return null;
    const { sequence, timeUs } = await running.mark(name);
    return { epoch: running.epoch, sequence, timeUs };
  }
}
