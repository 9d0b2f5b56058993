import { setTimeout as sleep } from 'node:timers/promises';
import { OffsiteError } from '../../domain/errors.ts';
import { formatSize } from '../../lib/sizes.ts';
import type { CommandContext } from '../command-context.ts';
import { LiveArea } from '../render/live-area.ts';
import { lackOf, retryText } from '../render/schedule.ts';
import { printable } from '../render/table.ts';
import { TaskBars } from '../render/task-bars.ts';
import { renderSpan, renderTime } from '../render/times.ts';
import type { DiskJson, ScheduleJson } from '../schedule-json.ts';

const LOOK_EVERY_MS = 1_000;
/** With `--once`, how long a schedule without a running task is looked at: a run just asked for may begin. */
const GRACE_MS = 3_000;
/** Faults that a watcher waits out once it has seen the schedule. */
const PASSING_FAULTS = new Set(['TemporalUnreachable', 'WorkerUnreachable']);

interface WatchOutput {
  show(json: ScheduleJson): void;
  fault(error: OffsiteError): void;
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
      seen = true;
      output.show(json);
      const running = json.state === 'unreachable' || json.lastTask?.outcome === null;
      sawTask ||= running;
      if (once && !running && (sawTask || io.nowMs() - startedAtMs >= GRACE_MS)) return;
    } catch (error) {
      if (!seen || !(error instanceof OffsiteError)) throw error;
      output.fault(error);
      if (!PASSING_FAULTS.has(error.code)) return;
    }
    await sleep(lookEveryMs, undefined, { signal }).catch(() => undefined);
  }
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
  };
}

/** Each line once, until it has changed. */
function plainLines({ io }: CommandContext): WatchOutput {
  let last = new Set<string>();
  const tell = (lines: readonly string[]): void => {
    for (const line of lines) if (!last.has(line)) io.out(`${line}\n`);
    last = new Set(lines);
  };
  return {
    show: json => tell([headline(json, null), ...notes(json), ...(json.lastTask?.disks ?? []).map(diskLine)]),
    fault: error => tell([printable(error.message)]),
  };
}

const diskLine = ({ disk, method, bytesSent, bytesTotal }: DiskJson): string =>
  `  ${disk}  ${method}  ${formatSize(bytesSent)} of ${formatSize(bytesTotal)}`;

function liveBars({ io }: CommandContext): WatchOutput {
  const area = new LiveArea(text => io.out(text));
  const bars = new TaskBars();
  const draw = (lines: readonly string[]): void =>
    area.draw(lines.map(line => line.slice(0, io.columns() - 1)));
  return {
    show(json) {
      const nowMs = io.nowMs();
      const disks = bars.render(json.lastTask, nowMs, io.columns() - 1);
      draw([headline(json, nowMs), ...notes(json), ...disks]);
    },
    fault: error => draw([printable(error.message)]),
  };
}

/** @param nowMs null leaves out what changes by the passing time alone */
function headline(json: ScheduleJson, nowMs: number | null): string {
  const task = json.lastTask;
  const parts = [
    `${json.name}: ${json.state}`,
    task?.outcome === null ? json.step : (task?.outcome ?? null),
    nowMs === null || !json.behindMs ? null : `behind ${renderSpan(json.behindMs)}`,
    task?.outcome === null || json.nextRunAt === null
      ? null
      : `next run ${nextRunText(json.nextRunAt, nowMs)}`,
  ];
  return printable(parts.filter(part => part !== null).join(', '));
}

const nextRunText = (iso: string, nowMs: number | null): string =>
  nowMs === null ? iso : renderTime(iso, nowMs);

function notes({ unreachable, retry, waits, lastTask }: ScheduleJson): string[] {
  const lack = lackOf(lastTask);
  return [
    ...(unreachable === null ? [] : [unreachable]),
    ...(retry === null ? [] : [`retries: ${retryText(retry)}`]),
    ...waits.map(wait => `waits: ${wait}`),
    ...(lack === null ? [] : [lack]),
    ...(lastTask?.warnings ?? []).map(warning => `warning: ${warning}`),
  ].map(note => `  ${printable(note)}`);
}
