import type { Command } from 'commander';
import { countArgument, identArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import { renderHistory } from '../render/history.ts';
import { loadSiteServices, using } from '../services.ts';
import { NAME_HELP } from './with-schedule.ts';

const SHOWN_TASKS = 20;

/** `offsite schedule history`. */
export function addScheduleHistory(schedule: Command, io: CliIo): void {
  schedule
    .command('history')
    .argument('<name>', NAME_HELP, identArgument)
    .description("list a schedule's past tasks, the newest first; needs neither Temporal nor the source")
    .option('--limit <n>', 'so many at most', countArgument, SHOWN_TASKS)
    .addHelpText(
      'after',
      `
Reads the catalog of the site that --config names: it must be the replica site.

Examples:
  $ offsite schedule history web1
  $ offsite schedule history web1 --limit 1 --json`,
    )
    .action(async (name: string, { limit }: { limit: number }, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const { openReplicaInventory } = await loadSiteServices();
      const tasks = await using(openReplicaInventory(config), inventory =>
        inventory.scheduleHistory({ name, limit }),
      );
      context.print(tasks, (all, fit) => renderHistory(all, name, io.nowMs(), fit));
    });
}
