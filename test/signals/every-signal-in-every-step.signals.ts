/** Every signal before and after the effect of every activity of a run, over whole sites. */
import { afterAll, beforeAll, test } from 'vitest';
import { ALL_CELLS, nameOf, type SignalBench, startSignalBench } from '../support/signal-cells.ts';

let bench: SignalBench;
beforeAll(async () => {
  bench = await startSignalBench();
}, 300_000);
afterAll(() => bench?.close());

test.each(ALL_CELLS.map(cell => [nameOf(cell), cell] as const))('%s', (_, cell) => bench.run(cell), 240_000);
