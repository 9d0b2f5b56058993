/** The command line's entry. */
import { enableCompileCache } from 'node:module';
import { processIo } from './cli/cli-io.ts';
import { runCli } from './cli/run-cli.ts';

enableCompileCache();

// `offsite … | head` closes the pipe early: that is no failure.
process.stdout.on('error', error => {
  if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await runCli(process.argv.slice(2), processIo());
