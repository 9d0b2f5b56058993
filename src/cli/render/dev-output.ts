/** What `offsite dev` says. */
import type { TaskSummary } from '../../contract/schedule.ts';
import type { DevOutput } from '../../dev/dev-output.ts';
import { formatDuration } from '../../lib/durations.ts';
import { formatSize } from '../../lib/sizes.ts';
import type { CommandContext } from '../command-context.ts';
import { summaryJson } from '../schedule-json.ts';
import { LiveArea } from './live-area.ts';
import { retryText } from './schedule.ts';
import { printable, renderFacts, renderTable } from './table.ts';
import { TaskBars } from './task-bars.ts';

type Verified = Parameters<DevOutput['verified']>[2];
type Sites = Parameters<DevOutput['next']>[0];

/** With `--json` each event is one object a line; else words, and bars where there is a terminal. */
export const createDevOutput = (context: CommandContext): DevOutput =>
  context.json ? jsonOutput(context) : textOutput(context);

function jsonOutput({ io }: CommandContext): DevOutput {
  const event = (name: string, content: object): void =>
    io.out(`${JSON.stringify({ event: name, ...content })}\n`);
  const places = ({ aPath, bPath, webUiUrl }: Sites) => ({ configs: { a: aPath, b: bPath }, webUiUrl });
  let last = '';
  return {
    say: text => event('said', { text }),
    started: (sites, pids) => event('started', { ...places(sites), pids }),
    imported: ({ host, snapshot, created, disks }) => event('imported', { host, snapshot, created, disks }),
    progress({ task, pending }) {
      if (task === null) return;
      const changed = JSON.stringify(summaryJson(task, pending).disks);
      if (changed !== last) event('progress', { task: summaryJson(task, pending) });
      last = changed;
    },
    finished: task => event('finished', { task: summaryJson(task, []) }),
    verified: (disk, path, result) => event('verified', { disk, path, ...result }),
    next: (sites, host) => event('ready', { host, ...places(sites) }),
  };
}

function textOutput({ io }: CommandContext): DevOutput {
  const area = new LiveArea(text => io.out(text));
  let bars = new TaskBars();
  let lastNote = '';
  const say = (text: string): void => {
    area.settle();
    io.out(`${text}\n`);
  };
  return {
    say,
    started(sites, pids) {
      const workers = Object.entries(pids).map(([name, pid]) => [name, `process ${pid}`] as const);
      say(renderFacts([...workers, ['Web UI', sites.webUiUrl]]));
    },
    imported({ host, snapshot, created, disks }) {
      const names = disks.map(({ disk }) => disk).join(', ');
      say(
        `\n${created ? 'Imported' : 'Already imported:'} snapshot ${snapshot} of ${host} at site a (${names}).`,
      );
    },
    progress({ task, step, pending }) {
      const failing = pending.find(({ attempt, lastFailure }) => attempt > 1 && lastFailure !== null);
      const retry = failing?.lastFailure ? `  retries: ${failingText(failing)}` : null;
      if (io.isTerminal) {
        const json = task === null ? null : summaryJson(task, pending);
        const lines = [`  ${step ?? 'waiting for a task'}`, ...(retry === null ? [] : [retry])];
        const columns = io.columns() - 1;
        const drawn = [...lines, ...bars.render(json, io.nowMs(), columns)];
        area.draw(drawn.map(line => printable(line).slice(0, columns)));
      } else {
        const note = retry ?? (step === null ? '' : `  ${step}`);
        if (note !== '' && note !== lastNote) say(printable(note));
        lastNote = note;
      }
    },
    finished(task) {
      bars = new TaskBars();
      say(finishedText(task));
    },
    verified: (disk, path, result) => say(verifiedText(disk, path, result)),
    next: (sites, host) => say(nextText(sites, host)),
  };
}

type Failing = Parameters<DevOutput['progress']>[0]['pending'][number];

const failingText = ({ attempt, lastFailure, activity, disk }: Failing): string =>
  retryText({
    attempt,
    reason: lastFailure?.message ?? '',
    code: lastFailure?.code ?? null,
    activity,
    disk,
    nextAttemptAt: null,
  });

function finishedText(task: TaskSummary): string {
  const tookMs = (task.finishedAtMs ?? task.startedAtMs) - task.startedAtMs;
  const took = tookMs < 1000 ? `${tookMs}ms` : formatDuration(tookMs);
  const head = `Task ${task.taskUuid}: ${task.outcome}${task.reason === null ? '' : ` (${task.reason})`}, took ${took}`;
  const warnings = task.warnings.map(warning => `Warning: ${printable(warning)}`);
  if (task.disks.length === 0) return [head, ...warnings].join('\n');
  const disks = renderTable(
    [{ title: 'disk' }, { title: 'method' }, { title: 'sent', align: 'right' }, { title: 'why' }],
    task.disks.map(({ disk, method, bytesSent, reason }) => [disk, method, formatSize(bytesSent), reason]),
    '',
  );
  return [head, disks, ...warnings].join('\n');
}

function verifiedText(
  disk: string,
  path: string,
  { equal, sourceSha256, replicaSha256, ...qemu }: Verified,
): string {
  const hashes =
    sourceSha256 === replicaSha256
      ? `SHA-256 ${sourceSha256.slice(0, 16)}… on both sides`
      : `SHA-256 ${sourceSha256.slice(0, 16)}… at a, ${replicaSha256.slice(0, 16)}… at b`;
  const compared = `qemu-img compare: ${qemu.qemuImg}, check: ${qemu.qemuImgCheck}`;
  return `${equal ? 'Verified' : 'NOT EQUAL'}: ${disk}, ${hashes}; ${compared}\n  ${printable(path)}`;
}

function nextText({ aPath, bPath, webUiUrl }: Sites, host: string): string {
  return `
Both sites stay up. Ctrl-C stops everything; a second start goes on with the same data.
Web UI: ${webUiUrl}

What to type next:
  npx offsite schedule show ${host} --config ${bPath}
  npx offsite schedule watch ${host} --config ${bPath}
  npx offsite replica list --config ${bPath}
  npx offsite replica recover ${host} --to ./recovered --config ${bPath}
  npx offsite source list --config ${aPath}
  npx offsite source locks --config ${aPath}`;
}
