import { type Command, Option } from 'commander';
import type { AnsweredRequest, DeletedSchedule, OperatorRequest } from '../../orchestration/orchestrator.ts';
import { identArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import { printable } from '../render/table.ts';
import { type ScheduleJson, scheduleJson } from '../schedule-json.ts';
import { siteOption } from './schedule-create.ts';
import { NAME_HELP, type SiteChoice, withSchedule } from './with-schedule.ts';

type PauseOptions = SiteChoice & { readonly drain?: boolean; readonly release?: boolean };
type DeleteOptions = SiteChoice & { readonly purge?: boolean; readonly force?: boolean };

/** What a request led to. */
export interface RequestJson extends ScheduleJson {
  /** Why it changed nothing; null when it changed something. */
  readonly reason: string | null;
}

/** `offsite schedule pause|resume|enable|run|delete`. Each may be repeated. */
export function addScheduleRequests(schedule: Command, io: CliIo): void {
  addPause(schedule, io);
  addPlain(schedule, io, 'resume', 'resume', 'go on after a pause');
  addPlain(schedule, io, 'enable', 'resume', 'the same as resume');
  addPlain(schedule, io, 'run', 'runNow', 'run now, whenever the next run is due');
  addDelete(schedule, io);
}

function addPause(schedule: Command, io: CliIo): void {
  requestCommand(schedule, 'pause', 'stop the running task and run no other')
    .addOption(new Option('--drain', 'let the running task finish first').conflicts('release'))
    .option('--release', 'give up what the stopped task began, at both sites')
    .addHelpText(
      'after',
      `
Without an option no byte flows any more when the command ends, even if the source site is silent; what was received
and the lock at the source are kept, and 'schedule resume' goes on from there.
With --release what was not published is dropped here, and the source may delete that snapshot: the next task begins
anew. The lock of the newest recovery point stays, so that the next increment is possible.

Examples:
  $ offsite schedule pause web1
  $ offsite schedule pause web1 --drain`,
    )
    .action(async (name: string, options: PauseOptions, command: Command) => {
      const mode = options.drain === true ? 'drain' : options.release === true ? 'release' : 'now';
      await send(io, command, name, { kind: 'pause', mode });
    });
}

function addPlain(
  schedule: Command,
  io: CliIo,
  command: string,
  request: 'resume' | 'runNow',
  description: string,
): void {
  requestCommand(schedule, command, description).action(
    async (name: string, _options: SiteChoice, invoked: Command) => send(io, invoked, name, request),
  );
}

function addDelete(schedule: Command, io: CliIo): void {
  requestCommand(schedule, 'delete', 'end a schedule and release its locks at the source')
    .option('--purge', 'remove its published replicas as well, for good')
    .option('--force', 'do not wait for the source site')
    .addHelpText(
      'after',
      `
Published replicas stay unless --purge is given. There is no question asked: --purge removes every recovery point that
this schedule published, but never a file that a replica of another schedule stands on.
While the source is out of reach the schedule shows as deleting. With --force it is gone at once; the locks that the
source still holds for it are released by a workflow of its own, release/<uuid>, that stays visible in Temporal's Web
UI and in 'offsite status' until the source has answered. A schedule that is being deleted can be forced later.

Examples:
  $ offsite schedule delete web1
  $ offsite schedule delete web1 --purge
  $ offsite schedule delete web1 --force`,
    )
    .action(async (name: string, options: DeleteOptions, command: Command) => {
      const context = contextOf(io, command);
      const request = { purge: options.purge === true, force: options.force === true };
      const deleted = await withSchedule(context, name, options, (orchestrator, ref) =>
        orchestrator.delete(ref, request),
      );
      context.print({ name, ...deleted }, () => deletedText(name, deleted));
    });
}

function deletedText(name: string, { state, releaseWorkflowId }: DeletedSchedule): string {
  if (state === 'deleting') {
    return `Schedule '${name}' is being deleted; it goes once its source site has answered (--force does not wait).`;
  }
  const deleted = `Schedule '${name}' is deleted.`;
  if (releaseWorkflowId === null) return deleted;
  return `${deleted} Its source site still holds locks for it: ${releaseWorkflowId} releases them when it answers.`;
}

const requestCommand = (schedule: Command, name: string, description: string): Command =>
  schedule
    .command(name)
    .argument('<name>', NAME_HELP, identArgument)
    .description(description)
    .addOption(siteOption());

async function send(io: CliIo, command: Command, name: string, request: OperatorRequest): Promise<void> {
  const context = contextOf(io, command);
  const kind = typeof request === 'string' ? request : request.kind;
  const answered = await withSchedule(context, name, command.opts<SiteChoice>(), (orchestrator, ref) =>
    orchestrator.request(ref, request),
  );
  context.print(requestJson(answered, io.nowMs()), json => answerText(DONE[kind], json));
}

/** How the schedule stands after a request, and what it said of it. */
export const requestJson = ({ view, reason }: AnsweredRequest, nowMs: number): RequestJson => ({
  ...scheduleJson(view, null, nowMs),
  reason,
});

const DONE = {
  pause: 'Paused schedule',
  resume: 'Resumed schedule',
  runNow: 'Asked for a run of schedule',
  updateSettings: 'Changed schedule',
} as const;

/** `Paused schedule 'web1' (pausing: pauses when the running task has ended).` */
function answerText(done: string, { name, state, note, reason }: RequestJson): string {
  const stands = `(${state}${note === null ? '' : `: ${note}`})`;
  return printable(
    reason === null ? `${done} '${name}' ${stands}.` : `Schedule '${name}': ${reason} ${stands}.`,
  );
}
