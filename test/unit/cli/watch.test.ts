import { describe, expect, it } from 'vitest';
import type { CommandContext } from '../../../src/cli/command-context.ts';
import { watchSchedule } from '../../../src/cli/commands/schedule-watch.ts';
import type { RetryJson } from '../../../src/cli/retry-json.ts';
import type { ScheduleJson, TaskJson } from '../../../src/cli/schedule-json.ts';
import { OffsiteError } from '../../../src/domain/errors.ts';

const task = (bytesSent: number, outcome: TaskJson['outcome'] = null): TaskJson => ({
  taskUuid: 't',
  outcome,
  reason: null,
  warnings: [],
  startedAt: null,
  finishedAt: null,
  hostSnapshot: null,
  disks: [{ disk: 'vda', method: 'full', reason: 'first', bytesSent, bytesTotal: 4096, note: null }],
});

const schedule = (lastTask: TaskJson | null): ScheduleJson => ({
  name: 'web1',
  uuid: 'u',
  host: 'web1',
  sourceSite: 'a',
  replicaSite: 'b',
  type: 'interval',
  everyMs: 900_000,
  cron: null,
  timeZone: null,
  notBetween: [],
  rpoMs: null,
  bandwidthBytesPerSecond: null,
  state: lastTask?.outcome === null ? 'running' : 'waiting',
  paused: false,
  note: null,
  ageMs: 1,
  behindMs: 0,
  rpoMet: null,
  nextRunAt: null,
  nextRunReason: null,
  blackout: null,
  skippedRuns: 0,
  skippedReason: null,
  step: 'diskTasks',
  lastTask,
  retry: null,
  retries: [],
  waits: [],
  damage: null,
  unreachable: null,
});

/** Watches what is given, one look after the other; a clock that goes on by a second each look. */
async function watch(
  looks: readonly (ScheduleJson | Error)[],
  { json = false, isTerminal = false, once = true }: { json?: boolean; isTerminal?: boolean; once?: boolean },
): Promise<string> {
  let text = '';
  let look = 0;
  const stop = new AbortController();
  const context: CommandContext = {
    json,
    io: {
      out: written => {
        text += written;
      },
      err: () => undefined,
      isTerminal,
      columns: () => 100,
      rows: () => 24,
      nowMs: () => look * 1_000,
      stopSignal: () => stop.signal,
    },
    config: () => Promise.reject(new Error('not asked for')),
    print: () => undefined,
  };
  const next = async (): Promise<ScheduleJson> => {
    const seen = looks[look++];
    if (look >= looks.length && !once) stop.abort();
    if (seen === undefined) throw new Error('looked too often');
    if (seen instanceof Error) throw seen;
    return seen;
  };
  await watchSchedule(context, next, { once, lookEveryMs: 1 });
  return text;
}

describe('watchSchedule', () => {
  it('prints one object a line with --json, at each change', async () => {
    const text = await watch(
      [
        schedule(task(0)),
        { ...schedule(task(0)), ageMs: 2 },
        schedule(task(1024)),
        schedule(task(4096, 'published')),
      ],
      { json: true },
    );
    const seen = text
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as ScheduleJson);
    expect(seen.map(({ lastTask }) => lastTask?.disks[0]?.bytesSent)).toEqual([0, 1024, 4096]);
  });

  it('prints plain lines where there is no terminal, each once', async () => {
    const text = await watch(
      [schedule(task(1024)), schedule(task(1024)), schedule(task(4096, 'published'))],
      {},
    );
    expect(text.split('\n')).toEqual([
      'web1: running, sending vda',
      '  vda  full  1.0 KiB of 4.0 KiB (25%)',
      'web1: waiting, published',
      '  vda  full  4.0 KiB of 4.0 KiB (100%)',
      '',
    ]);
  });

  it('tells a retry when it has changed for its disk, not in turn for two disks', async () => {
    const retry = (disk: string, attempt: number): RetryJson => ({
      attempt,
      reason: `the disk of ${disk} is full`,
      code: 'DiskFull',
      activity: 'sendDisk',
      disk,
      nextAttemptAt: null,
    });
    const retrying = (...retries: RetryJson[]): ScheduleJson => ({ ...schedule(task(1024)), retries });
    const text = await watch(
      [
        retrying(retry('vda', 2), retry('vdb', 2)),
        retrying(retry('vdb', 2), retry('vda', 2)),
        retrying(retry('vdb', 2)),
        retrying(retry('vda', 3), retry('vdb', 2)),
        schedule(task(4096, 'published')),
      ],
      {},
    );
    expect(text.split('\n').filter(line => line.includes('retries'))).toEqual([
      '  retries: sending vda: the disk of vda is full (attempt 2)',
      '  retries: sending vdb: the disk of vdb is full (attempt 2)',
      '  retries: sending vda: the disk of vda is full (attempt 3)',
    ]);
  });

  it('draws bars in place on a terminal', async () => {
    const text = await watch([schedule(task(1024)), schedule(task(4096, 'published'))], { isTerminal: true });
    expect(text).toMatch(/vda {2}full {2}\[███████─+\] {2}25% {2}1\.0 KiB of 4\.0 KiB/);
    expect(text).toContain('\u001b[2A\rweb1: waiting, published');
  });

  it('with --once gives a run that was just asked for time to begin, and ends when there is none', async () => {
    const text = await watch([schedule(null), schedule(task(0)), schedule(task(4096, 'upToDate'))], {});
    expect(text).toContain('web1: waiting, up to date');
    expect(await watch(new Array<ScheduleJson>(4).fill(schedule(null)), {})).toBe('web1: waiting\n');
  });

  it('waits out a Temporal that is down for a moment, and ends when the schedule is gone', async () => {
    const down = new OffsiteError('TemporalUnreachable', 'Temporal does not answer');
    const gone = new OffsiteError('ScheduleUnknown', 'there is no schedule');
    const text = await watch([schedule(task(0)), down, schedule(task(1024)), gone], { once: false });
    expect(text).toContain('Temporal does not answer\nweb1: running');
    expect(text.endsWith('there is no schedule\n')).toBe(true);
  });

  it('fails when the first look does', async () => {
    const down = new OffsiteError('TemporalUnreachable', 'Temporal does not answer');
    await expect(watch([down], {})).rejects.toBe(down);
  });
});
