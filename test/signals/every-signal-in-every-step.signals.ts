/**
 * Every signal before and after the effect of every activity of a run, over whole sites. With OFFSITE_SIGNALS_PASSED=FILE
 * each cell that passes is noted there, and those that stand there are left out: a run that was ended is gone on with.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ALL_CELLS, nameOf, type SignalBench, startSignalBench } from '../support/signal-cells.ts';

const record = process.env.OFFSITE_SIGNALS_PASSED;
const passed = new Set(
  record !== undefined && existsSync(record) ? readFileSync(record, 'utf8').split('\n') : [],
);
const cells = ALL_CELLS.filter(cell => !passed.has(nameOf(cell)));

let bench: SignalBench;
beforeAll(async () => {
  bench = await startSignalBench();
}, 300_000);
afterAll(() => bench?.close());

test.each(cells.map(cell => [nameOf(cell), cell] as const))(
  '%s',
  async (name, cell) => {
    await bench.run(cell);
    if (record !== undefined) appendFileSync(record, `${name}\n`);
  },
  240_000,
);

test('each cell has a name of its own', () => {
  expect(new Set(ALL_CELLS.map(nameOf)).size).toBe(ALL_CELLS.length);
});
