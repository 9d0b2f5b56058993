import type { Command } from 'commander';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import { renderFacts } from '../render/table.ts';
import { loadSiteServices, using } from '../services.ts';

/** `offsite worker` and `offsite setup`: running a site. */
export function addSiteCommands(program: Command, io: CliIo): void {
  program
    .command('worker')
    .description("run this node's worker until stopped (Ctrl-C or SIGTERM)")
    .addHelpText('after', '\nExample:\n  $ offsite worker --config /etc/offsite/b.yaml')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const signal = io.stopSignal();
      const stopped = new Promise<void>(resolve => {
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
      const { runWorker } = await loadSiteServices();
      try {
        await using(runWorker(config, signal), async worker => {
          context.print({ facts: worker.facts }, ({ facts }) =>
            renderFacts([...facts.map(({ name, value }) => [name, value] as const), ['state', 'ready']]),
          );
          await Promise.race([stopped, worker.finished]);
        });
      } catch (error) {
        // Stopped before it was ready.
        if (!signal.aborted) throw error;
      }
    });

  program
    .command('setup')
    .description("prepare Temporal and the site's database; may be run again")
    .addHelpText('after', '\nExample:\n  $ offsite setup --config /etc/offsite/b.yaml')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const { setup } = await loadSiteServices();
      await using(setup(config), async ({ steps }) => {
        context.print({ steps }, () => renderFacts(steps.map(({ step, result }) => [step, result])));
      });
    });
}
