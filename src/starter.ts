/** The command line's entry. Modules come after the compile cache is on: `--help` takes a third of the time. */
import { enableCompileCache } from 'node:module';

enableCompileCache();

// `offsite … | head` closes the pipe early: that is no failure.
process.stdout.on('error', error => {
  if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0);
  throw error;
});

const { processIo } = await import('./cli/cli-io.ts');
const { runCli } = await import('./cli/run-cli.ts');
process.exitCode = await runCli(process.argv.slice(2), processIo());
