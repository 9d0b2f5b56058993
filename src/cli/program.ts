/** The whole command line: its commands, and what is common to all of them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../lib/package-root.ts';
import type { CliIo } from './cli-io.ts';
import { addCompletionCommand } from './commands/completion.ts';
import { addDevCommand } from './commands/dev.ts';
import { addReplicaCommands } from './commands/replica.ts';
import { addScheduleCommands } from './commands/schedule.ts';
import { addSiteCommands } from './commands/site.ts';
import { addSourceCommands } from './commands/source.ts';
import { addStatusCommand } from './commands/status.ts';
import { helpText } from './render/help-text.ts';

/** Builds the command line. It throws CommanderError instead of ending the process. @param exit takes the exit code */
export function buildProgram(io: CliIo, exit: (code: number) => void): Command {
  const program = new Command('offsite')
    .description('Replicates the snapshots of whole QEMU hosts to a second site, driven by Temporal.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .option('--config <file>', "the site's configuration (default: OFFSITE_CONFIG)")
    .option('--json', 'print JSON')
    .configureHelp({ showGlobalOptions: true })
    .helpCommand('help [command...]', 'show how a command is used')
    .configureOutput({
      writeOut: text => io.out(helpText(text, io.columns())),
      writeErr: text => io.err(helpText(text, io.columns())),
      getOutHelpWidth: () => io.columns(),
      getErrHelpWidth: () => io.columns(),
      // The error itself is told by runCli, as one line.
      outputError: () => undefined,
    })
    .exitOverride()
    .addHelpText(
      'after',
      `
--config and --json may stand before or after the command.
Exit codes: 0 done, 1 failed, 2 bad usage. docs/operations.md shows how two sites are set up.

Examples:
  $ offsite dev
  $ offsite schedule list --config .offsite/site-b.yaml`,
    );
  addStatusCommand(program, io, exit);
  addScheduleCommands(program, io);
  addSourceCommands(program, io);
  addReplicaCommands(program, io, exit);
  addSiteCommands(program, io);
  addDevCommand(program, io, exit);
  addCompletionCommand(program, io);
  return program;
}

function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}
