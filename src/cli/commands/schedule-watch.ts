import { setTimeout as sleep } from 'node:timers/promises';
import { OffsiteError } from '../../domain/errors.ts';
import type { CommandContext } from '../command-context.ts';
import { shareOf } from '../render/bar.ts';
import { ChangedLines } from '../render/changed-lines.ts';
import { tellDisks } from '../render/disk-lines.ts';
import { LiveArea } from '../render/live-area.ts';
import { disksOf, lackOf, plainWaits, retryText } from '../render/schedule.ts';
import { screenful, type TaskLines } from '../render/screenful.ts';
import { printable } from '../render/table.ts';
import { TaskBars } from '../render/task-bars.ts';
import { renderSpan, renderTime } from '../render/times.ts';
import { outcomeWords, stepWords } from '../render/words.ts';
import { wrapped } from '../render/wrapped.ts';
import type { ScheduleJson, TaskJson } from '../schedule-json.ts';

const LOOK_EVERY_MS = 1_000;
/** With `--once`, how long a schedule without a running task is looked at: a run just asked for may begin. */
const GRACE_MS = 3_000;
/** Faults that a watcher waits out once it has seen the schedule. */
const PASSING_FAULTS = new Set(['TemporalUnreachable', 'WorkerUnreachable']);

interface WatchOutput {
  show(json: ScheduleJson): void;
  fault(error: OffsiteError): void;
  /** Nothing more comes. */
  end(): void;
}

/**
 * Follows a schedule until Ctrl-C, until it is deleted, or with `once` until no task runs.
 * @param look gives how the schedule stands now
 */
export async function watchSchedule(
  context: CommandContext,
  look: () => Promise<ScheduleJson>,
  { once, lookEveryMs = LOOK_EVERY_MS }: { readonly once: boolean; readonly lookEveryMs?: number },
): Promise<void> {
  const { io } = context;
  const signal = io.stopSignal();
  const output = outputOf(context);
  const startedAtMs = io.nowMs();
  let seen = false;
  let sawTask = false;
  while (!signal.aborted) {
    try {
      const json = await look();
      if (signal.aborted) break;
      seen = true;
      output.show(json);
      const running = json.state === 'unreachable' || json.lastTask?.outcome === null;
      sawTask ||= running;
      if (once && !running && (sawTask || io.nowMs() - startedAtMs >= GRACE_MS)) break;
    } catch (error) {
      if (!seen || !(error instanceof OffsiteError)) throw error;
      output.fault(error);
      if (!PASSING_FAULTS.has(error.code)) break;
    }
    await sleep(lookEveryMs, undefined, { signal }).catch(() => undefined);
  }
  output.end();
}

function outputOf(context: CommandContext): WatchOutput {
  if (context.json) return jsonLines(context);
  return context.io.isTerminal ? liveBars(context) : plainLines(context);
}

/** One object a line, whenever something but the passing time has changed. */
function jsonLines({ io }: CommandContext): WatchOutput {
  let last = '';
  return {
    show(json) {
      const changing = JSON.stringify({ ...json, ageMs: null, behindMs: null });
      if (changing !== last) io.out(`${JSON.stringify(json)}\n`);
      last = changing;
    },
    fault({ code, message, hint }) {
      const line = JSON.stringify({ error: { code, message, hint } });
      if (line !== last) io.out(`${line}\n`);
      last = line;
    },
    end: () => undefined,
  };
}

/** Each thing that can be said is said when it has changed, and again only for another task. */
function plainLines({ io }: CommandContext): WatchOutput {
  const lines = new ChangedLines(text => io.out(`${text}\n`));
  return {
    show(json) {
      const task = json.lastTask;
      lines.tell('headline', headline(json, null));
      const scope = task?.taskUuid ?? '';
      for (const [subject, line] of notes(json, false)) lines.tell(`${scope} ${subject}`, line);
      tellDisks(lines, task);
    },
    fault: error => lines.tell('headline', printable(error.message)),
    end: () => undefined,
  };
}

function liveBars({ io }: CommandContext): WatchOutput {
  const area = new LiveArea(
    text => io.out(text),
    () => io.columns(),
  );
  const bars = new TaskBars();
  const fitted = (line: string): string[] => wrapped(line, io.columns() - 1);
  // The cursor stands on a line of its own below.
  const draw = (lines: TaskLines): void => area.draw(screenful(lines, io.rows() - 1));
  return {
    show(json) {
      const nowMs = io.nowMs();
      const { lastTask } = json;
      const drawn = bars.render(lastTask, nowMs, io.columns() - 1);
      draw({
        head: fitted(headline(json, nowMs)),
        notes: notes(json, true).flatMap(([, line]) => fitted(line)),
        disks: drawn.map((line, index) => ({ line, isDone: isDone(lastTask, index) })),
      });
    },
    fault: error => draw({ head: fitted(printable(error.message)), notes: [], disks: [] }),
    end: () => area.end(),
  };
}

function isDone(task: TaskJson | null, index: number): boolean {
  const disk = task?.disks[index];
  return task?.outcome !== null || (disk !== undefined && shareOf(disk) === 1);
}

/** @param nowMs null leaves out what changes by the passing time alone */
function headline(json: ScheduleJson, nowMs: number | null): string {
  const task = json.lastTask;
  const runs = task?.outcome === null;
  const parts = [
    `${json.name}: ${json.state}`,
    runs && json.step !== null ? stepWords(json.step, disksOf(task)) : null,
    runs || task === null || task.outcome === json.state ? null : outcomeWords(task.outcome),
    nowMs === null || !json.behindMs ? null : `behind ${renderSpan(json.behindMs)}`,
    runs || json.paused === true || json.nextRunAt === null
      ? null
      : `next run ${nextRunText(json.nextRunAt, nowMs)}`,
  ];
  return printable(parts.filter(part => part !== null).join(', '));
}

const nextRunText = (iso: string, nowMs: number | null): string =>
  nowMs === null ? iso : renderTime(iso, nowMs);

/** What is said besides, each with its subject: a line is told again when that of its subject has changed. */
function notes(json: ScheduleJson, nextAttempts: boolean): (readonly [subject: string, line: string])[] {
  const { unreachable, note, retries, lastTask } = json;
  const lack = lackOf(lastTask);
  const isSaid = retries.some(({ reason }) => reason === lack);
  const said: (readonly [string, string])[] = [
    ...(unreachable === null ? [] : [['unreachable', unreachable] as const]),
    ...(note === null ? [] : [['note', note] as const]),
    ...retries.map(
      retry => [`retry ${retry.disk ?? ''}`, `retries: ${retryText(retry, nextAttempts)}`] as const,
    ),
    ...plainWaits(json).map(wait => [`waits ${wait}`, `waits: ${wait}`] as const),
    ...(lack === null || isSaid ? [] : [['lack', lack] as const]),
    ...(lastTask?.warnings ?? []).map(warning => [`warning ${warning}`, `warning: ${warning}`] as const),
  ];
  return said.map(([subject, line]) => [subject, `  ${printable(line)}`]);
}
