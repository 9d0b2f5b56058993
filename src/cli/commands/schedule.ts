import type { Command } from 'commander';
import type { SiteConfig } from '../../config/site-config.ts';
import { OffsiteError } from '../../domain/errors.ts';
import type { Orchestrator, ScheduleRef } from '../../orchestration/orchestrator.ts';
import { identArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import { renderSchedule, renderScheduleTable } from '../render/schedule.ts';
import { type ScheduleJson, scheduleJson } from '../schedule-json.ts';
import { loadSiteServices, openOrchestrator, using } from '../services.ts';
import { addScheduleCreate, siteOption } from './schedule-create.ts';
import { addScheduleHistory } from './schedule-history.ts';
import { addScheduleRequests } from './schedule-requests.ts';
import { addScheduleUpdate } from './schedule-update.ts';
import { watchSchedule } from './schedule-watch.ts';
import { NAME_HELP, type SiteChoice, withSchedule } from './with-schedule.ts';

/** `offsite schedule …`: what is to be replicated, and how it stands. */
export function addScheduleCommands(program: Command, io: CliIo): void {
  const schedule = program.command('schedule').description('create, look at and steer schedules');
  addScheduleCreate(schedule, io);
  addLooks(schedule, io);
  addScheduleRequests(schedule, io);
  addScheduleUpdate(schedule, io);
  addScheduleHistory(schedule, io);
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
      context.print(schedules, (all, fit) => renderScheduleTable(all, io.nowMs(), replicaSite, fit));
    });

  schedule
    .command('show')
    .argument('<name>', NAME_HELP, identArgument)
    .description('show how a schedule stands, what runs, and what it waits for')
    .addOption(siteOption())
    .action(async (name: string, options: SiteChoice, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const shown = await withSchedule(context, name, options, async (orchestrator, ref) => ({
        ...(await showSchedule(orchestrator, ref, io.nowMs())),
        damage: await recordedDamage(config, ref),
      }));
      context.print(shown, (json, fit) => renderSchedule(json, io.nowMs(), fit));
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

/** Only the catalog of the replica site knows; what cannot be asked is not known. */
async function recordedDamage(config: SiteConfig, ref: ScheduleRef): Promise<ScheduleJson['damage']> {
  if (config.replica === undefined || config.site !== ref.replicaSite) return null;
  try {
    const { openReplicaInventory } = await loadSiteServices();
    const schedules = await using(openReplicaInventory(config), inventory => inventory.listSchedules());
    return schedules.find(({ name }) => name === ref.name)?.damage ?? null;
  } catch (error) {
    if (error instanceof OffsiteError) return null;
    throw error;
  }
}

async function showSchedule(
  orchestrator: Orchestrator,
  ref: ScheduleRef,
  nowMs: number,
): Promise<ScheduleJson> {
  const view = await orchestrator.status(ref);
  return scheduleJson(view, await orchestrator.progress(ref), nowMs);
}
