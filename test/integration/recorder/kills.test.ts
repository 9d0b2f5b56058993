/** Whatever happens to the recorder or its guard: the guest runs, its writes succeed, and the next recorder goes on. */
import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readFired } from '../../../src/lib/fault-injection.ts';
import type { FaultPoint } from '../../../src/lib/fault-points.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  type Guest,
  type RecorderOptions,
  type RecorderProcess,
  startGuest,
  startRecorder,
  writeRecorderConfig,
} from '../../support/recorded-guest.ts';

const database = useTestDatabase();
let guest: Guest;
let configPath: string;
let load: Load;
const started: RecorderProcess[] = [];

/** The guest writes all the time. */
class Load {
  readonly errors: unknown[] = [];
  writes = 0;
  #isOver = false;
  #done: Promise<void>;

  constructor() {
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    for (let at = 0; !this.#isOver; at = (at + 4) % 4096) {
      const pattern = 1 + (this.writes % 250);
      try {
        await guest.io('vda', `write -P ${pattern} ${at}k 4k`, `read -P ${pattern} ${at}k 4k`);
        await guest.io('vdb', `write -P ${pattern} ${at}k 4k`);
      } catch (error) {
        this.errors.push(error);
      }
      this.writes += 1;
    }
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#done;
  }
}

beforeAll(async () => {
  const dir = await mkdtemp('/dev/shm/rec-');
  guest = await startGuest(dir);
  configPath = await writeRecorderConfig(dir, database().url);
  load = new Load();
}, 90_000);

afterAll(async () => {
  await load?.stop();
  for (const recorder of started) await recorder.kill();
  await guest?.close();
  if (guest !== undefined) await rm(guest.dir, { recursive: true, force: true });
}, 60_000);

function record(options: Partial<RecorderOptions> = {}): RecorderProcess {
  const recorder = startRecorder({ configPath, host: 'web1', guest, ...options });
  started.push(recorder);
  return recorder;
}

/** The guest does more work, without an error. */
async function goesOn(): Promise<void> {
  await expect.poll(() => guest.status(), { timeout: 30_000 }).toBe('running');
  const { writes } = load;
  await expect.poll(() => load.writes, { timeout: 30_000 }).toBeGreaterThan(writes + 1);
  expect(load.errors).toEqual([]);
}

const guardOf = ({ process }: RecorderProcess): number =>
  Number(execFileSync('pgrep', ['-P', String(process.pid), '-f', 'guard-main'], { encoding: 'utf8' }));

const exited = async ({ process }: { process: ChildProcess }): Promise<NodeJS.Signals | null> => {
  await expect
    .poll(() => process.exitCode !== null || process.signalCode !== null, { timeout: 40_000 })
    .toBe(true);
  return process.signalCode;
};

describe('the guest goes on', { timeout: 120_000 }, () => {
  it.each<readonly [FaultPoint, 'before' | 'after', number]>([
    ['recorder.intent.syncDirectory', 'after', 1],
    ['recorder.overlay.fsync', 'after', 2],
    ['qmp.sendAll', 'before', 1],
    ['qmp.sendAll', 'after', 1],
    ['source.commit.registerEpoch', 'before', 1],
    ['recorder.intent.unlink', 'before', 1],
  ])('when the recorder is killed at %s, %s', async (point, when, hit) => {
    const planPath = join(guest.dir, `${point}-${when}.json`);
    await writeFile(planPath, JSON.stringify({ faults: [{ id: 'kill', point, when, kind: 'crash', hit }] }));
    const environment = { OFFSITE_FAULTS: planPath, OFFSITE_FAULTS_ARMED: 'test' };
    const recorder = record({ environment });
    expect(await exited(recorder), recorder.errors()).toBe('SIGKILL');
    expect(readFired(planPath)).toHaveLength(1);
    await goesOn();
  });

  it('when recorder and guard are killed while they record, and a second recorder is refused before', async () => {
    const recorder = record();
    await recorder.recording();
    const second = record();
    await exited(second);
    expect(JSON.parse(second.errors().trim().split('\n').at(-1) ?? '')).toMatchObject({
      error: { code: 'RecorderRunning', message: expect.stringContaining(String(recorder.process.pid)) },
    });
    await goesOn();
    const guard = guardOf(recorder);
    recorder.process.kill('SIGKILL');
    process.kill(guard, 'SIGKILL');
    await exited(recorder);
    await goesOn();
  });

  it('when the recorder is stopped: the guard ends it', async () => {
    const recorder = record();
    await recorder.recording();
    recorder.process.kill('SIGSTOP');
    expect(await exited(recorder)).toBe('SIGKILL');
    await goesOn();
  });

  it('when the guard alone is killed', async () => {
    const recorder = record();
    await recorder.recording();
    process.kill(guardOf(recorder), 'SIGKILL');
    await goesOn();
    await recorder.kill('SIGTERM');
    expect(recorder.process.exitCode).toBe(0);
    await goesOn();
  });

  it('when the disk of the journals is full: the epoch ends with the reason', async () => {
    const journals = join(guest.dir, 'small');
    await mkdir(journals);
    spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=13m', 'tmpfs', journals]);
    try {
      const small = await writeRecorderConfig(join(guest.dir), database().url, { directory: journals });
      const recorder = record({ configPath: small, host: 'web2' });
      await recorder.recording();
      const full = guest.io('vda', ...Array.from({ length: 12 }, (_, at) => `write -P 77 ${16 + at}M 1M`));
      await expect
        .poll(() => recorder.events.find(({ event }) => event === 'ended'), { timeout: 40_000 })
        .toMatchObject({ reason: expect.stringMatching(/ENOSPC|no space|mirror/i) });
      await full;
      await goesOn();
      await recorder.kill('SIGTERM');
    } finally {
      spawnSync('umount', ['-l', journals]);
    }
  });

  it('and every epoch that was left open has been ended by the next recorder', async () => {
    const recorder = record();
    await recorder.recording();
    await recorder.kill('SIGTERM');
    const rows = await database()
      .db('cdp_epochs')
      .orderBy('epoch')
      .select('epoch', 'ended_reason', 'newest_checkpoint');
    expect(rows.filter(({ ended_reason: reason }) => reason === null)).toEqual([]);
    expect(rows.some(({ newest_checkpoint: newest }) => newest > 0)).toBe(true);
    await goesOn();
  });
});
