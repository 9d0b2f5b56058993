/** What `offsite dev` says. */
import type { TaskSummary } from '../../contract/schedule.ts';
import type { DevOutput } from '../../dev/dev-output.ts';
import { formatDuration } from '../../lib/durations.ts';
import { formatSize } from '../../lib/sizes.ts';
import type { CommandContext } from '../command-context.ts';
import { retriesJson } from '../retry-json.ts';
import { summaryJson } from '../schedule-json.ts';
import { ChangedLines } from './changed-lines.ts';
import { commandLines } from './dev-commands.ts';
import { tellDisks } from './disk-lines.ts';
import { LiveArea } from './live-area.ts';
import { retryText } from './schedule.ts';
import { printable, renderFacts, renderTable } from './table.ts';
import { TaskBars } from './task-bars.ts';
import { renderTime } from './times.ts';
import { outcomeWords, stepWords } from './words.ts';

type Started = Parameters<DevOutput['started']>[0];
type Sites = Started['sites'];
type Progress = Parameters<DevOutput['progress']>[0];
type Result = Parameters<DevOutput['result']>[0];
type Verified = Parameters<DevOutput['verified']>[2];

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
    started: ({ sites, dataDir, isOld, pids }) =>
      event('started', { ...places(sites), dataDir, isOld, pids }),
    imported: ({ host, snapshot, created, disks, warnings }) =>
      event('imported', { host, snapshot, created, disks, warnings }),
    progress({ task, step, pending }) {
      if (task === null) return;
      const progress = { task: summaryJson(task, pending), step, retries: retriesJson(null, pending) };
      const changed = JSON.stringify(progress);
      if (changed !== last) event('progress', progress);
      last = changed;
    },
    silence: ({ code, message, hint }) => event('silence', { error: { code, message, hint } }),
    finished: task => event('finished', { task: summaryJson(task, []) }),
    verified: (disk, path, result) => event('verified', { disk, path, ...result }),
    missing: disk => event('verified', { disk, path: null, equal: false }),
    result: result => event('result', result),
    next: (sites, host) => event('ready', { host, ...places(sites) }),
  };
}

function textOutput({ io }: CommandContext): DevOutput {
  const area = new LiveArea(
    text => io.out(text),
    () => io.columns(),
  );
  let bars = new TaskBars();
  const say = (text: string): void => {
    area.settle();
    io.out(`${text}\n`);
  };
  const lines = new ChangedLines(say);
  const draw = (drawn: readonly string[]): void => {
    const columns = io.columns() - 1;
    area.draw(drawn.slice(0, io.rows() - 1).map(line => printable(line).slice(0, columns)));
  };
  return {
    say,
    started: started => say(startedText(started)),
    imported({ host, snapshot, created, disks, warnings }) {
      const names = disks.map(({ disk }) => disk).join(', ');
      const what = created ? 'Imported' : 'Already imported:';
      say(`\n${what} snapshot ${snapshot} of ${host} at site a (${names}).`);
      for (const warning of warnings) say(`Warning: ${printable(warning)}`);
    },
    progress(progress) {
      const { task, pending } = progress;
      const json = task === null ? null : summaryJson(task, pending);
      const step = stepText(progress);
      const retries = retriesJson(null, pending);
      if (io.isTerminal) {
        const retried = retries.map(retry => `  retries: ${retryText(retry)}`);
        draw([step, ...retried, ...bars.render(json, io.nowMs(), io.columns() - 1)]);
        return;
      }
      const scope = task?.taskUuid ?? '';
      lines.tell('step', step);
      for (const retry of retries) {
        lines.tell(`${scope} ${retry.activity} ${retry.disk}`, `  retries: ${retryText(retry, false)}`);
      }
      tellDisks(lines, json);
    },
    silence(error) {
      if (io.isTerminal) draw([`  ${error.message}; asked again …`]);
      else lines.tell('silence', `  ${printable(error.message)}; asked again …`);
    },
    finished(task) {
      bars = new TaskBars();
      if (io.isTerminal) area.draw([]);
      say(finishedText(task));
    },
    verified: (disk, path, result) => say(verifiedText(disk, path, result)),
    missing: disk => say(`NOT EQUAL: site b has no disk ${disk}`),
    result: result => say(resultText(result, io.nowMs())),
    next: (sites, host) => say(nextText(sites, host)),
  };
}

