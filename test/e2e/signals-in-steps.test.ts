/** A signal in every step of a run, over whole sites: a fixed choice of them. `npm run test:signals` has all. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nameOf, SHORT_CELLS, type SignalBench, startSignalBench, WORDS } from '../support/signal-cells.ts';

let bench: SignalBench;
beforeAll(async () => {
  bench = await startSignalBench();
}, 300_000);
afterAll(() => bench?.close());

test.each(SHORT_CELLS.map(cell => [nameOf(cell), cell] as const))(
  '%s',
  (_, cell) => bench.run(cell),
  240_000,
);

test('every signal is among them', () => {
  expect(new Set(SHORT_CELLS.map(({ word }) => word))).toEqual(new Set(WORDS));
});
