/** Prints the path of the Temporal command line, fetched if need be; on failure the reason and a hint, exit 1. */
import { findTemporalCli } from '../dist/dev/temporal-cli.js';

try {
  const { path } = await findTemporalCli({ onProgress: text => console.error(text) });
  process.stdout.write(`${path}\n`);
} catch (error) {
  process.stdout.write(`${error.message}\n${error.hint ?? ''}\n`);
  process.exitCode = 1;
}
