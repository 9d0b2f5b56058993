import { processIo } from './cli-io.ts';
import { runCli } from './run-cli.ts';

/**
 * Runs one command line in this process, with its streams and signals.
 * @param args without the program's own name
 * @returns the exit code: 0 done, 1 failed, 2 bad usage
 */
export function runStarter(args: readonly string[]): Promise<number> {
  // `offsite … | head` closes the pipe early: that is no failure.
  process.stdout.on('error', error => {
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0);
    throw error;
  });
  return runCli(args, processIo());
}
