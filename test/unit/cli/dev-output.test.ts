import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CommandContext } from '../../../src/cli/command-context.ts';
import { commandLines } from '../../../src/cli/render/dev-commands.ts';
import { createDevOutput } from '../../../src/cli/render/dev-output.ts';
import type { TaskSummary } from '../../../src/contract/schedule.ts';
import { packageRoot } from '../../../src/lib/package-root.ts';
import type { PendingStep } from '../../../src/orchestration/orchestrator.ts';

function output(isTerminal: boolean) {
  let text = '';
  const context: CommandContext = {
    json: false,
    io: {
      out: written => {
        text += written;
      },
      err: () => undefined,
      isTerminal,
      columns: () => 100,
      rows: () => 24,
      nowMs: () => 0,
      stopSignal: () => new AbortController().signal,
    },
    config: () => Promise.reject(new Error('not asked for')),
    print: () => undefined,
  };
  return { dev: createDevOutput(context), written: () => text };
}

const disks = ['vda', 'vdb'].map(disk => ({
  disk,
  method: 'full' as const,
  reason: 'first copy',
  bytesSent: 0,
  bytesTotal: 0,
}));
const task: TaskSummary = {
  taskUuid: 't',
  generation: 1,
  outcome: null,
  reason: null,
  warnings: [],
  startedAtMs: 0,
  finishedAtMs: null,
  hostSnapshot: 's',
  disks,
};
const sending = (disk: string, durableBytes: number, failure: string | null): PendingStep => ({
  level: 'disk',
  disk,
  activity: 'sendDisk',
  attempt: failure === null ? 1 : 2,
  lastFailure: failure === null ? null : { code: 'DiskFull', message: failure },
  nextAttemptAtMs: null,
  waits: null,
  unserved: false,
  transfer: { diskTaskUuid: disk, durableBytes, totalBytes: 1000, note: null },
});

describe('the progress of offsite dev', () => {
  it('is plain lines without a terminal: what has changed for each disk, and no escapes', () => {
    const { dev, written } = output(false);
    const show = (vda: PendingStep, vdb: PendingStep) =>
      dev.progress({ task, step: 'diskTasks', pending: [vda, vdb] });
    show(sending('vda', 0, 'no room for vda'), sending('vdb', 100, 'no room for vdb'));
    show(sending('vda', 0, null), sending('vdb', 110, 'no room for vdb'));
    show(sending('vda', 0, 'no room for vda'), sending('vdb', 120, null));
    show(sending('vda', 500, null), sending('vdb', 1000, null));
    dev.finished({ ...task, outcome: 'upToDate', reason: 'nothing is newer than s', finishedAtMs: 1 });
    expect(written().split('\n')).toEqual([
      '  sending vda, vdb',
      '  retries: sending vda: no room for vda (attempt 2)',
      '  retries: sending vdb: no room for vdb (attempt 2)',
      '  vda  full  0 B of 1000 B (0%)',
      '  vdb  full  100 B of 1000 B (10%)',
      '  vda  full  500 B of 1000 B (50%)',
      '  vdb  full  1000 B of 1000 B (100%)',
      'Nothing was sent, the task ended as up to date: nothing is newer than s.',
      '',
    ]);
  });

  it('is bars on a terminal, and their place is taken by the outcome', () => {
    const { dev, written } = output(true);
    dev.progress({ task, step: 'diskTasks', pending: [sending('vda', 500, null)] });
    expect(written()).toMatch(/vda {2}full {2}\[█{15}─{15}\] {2}50% {2}500 B of 1000 B/);
    expect(written()).toContain('vdb  full  [······························]   begins');
    dev.finished({
      ...task,
      outcome: 'published',
      finishedAtMs: 1_200,
      disks: disks.map(disk => ({ ...disk, bytesSent: 2048 })),
    });
    expect(written()).toContain('\u001b[JPublished recovery point s at site b: 4.0 KiB in 1.2s.\n');
  });
});

describe('commands to copy and paste', () => {
  it('are short in the folder of the package, and quoted where the shell needs it', () => {
    const root = packageRoot();
    expect(
      commandLines(
        [
          [['source', 'list'], join(root, '.offsite', 'site-a.yaml')],
          [['replica', 'list'], '/a folder/site-b.yaml'],
        ],
        root,
      ),
    ).toEqual([
      'npx offsite source list --config .offsite/site-a.yaml',
      "npx offsite replica list --config '/a folder/site-b.yaml'",
    ]);
  });

  it('name the program by its path elsewhere', () => {
    const folder = mkdtempSync(join(tmpdir(), 'offsite-cwd-'));
    const [line] = commandLines([[['source', 'list'], '/d/site-a.yaml']], folder);
    expect(line).toBe(
      `node ${join(packageRoot(), 'bin', 'offsite.mjs')} source list --config /d/site-a.yaml`,
    );
    rmSync(folder, { recursive: true });
  });
});