function startedText({ sites, dataDir, isOld, pids }: Started): string {
  const processOf = (name: string): string => `process ${pids[name] ?? '?'}`;
  return renderFacts([
    ['site a', `${sites.aPath} (worker: ${processOf('worker-a')})`],
    ['site b', `${sites.bPath} (worker: ${processOf('worker-b')})`],
    ['servers', `PostgreSQL: ${processOf('postgres')}, Temporal: ${processOf('temporal')}`],
    ['data', isOld ? `${dataDir}, of an earlier start: it goes on with these` : dataDir],
    ['Web UI', sites.webUiUrl],
  ]);
}

function stepText({ task, step }: Progress): string {
  if (step === null) return '  waiting for the task';
  const words = stepWords(
    step,
    (task?.disks ?? []).map(({ disk }) => disk),
  );
  return `  ${words}`;
}

function finishedText(task: TaskSummary): string {
  const warnings = task.warnings.map(warning => `Warning: ${printable(warning)}`);
  if (task.outcome !== 'published') {
    const reason = task.reason === null ? '' : `: ${printable(task.reason)}`;
    return [`Nothing was sent, the task ended as ${outcomeWords(task.outcome)}${reason}.`, ...warnings].join(
      '\n',
    );
  }
  const tookMs = Math.max(1, (task.finishedAtMs ?? task.startedAtMs) - task.startedAtMs);
  const bytes = task.disks.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
  const disks = renderTable(
    [{ title: 'disk' }, { title: 'method' }, { title: 'sent', align: 'right' }, { title: 'why' }],
    task.disks.map(({ disk, method, bytesSent, reason }) => [disk, method, formatSize(bytesSent), reason]),
    '',
  );
  const head = `Published recovery point ${task.hostSnapshot} at site b: ${formatSize(bytes)} in ${tookText(tookMs)}.`;
  return [head, disks, ...warnings].join('\n');
}

const tookText = (tookMs: number): string =>
  tookMs < 10_000 ? `${(tookMs / 1000).toFixed(1)}s` : formatDuration(tookMs);

function verifiedText(
  disk: string,
  path: string,
  { equal, sourceSha256, replicaSha256, qemuImg, qemuImgCheck }: Verified,
): string {
  const hashes =
    sourceSha256 === replicaSha256
      ? `SHA-256 ${sourceSha256.slice(0, 16)}… on both sides`
      : `SHA-256 ${sourceSha256.slice(0, 16)}… at a, ${replicaSha256.slice(0, 16)}… at b`;
  const qemu =
    qemuImg === 'not installed'
      ? 'not asked: qemu-img is not installed'
      : `qemu-img compare: ${qemuImg}, check: ${qemuImgCheck}`;
  const where = equal ? '' : `\n  ${printable(path)}`;
  return `${equal ? 'Verified' : 'NOT EQUAL'}: ${disk}, ${hashes}; ${qemu}${where}`;
}

function resultText({ host, snapshot, takenAt, points, disks, verified }: Result, nowMs: number): string {
  const facts = renderFacts([
    ['host', `${host}, from site a to site b`],
    ['point', `${snapshot}, the state of ${renderTime(takenAt, nowMs)}`],
    ['points', `${points} at site b`],
    ['verdict', verified ? 'every replica equals its source' : 'NOT EQUAL: do not rely on this replica'],
  ]);
  const table = renderTable(
    [{ title: 'disk' }, { title: 'size', align: 'right' }, { title: 'replica' }],
    disks.map(({ disk, virtualSizeBytes, path }) => [disk, formatSize(virtualSizeBytes), path]),
    '',
  );
  return `\n${facts}\n\n${table}`;
}

function nextText({ aPath, bPath, webUiUrl }: Sites, host: string | null): string {
  const commands =
    host === null
      ? commandLines([
          [['source', 'import', 'web1', '--disk', 'vda=/images/web1.qcow2'], aPath],
          [['schedule', 'create', 'web1', '--source', 'a', '--host', 'web1', '--every', '15m'], bPath],
          [['schedule', 'watch', 'web1'], bPath],
          [['replica', 'list'], bPath],
        ])
      : commandLines([
          [['schedule', 'show', host], bPath],
          [['schedule', 'watch', host], bPath],
          [['replica', 'list'], bPath],
          [['replica', 'recover', host, '--to', './recovered'], bPath],
          [['source', 'list'], aPath],
          [['source', 'locks'], aPath],
        ]);
  const ready = host === null ? 'Both sites are ready.' : 'Both sites stay up.';
  return `
${ready} Ctrl-C stops everything; a second start goes on with the same data.
Web UI: ${webUiUrl}

What to type next, in another terminal:
${commands.map(line => `  ${line}`).join('\n')}`;
}
