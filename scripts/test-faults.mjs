/** `npm run test:faults -- --point X --kind Y --task Z --resume`: all of the matrix, or a part of it. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startVitest } from 'vitest/node';
import { sourcesId } from './sources-id.mjs';

const root = join(import.meta.dirname, '..');
const { values } = parseArgs({
  options: {
    point: { type: 'string' },
    kind: { type: 'string' },
    task: { type: 'string' },
    resume: { type: 'boolean', default: false },
  },
});
for (const name of ['point', 'kind', 'task']) {
  if (values[name] !== undefined) process.env[`OFFSITE_MATRIX_${name.toUpperCase()}`] = values[name];
}
if (values.resume) {
  process.env.OFFSITE_MATRIX_PASSED = join(root, '.cache', 'faults', `passed-${sourcesId(root)}`);
}
const vitest = await startVitest('test', ['test/faults/'], { watch: false, config: 'vitest.long.config.ts' });
await vitest.close();
