/** `npm run test:chaos -- --seed N --minutes M`: kills everything again and again, and looks at what is left. */
import { parseArgs } from 'node:util';
import { startVitest } from 'vitest/node';

const { values } = parseArgs({
  options: { seed: { type: 'string' }, minutes: { type: 'string', default: '5' } },
});
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const minutes = Number(values.minutes);
if (!Number.isSafeInteger(seed) || !(minutes > 0)) {
  console.error('Usage: npm run test:chaos -- [--seed N] [--minutes M]');
  process.exit(2);
}
process.env.OFFSITE_CHAOS_SEED = String(seed);
process.env.OFFSITE_CHAOS_MINUTES = String(minutes);
console.error(`seed ${seed}, ${minutes} minutes`);
const vitest = await startVitest('test', ['test/chaos/'], { watch: false, config: 'vitest.long.config.ts' });
await vitest.close();
if (process.exitCode)
  console.error(`Repeat it with: npm run test:chaos -- --seed ${seed} --minutes ${minutes}`);
