import { resolve } from 'node:path';
import type { Command } from 'commander';
import { diskArgument, folderArgument, pathArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { DiskPath } from '../ports.ts';
import { createDevOutput } from '../render/dev-output.ts';
import { loadDevServices } from '../services.ts';
import { UsageError } from '../usage-error.ts';

interface DevCommandOptions {
  readonly dataDir?: string;
  readonly demo: boolean;
  readonly imageRoot?: readonly string[];
  readonly once?: boolean;
  readonly disk?: readonly DiskPath[];
}

/** `offsite dev`: two sites, Temporal and PostgreSQL on one machine. @param exit takes the exit code */
export function addDevCommand(program: Command, io: CliIo, exit: (code: number) => void): void {
  program
    .command('dev')
    .description('run two sites, Temporal and PostgreSQL on this machine, with a demonstration')
    .option('--data-dir <dir>', 'where everything is kept (default: .offsite)', pathArgument)
    .option('--no-demo', 'no demonstration: only the two sites')
    .option(
      '--image-root <dir>',
      'a folder from which site a may read images; may be repeated',
      folderArgument,
    )
    .option('--once', 'end when the replicas were verified: exit code 0 if they are equal, else 1')
    .option(
      '--disk <name=path>',
      "replicate this qcow2 image instead of the demonstration's; may be repeated",
      diskArgument,
    )
    .addHelpText(
      'after',
      `
Writes DIR/site-a.yaml and DIR/site-b.yaml for --config. A second start goes on with the same data.

Examples:
  $ offsite dev
  $ offsite dev --once --disk vda=/images/vda.qcow2
  $ offsite dev --data-dir /srv/offsite --no-demo`,
    )
    .action(async (options: DevCommandOptions, command: Command) => {
      const disks = options.disk ?? [];
      if (!options.demo && (options.once === true || disks.length > 0)) {
        const other = options.once === true ? '--once' : '--disk';
        throw new UsageError(`--no-demo and ${other} contradict each other`, 'Leave one of them out.');
      }
      const context = contextOf(io, command);
      const signal = io.stopSignal();
      const { runDev } = await loadDevServices();
      const code = await runDev(
        {
          dataDir: options.dataDir ?? resolve('.offsite'),
          demo: options.demo,
          once: options.once === true,
          imageRoots: options.imageRoot ?? [],
          disks,
          signal,
        },
        createDevOutput(context),
      );
      exit(code);
    });
}
