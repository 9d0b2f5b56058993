/** Runs one node of a site: `node dist/worker.js --config FILE`, the same as `offsite worker`. */
import { runStarter } from './cli/main.ts';

process.exitCode = await runStarter(['worker', ...process.argv.slice(2)]);
