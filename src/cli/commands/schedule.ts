import type { Command } from 'commander';
import type { Orchestrator, PlainRequest, ScheduleRef } from '../../orchestration/orchestrator.ts';
import { identArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { type CommandContext, contextOf } from '../command-context.ts';
import { renderSchedule, renderScheduleTable } from '../render/schedule.ts';
import { type ScheduleJson, scheduleJson } from '../schedule-json.ts';
import { openOrchestrator, using } from '../services.ts';
import { addScheduleCreate, siteOption } from './schedule-create.ts';
import { watchSchedule } from './schedule-watch.ts';

interface SiteChoice {
  readonly site?: string;
}

const NAME_HELP = 'the name of the schedule';

/** `offsite schedule …`: what is to be replicated, and how it stands. */
export function addScheduleCommands(program: Command, io: CliIo): void {
  const schedule = program.command('schedule').description('create, look at and steer schedules');
  addScheduleCreate(schedule, io);
  addLooks(schedule, io);
  addRequest(
    schedule,
    io,
    'pause',
    'pause',
    'stop the running task and run no other; what was received is kept',
  );
  addRequest(schedule, io, 'resume', 'resume', 'go on after a pause');
  addRequest(schedule, io, 'enable', 'resume', 'the same as resume');
  addRequest(schedule, io, 'run', 'runNow', 'run now, whenever the next run is due');

  schedule
    .command('delete')
    .argument('<name>', NAME_HELP, identArgument)
    .description('end a schedule and release its locks at the source; published replicas stay')
    .addOption(siteOption())
    .action(async (name: string, options: SiteChoice, command: Command) => {
      const context = contextOf(io, command);
      const state = await withSchedule(context, name, options, (orchestrator, ref) =>
        orchestrator.delete(ref, { purge: false }),
      );
      context.print({ name, state }, () =>
        state === 'deleted'
          ? `Schedule '${name}' is deleted.`
          : `Schedule '${name}' is being deleted; it goes once its source site has answered.`,
      );
    });
}

function addLooks(schedule: Command, io: CliIo): void {
  schedule
    .command('list')
    .description("list a replica site's schedules")
    .addOption(siteOption())
    .action(async (options: SiteChoice, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const replicaSite = options.site ?? config.site;
      const schedules = await using(openOrchestrator(config), async orchestrator => {
        const views = await orchestrator.list(replicaSite);
        return Promise.all(
          views.map(async view => {
            const runs = view.reachable && view.status.runningTask !== null;
            const progress = runs ? await orchestrator.progress(view.ref) : null;
            return scheduleJson(view, progress, io.nowMs());
          }),
        );
      });
      context.print(schedules, all => renderScheduleTable(all, io.nowMs(), replicaSite));
    });

  schedule
    .command('show')
    .argument('<name>', NAME_HELP, identArgument)
    .description('show how a schedule stands, what runs, and what it waits for')
    .addOption(siteOption())
    .action(async (name: string, options: SiteChoice, command: Command) => {
      const context = contextOf(io, command);
      const shown = await withSchedule(context, name, options, (orchestrator, ref) =>
        showSchedule(orchestrator, ref, io.nowMs()),
      );
      context.print(shown, json => renderSchedule(json, io.nowMs()));
    });

  schedule
    .command('watch')
    .argument('<name>', NAME_HELP, identArgument)
    .description('follow a schedule with a bar a disk, until Ctrl-C')
    .option('--once', 'end when no task runs any more')
    .addOption(siteOption())
    .addHelpText(
      'after',
      `
With --json, and where standard output is no terminal, each change is a line of its own.

Example:
  $ offsite schedule run web1 && offsite schedule watch web1 --once`,
    )
    .action(async (name: string, options: SiteChoice & { once?: boolean }, command: Command) => {
      const context = contextOf(io, command);
      await withSchedule(context, name, options, (orchestrator, ref) =>
        watchSchedule(context, () => showSchedule(orchestrator, ref, io.nowMs()), {
          once: options.once === true,
        }),
      );
    });
}

function addRequest(
  schedule: Command,
  io: CliIo,
  command: string,
  request: PlainRequest,
  description: string,
): void {
  schedule
    .command(command)
    .argument('<name>', NAME_HELP, identArgument)
    .description(description)
    .addOption(siteOption())
    .action(async (name: string, options: SiteChoice, invoked: Command) => {
      const context = contextOf(io, invoked);
      const view = await withSchedule(context, name, options, (orchestrator, ref) =>
        orchestrator.request(ref, request),
      );
      const result = scheduleJson(view, null, io.nowMs());
      context.print(result, ({ state }) => `${DONE[request]} '${name}' (${state}).`);
    });
}

const DONE: Record<PlainRequest, string> = {
  pause: 'Paused schedule',
  resume: 'Resumed schedule',
  runNow: 'Asked for a run of schedule',
};

async function showSchedule(
  orchestrator: Orchestrator,
  ref: ScheduleRef,
  nowMs: number,
): Promise<ScheduleJson> {
  const view = await orchestrator.status(ref);
  return scheduleJson(view, await orchestrator.progress(ref), nowMs);
}

async function withSchedule<T>(
  context: CommandContext,
  name: string,
  { site }: SiteChoice,
  use: (orchestrator: Orchestrator, ref: ScheduleRef) => Promise<T>,
): Promise<T> {
  const config = await context.config();
  return using(openOrchestrator(config), orchestrator =>
    use(orchestrator, { replicaSite: site ?? config.site, name }),
  );
}
